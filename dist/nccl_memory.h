// Device memory that NCCL takes by itself, outside the plan's arenas: the plan has to leave room for
// it. NCCL tells no number, so it is pinned down as far as it can be (channels and buffer size fixed,
// all connections made at once) and estimated from that.
//
//   ASSIGN_OR_RETURN(NcclMemory memory, FixNcclMemory({.channels = 16}));  // before LoadNccl
//   int64_t bytes = NcclBufferBytes(8, memory);                           // of every member
//
// The formula, for a group of N in one machine:
//
//   connection = buffer_bytes + 512 KiB + 4.7 MiB      protocols Simple, LL and LL128, at the receiver
//   rings, trees = channels x 3 x connection           from the ring's neighbour, a tree's child and
//                                                      its parent; nothing when N = 1
//   point to point = min(channels, 4) x (N - 1) x connection      when sends or all_to_all are used
//   bytes = rings, trees + point to point + 16 MiB     the last: NCCL's own tables and queues
//
// With the defaults (16 channels of 4 MiB), 8 members: 457 MiB. This is an ESTIMATE that has not been
// measured: the protocols' sizes are NCCL's documented defaults, the number of connections is an upper
// bound for a machine where any two GPUs reach each other, the 16 MiB are a guess. Compare it with
// the device's free memory before and after Create. CUDA's own context (some 0.5 GiB) and NVLink SHARP
// buffers are not in it; the latter are turned off unless NCCL_NVLS_ENABLE is set.
#ifndef MILLRACE_DIST_NCCL_MEMORY_H_
#define MILLRACE_DIST_NCCL_MEMORY_H_

#include <cstdint>

#include "absl/status/statusor.h"

namespace millrace {

struct NcclMemory {
  int channels = 16;               // thread blocks of a collective: ncclConfig_t minCTAs = maxCTAs
  int64_t buffer_bytes = 4 << 20;  // NCCL_BUFFSIZE, one for all groups of the process
  bool point_to_point = false;     // the group sends, receives or does all_to_all
};

// Sets NCCL_BUFFSIZE as asked for, NCCL_RUNTIME_CONNECT=0 (all connections when a group is made
// rather than in the first step) and NCCL_NVLS_ENABLE=0 in this process's environment, where NCCL
// reads them once. A variable that is set already is the user's and stays; the result says what is
// in force. kInvalidArgument for numbers that NCCL would not take. Before other threads run.
absl::StatusOr<NcclMemory> FixNcclMemory(NcclMemory wanted);

// Of one member of a group of `size`. The estimate above.
int64_t NcclBufferBytes(int size, const NcclMemory& memory);

}  // namespace millrace

#endif  // MILLRACE_DIST_NCCL_MEMORY_H_
