// The functions of NCCL that are used, as a table. A binary that links libnccl would not start where
// it is missing, and a communicator that called it directly could not be tested without GPUs; so the
// library is opened when a device has been found, and tests give a table of their own (fake_nccl.h).
//
//   ASSIGN_OR_RETURN(const NcclApi* nccl, LoadNccl());
//   int version = 0;
//   nccl->GetVersion(&version);                     // 22809
//
// The types are nccl.h's, written down again: the default build has no nccl.h. nccl_abi_check.cc,
// compiled with --config=cuda, proves against the real one that layouts, values and signatures agree.
#ifndef MILLRACE_DIST_NCCL_API_H_
#define MILLRACE_DIST_NCCL_API_H_

#include <climits>
#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace millrace {

struct NcclComm;  // ncclComm_t is a pointer to one

struct NcclUniqueId {
  char internal[128];
};

// ncclResult_t.
enum class NcclResult : int {
  kSuccess = 0,
  kUnhandledCudaError = 1,
  kSystemError = 2,
  kInternalError = 3,
  kInvalidArgument = 4,
  kInvalidUsage = 5,
  kRemoteError = 6,
  kInProgress = 7,
};

// ncclDataType_t.
enum class NcclType : int {
  kInt8 = 0,
  kUint8 = 1,
  kInt32 = 2,
  kInt64 = 4,
  kFloat16 = 6,
  kFloat32 = 7,
  kFloat64 = 8,
  kBfloat16 = 9,
};

// ncclRedOp_t.
enum class NcclRedOp : int { kSum = 0, kMax = 2 };

// The version whose ncclConfig_t is below. Older libraries know a shorter one and are refused, newer
// ones read this one by its version.
inline constexpr int kNcclConfigVersion = 22809;
inline constexpr int kNcclOldestVersion = 22800;
inline constexpr int kNcclUndefined = INT_MIN;

// ncclConfig_t as NCCL_CONFIG_INITIALIZER leaves it.
struct NcclConfig {
  size_t size = sizeof(NcclConfig);
  unsigned int magic = 0xcafebeef;
  unsigned int version = kNcclConfigVersion;
  int blocking = kNcclUndefined;
  int cga_cluster_size = kNcclUndefined;
  int min_ctas = kNcclUndefined;
  int max_ctas = kNcclUndefined;
  const char* net_name = nullptr;
  int split_share = kNcclUndefined;
  int traffic_class = kNcclUndefined;
  const char* comm_name = nullptr;
  int collnet_enable = kNcclUndefined;
  int cta_policy = kNcclUndefined;
  int shrink_share = kNcclUndefined;
  int nvls_ctas = kNcclUndefined;
  int channels_per_net_peer = kNcclUndefined;
  int nvlink_centric_sched = kNcclUndefined;
};

// F(name without "nccl", result, parameters). A stream is a cudaStream_t.
#define MILLRACE_NCCL_FUNCTIONS(F)                                                             \
  F(GetVersion, NcclResult, (int* version))                                                    \
  F(GetErrorString, const char*, (NcclResult result))                                          \
  F(GetLastError, const char*, (NcclComm * comm))                                              \
  F(GetUniqueId, NcclResult, (NcclUniqueId * id))                                              \
  F(CommInitRankConfig, NcclResult,                                                            \
    (NcclComm * *comm, int size, NcclUniqueId id, int rank, NcclConfig* config))               \
  F(CommGetAsyncError, NcclResult, (NcclComm * comm, NcclResult * error))                      \
  F(CommFinalize, NcclResult, (NcclComm * comm))                                               \
  F(CommDestroy, NcclResult, (NcclComm * comm))                                                \
  F(CommAbort, NcclResult, (NcclComm * comm))                                                  \
  F(GroupStart, NcclResult, ())                                                                \
  F(GroupEnd, NcclResult, ())                                                                  \
  F(AllGather, NcclResult,                                                                     \
    (const void* send, void* recv, size_t count, NcclType type, NcclComm* comm, void* stream)) \
  F(ReduceScatter, NcclResult,                                                                 \
    (const void* send, void* recv, size_t count, NcclType type, NcclRedOp op, NcclComm* comm,  \
     void* stream))                                                                            \
  F(AllReduce, NcclResult,                                                                     \
    (const void* send, void* recv, size_t count, NcclType type, NcclRedOp op, NcclComm* comm,  \
     void* stream))                                                                            \
  F(Broadcast, NcclResult,                                                                     \
    (const void* send, void* recv, size_t count, NcclType type, int root, NcclComm* comm,      \
     void* stream))                                                                            \
  F(Send, NcclResult,                                                                          \
    (const void* send, size_t count, NcclType type, int peer, NcclComm* comm, void* stream))   \
  F(Recv, NcclResult,                                                                          \
    (void* recv, size_t count, NcclType type, int peer, NcclComm* comm, void* stream))

struct NcclApi {
#define MILLRACE_NCCL_MEMBER(name, result, parameters) result(*name) parameters = nullptr;
  MILLRACE_NCCL_FUNCTIONS(MILLRACE_NCCL_MEMBER)
#undef MILLRACE_NCCL_MEMBER
};

// Where LoadNccl looks, in this order: what the loader finds by itself (a library that is loaded
// already, LD_LIBRARY_PATH, the system's folders), beside the LibTorch of this process, and in the
// nvidia/nccl/lib that its package brings.
std::vector<std::string> NcclPlaces();

// Opens the first of the places that is a library and fills the table; later calls return the same.
// kUnavailable, naming all that was tried, when none is NCCL of the version above or newer. Call it
// only where a GPU was found: NCCL itself looks for one.
absl::StatusOr<const NcclApi*> LoadNccl();
// The same with other places, and nothing kept: for tests.
absl::StatusOr<NcclApi> LoadNcclFrom(const std::vector<std::string>& places);

}  // namespace millrace

#endif  // MILLRACE_DIST_NCCL_API_H_
