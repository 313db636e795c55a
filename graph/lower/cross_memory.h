// For a device with memory of its own (LowerOptions::separate_memory): every operation works in one memory. Large values
// are where the passes before put them and say where their operation runs; what crosses here are the few numbers that
// go from one to the other - norms, the clip coefficient, the loss scale. An operation on such numbers alone runs where
// they are: on the device as soon as one of them is there, else on the host. One of two buckets is offloaded; before:
//
//   grad_norm/bucket_0(host_grad/bucket_0) -> norm/bucket_0                           host
//   grad_norm/bucket_1(grad/bucket_1) -> norm/bucket_1                                device
//   norm_sum(norm/bucket_0, norm/bucket_1) -> norm
//   clip_coefficient(norm) -> clip
//   adamw/bucket_0(master/bucket_0, host_grad/bucket_0, ..., clip) -> ...             host
//   adamw/bucket_1(param/bucket_1, grad/bucket_1, ..., clip) -> ...                   device
//
// after; norm/bucket_0 and host_clip are in pinned memory, all other numbers on the device:
//
//   grad_norm/bucket_0(host_grad/bucket_0) -> norm/bucket_0
//   copy_to_device/norm/bucket_0(norm/bucket_0) -> device_norm/bucket_0
//   grad_norm/bucket_1(grad/bucket_1) -> norm/bucket_1
//   norm_sum(device_norm/bucket_0, norm/bucket_1) -> norm
//   clip_coefficient(norm) -> clip
//   copy_to_host/clip(clip) -> host_clip
//   adamw/bucket_0(master/bucket_0, host_grad/bucket_0, ..., host_clip) -> ...
//   adamw/bucket_1(param/bucket_1, grad/bucket_1, ..., clip) -> ...
//
// A value is copied once, with all else that its first reader lacks, right behind where the last of them is made; later
// readers share the copy. Collectives are the device's. With everything offloaded on one rank nothing crosses here.
// Runs before split_async.
#ifndef MILLRACE_GRAPH_LOWER_CROSS_MEMORY_H_
#define MILLRACE_GRAPH_LOWER_CROSS_MEMORY_H_

#include <memory>

#include "graph/lower/pass.h"

namespace millrace {

std::unique_ptr<Pass> CrossMemory();

// The passes of a separate memory for a step that was written by hand: pinned_copies, stage_batches, cross_memory.
absl::StatusOr<Graph> SeparateMemory(const Graph& graph);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_LOWER_CROSS_MEMORY_H_
