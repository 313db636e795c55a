// For a device with memory of its own (LowerOptions::separate_memory): the host loads a batch into pinned memory, a copy
// brings all its tensors to the device. Loading then is the host's work and runs beside the device's. Two micro-batches
// of stages a, b; before:
//
//   load_batch/0() -> images/0, labels/0
//   forward/a/0(images/0, ...) -> act/a/0
//   ...
//   backward/b/0(...) -> dact/a/0
//   backward/a/0(...) -> grad/a/0
//   load_batch/1() -> images/1, labels/1 after backward/a/0
//   forward/a/1(images/1, ...) -> act/a/1
//
// after
//
//   load_batch/0() -> host_batch/images/0, host_batch/labels/0
//   copy_to_device/batch/0(host_batch/images/0, host_batch/labels/0) -> images/0, labels/0
//   load_batch/1() -> host_batch/images/1, host_batch/labels/1 after copy_to_device/batch/0
//   forward/a/0(images/0, ...) -> act/a/0
//   ...
//   backward/b/0(...) -> dact/a/0
//   copy_to_device/batch/1(host_batch/images/1, host_batch/labels/1) -> images/1, labels/1 after backward/b/0
//   backward/a/0(...) -> grad/a/0
//   forward/a/1(images/1, ...) -> act/a/1 after backward/a/0
//
// So at most one batch waits in pinned memory, and a second one is on the device for the time of one stage. Batches are
// loaded in the order of their numbers. What a load waited for, the readers of its batch wait for. Runs after
// reduce_window.
#ifndef MILLRACE_GRAPH_LOWER_STAGE_BATCHES_H_
#define MILLRACE_GRAPH_LOWER_STAGE_BATCHES_H_

#include <memory>

#include "graph/lower/pass.h"

namespace millrace {

std::unique_ptr<Pass> StageBatches();

}  // namespace millrace

#endif  // MILLRACE_GRAPH_LOWER_STAGE_BATCHES_H_
