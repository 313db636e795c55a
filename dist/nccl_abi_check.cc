// Proves at compile time, against the real nccl.h, that the types and signatures written down in
// nccl_api.h are NCCL's. Compiled with --config=cuda only; it has no code.
#include <nccl.h>

#include <cstddef>
#include <type_traits>

#include "dist/nccl_api.h"

namespace millrace {
namespace {

// ---- Layouts.
static_assert(sizeof(NcclUniqueId) == sizeof(ncclUniqueId));
static_assert(sizeof(NcclUniqueId) == NCCL_UNIQUE_ID_BYTES);
static_assert(alignof(NcclUniqueId) == alignof(ncclUniqueId));
static_assert(std::is_trivially_copyable<NcclUniqueId>::value);
static_assert(sizeof(NcclConfig) == sizeof(ncclConfig_t));
#define SAME_FIELD(ours, theirs)                                               \
  static_assert(offsetof(NcclConfig, ours) == offsetof(ncclConfig_t, theirs)); \
  static_assert(std::is_same<decltype(NcclConfig::ours), decltype(ncclConfig_t::theirs)>::value)
SAME_FIELD(size, size);
SAME_FIELD(magic, magic);
SAME_FIELD(version, version);
SAME_FIELD(blocking, blocking);
SAME_FIELD(cga_cluster_size, cgaClusterSize);
SAME_FIELD(min_ctas, minCTAs);
SAME_FIELD(max_ctas, maxCTAs);
SAME_FIELD(net_name, netName);
SAME_FIELD(split_share, splitShare);
SAME_FIELD(traffic_class, trafficClass);
SAME_FIELD(comm_name, commName);
SAME_FIELD(collnet_enable, collnetEnable);
SAME_FIELD(cta_policy, CTAPolicy);
SAME_FIELD(shrink_share, shrinkShare);
SAME_FIELD(nvls_ctas, nvlsCTAs);
SAME_FIELD(channels_per_net_peer, nChannelsPerNetPeer);
SAME_FIELD(nvlink_centric_sched, nvlinkCentricSched);
#undef SAME_FIELD

// ---- The initialiser.
constexpr ncclConfig_t kTheirs = NCCL_CONFIG_INITIALIZER;
constexpr NcclConfig kOurs;
static_assert(kOurs.size == kTheirs.size && kOurs.magic == kTheirs.magic &&
              kOurs.version == kTheirs.version);
static_assert(kOurs.blocking == kTheirs.blocking &&
              kOurs.cga_cluster_size == kTheirs.cgaClusterSize &&
              kOurs.min_ctas == kTheirs.minCTAs && kOurs.max_ctas == kTheirs.maxCTAs &&
              kOurs.net_name == kTheirs.netName && kOurs.split_share == kTheirs.splitShare &&
              kOurs.traffic_class == kTheirs.trafficClass && kOurs.comm_name == kTheirs.commName &&
              kOurs.collnet_enable == kTheirs.collnetEnable &&
              kOurs.cta_policy == kTheirs.CTAPolicy && kOurs.shrink_share == kTheirs.shrinkShare &&
              kOurs.nvls_ctas == kTheirs.nvlsCTAs &&
              kOurs.channels_per_net_peer == kTheirs.nChannelsPerNetPeer &&
              kOurs.nvlink_centric_sched == kTheirs.nvlinkCentricSched);
static_assert(kNcclConfigVersion == NCCL_VERSION_CODE, "nccl_api.h is of another version");
static_assert(kNcclUndefined == NCCL_CONFIG_UNDEF_INT);

// ---- Values.
static_assert(sizeof(NcclResult) == sizeof(ncclResult_t));
static_assert(sizeof(NcclType) == sizeof(ncclDataType_t));
static_assert(sizeof(NcclRedOp) == sizeof(ncclRedOp_t));
template <typename Ours, typename Theirs>
constexpr bool Is(Ours ours, Theirs theirs) {
  return static_cast<int>(ours) == static_cast<int>(theirs);
}
static_assert(Is(NcclResult::kSuccess, ncclSuccess));
static_assert(Is(NcclResult::kUnhandledCudaError, ncclUnhandledCudaError));
static_assert(Is(NcclResult::kSystemError, ncclSystemError));
static_assert(Is(NcclResult::kInternalError, ncclInternalError));
static_assert(Is(NcclResult::kInvalidArgument, ncclInvalidArgument));
static_assert(Is(NcclResult::kInvalidUsage, ncclInvalidUsage));
static_assert(Is(NcclResult::kRemoteError, ncclRemoteError));
static_assert(Is(NcclResult::kInProgress, ncclInProgress));
static_assert(Is(NcclType::kInt8, ncclInt8) && Is(NcclType::kUint8, ncclUint8));
static_assert(Is(NcclType::kInt32, ncclInt32) && Is(NcclType::kInt64, ncclInt64));
static_assert(Is(NcclType::kFloat16, ncclFloat16) && Is(NcclType::kBfloat16, ncclBfloat16));
static_assert(Is(NcclType::kFloat32, ncclFloat32) && Is(NcclType::kFloat64, ncclFloat64));
static_assert(Is(NcclRedOp::kSum, ncclSum) && Is(NcclRedOp::kMax, ncclMax));

// ---- Signatures: which of our types stands for which of NCCL's, and the same everything else.
template <typename Ours>
struct Nccls {
  using Type = Ours;
};
template <>
struct Nccls<NcclResult> {
  using Type = ncclResult_t;
};
template <>
struct Nccls<NcclType> {
  using Type = ncclDataType_t;
};
template <>
struct Nccls<NcclRedOp> {
  using Type = ncclRedOp_t;
};
template <>
struct Nccls<NcclUniqueId> {
  using Type = ncclUniqueId;
};
template <>
struct Nccls<NcclConfig> {
  using Type = ncclConfig_t;
};
template <>
struct Nccls<NcclComm> {
  using Type = ncclComm;
};
template <typename Ours>
struct Nccls<Ours*> {
  using Type = typename Nccls<Ours>::Type*;
};
template <>
struct Nccls<void*> {  // a buffer, or a stream where NCCL says so
  using Type = void*;
};
template <typename Ours, typename Theirs>
constexpr bool kSame = std::is_same<typename Nccls<Ours>::Type, Theirs>::value ||
                       (std::is_same<Ours, void*>::value &&
                        std::is_same<Theirs, cudaStream_t>::value);
template <typename Ours, typename Theirs>
struct SameFunction : std::false_type {};
template <typename R, typename... A, typename S, typename... B>
struct SameFunction<R (*)(A...), S (*)(B...)> {
  static constexpr bool Value() {
    if constexpr (sizeof...(A) != sizeof...(B)) {
      return false;
    } else {
      return kSame<R, S> && (true && ... && kSame<A, B>);
    }
  }
  static constexpr bool value = Value();
};
#define SAME_FUNCTION(name, result, parameters)                                      \
  static_assert(SameFunction<decltype(NcclApi::name), decltype(&nccl##name)>::value, \
                "nccl" #name " has another signature");
MILLRACE_NCCL_FUNCTIONS(SAME_FUNCTION)
#undef SAME_FUNCTION

}  // namespace
}  // namespace millrace
