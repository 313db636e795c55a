// Moves optimizer states, and at stage 3 parameter shards, to host memory or storage, and the work on them to the
// host: ZeRO-Offload and ZeRO-Infinity. What crosses between tiers are copy nodes, each on the lane that joins its
// tiers (graph/ir/lane_kind.h), so the planner orders them, the simulator times them and the verifier proves them
// like everything else. One bucket whose states go to the host; before:
//
//   reduce_scatter/bucket_0/0(grad/bucket_0/a/0) -> grad/bucket_0
//   adamw/bucket_0(param/bucket_0, grad/bucket_0, exp_avg/bucket_0, ...) -> param/bucket_0', exp_avg/bucket_0', ...
//
// after; the device keeps the parameters, and of gradients what is on its way:
//
//   reduce_scatter/bucket_0/0(grad/bucket_0/a/0) -> grad/bucket_0
//   copy_to_host/grad/bucket_0(grad/bucket_0) -> host_grad/bucket_0
//   adamw/bucket_0(master/bucket_0, host_grad/bucket_0, exp_avg/bucket_0, ...) -> master/bucket_0', ...
//   copy_to_device/param/bucket_0(master/bucket_0') -> param/bucket_0'
//
// master/bucket_0 is the f32 copy of the parameters beside the states; 16-bit parameters have one anyway, and their
// update writes the 16-bit copy into a staging buffer. Where the parameters themselves are on the host, the update
// works on them and nothing is copied back.
//
// States on storage: read before the update into staging buffers in host memory, written back behind it. Control edges
// keep the buckets that are staged at a time to `staging_buckets`:
//
//   read/bucket_0(exp_avg/bucket_0, exp_avg_sq/bucket_0) -> staging/exp_avg/bucket_0, staging/exp_avg_sq/bucket_0
//   adamw/bucket_0(..., staging/exp_avg/bucket_0, ...) -> ..., staging/exp_avg/bucket_0', ...
//   write/bucket_0(staging/exp_avg/bucket_0', ...) -> exp_avg/bucket_0', ...
//
// Parameters: each gathered copy is copied in; with several ranks the shard is, and then gathered:
//
//   copy_to_device/bucket_0/forward/0(param/bucket_0) -> shard/bucket_0/forward/0
//   all_gather/bucket_0/forward/0(shard/bucket_0/forward/0) -> gathered/bucket_0/forward/0
//
// Accumulation: sums over micro-batches that follow a reduction are taken on the host.
//
// Delayed: host_grad persists; the update reads what the step before left there, and the copy of this step's gradients
// comes behind it. All its norms and the clip coefficient are those of the old gradients.
//
// Runs after shard_state.
#ifndef MILLRACE_GRAPH_LOWER_OFFLOAD_H_
#define MILLRACE_GRAPH_LOWER_OFFLOAD_H_

#include <memory>
#include <vector>

#include "graph/lower/pass.h"

namespace millrace {

std::unique_ptr<Pass> OffloadState();

// Name of the host buffer through which requests to storage pass; there when something is on storage.
inline constexpr char kStorageRing[] = "storage/ring";

// Per bucket: whether its states are offloaded. From the first bucket (the model's last stage) on until at least
// `ratio` of all elements are; at least one bucket.
std::vector<bool> OffloadedBuckets(const std::vector<Bucket>& buckets, double ratio);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_LOWER_OFFLOAD_H_
