// For a device with memory of its own (LowerOptions::separate_memory): its copy engines reach pinned host memory only.
// What is copied to or from the device lies there, and what comes from storage goes through it. Buffers that never
// cross stay in pageable memory. A bucket whose parameters are on storage and whose states are on the host; before:
//
//   copy_to_device/bucket_0/forward/0(param/bucket_0) -> shard/bucket_0/forward/0          storage to device
//   copy_to_host/grad/bucket_0(grad/bucket_0) -> host_grad/bucket_0                        device to host
//   adamw/bucket_0(..., host_grad/bucket_0, exp_avg/bucket_0) -> ...                       exp_avg: host
//
// after
//
//   read/bucket_0/forward/0(param/bucket_0) -> pinned/bucket_0/forward/0                   storage to pinned
//   copy_to_device/bucket_0/forward/0(pinned/bucket_0/forward/0) -> shard/...              pinned to device
//   copy_to_host/grad/bucket_0(grad/bucket_0) -> host_grad/bucket_0                        device to pinned
//   adamw/bucket_0(..., host_grad/bucket_0, exp_avg/bucket_0) -> ...                       exp_avg: host
//
// A read takes over what its copy waited for. Runs after offload, so that prefetch moves reads and copies together.
#ifndef MILLRACE_GRAPH_LOWER_PINNED_COPIES_H_
#define MILLRACE_GRAPH_LOWER_PINNED_COPIES_H_

#include <memory>

#include "graph/lower/pass.h"

namespace millrace {

std::unique_ptr<Pass> PinnedCopies();

}  // namespace millrace

#endif  // MILLRACE_GRAPH_LOWER_PINNED_COPIES_H_
