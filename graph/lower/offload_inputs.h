// Moves to host memory what a recomputed stage keeps for its second run: its inputs. They go there once forward has read
// them, and come back one stage ahead of the recompute that needs them. Stage b of three is recomputed; before:
//
//   forward/b/0(act/a/0, param/b) -> act/b/0
//   forward/c/0(act/b/0, ...) -> loss/0, saved/c/0
//   backward/c/0(act/b/0, saved/c/0, ...) -> dact/b/0, grad/c/0
//   recompute/b/0(act/a/0, param/b) -> again/b/0, saved/b/0 after backward/c/0
//   backward/b/0(act/a/0, saved/b/0, dact/b/0, param/b) -> dact/a/0, grad/b/0
//
// after
//
//   forward/b/0(act/a/0, param/b) -> act/b/0
//   copy_to_host/act/a/0(act/a/0) -> host_act/a/0
//   forward/c/0(act/b/0, ...) -> loss/0, saved/c/0
//   copy_to_device/act/a/0(host_act/a/0) -> back/a/0 after forward/c/0
//   backward/c/0(act/b/0, saved/c/0, ...) -> dact/b/0, grad/c/0
//   recompute/b/0(back/a/0, param/b) -> again/b/0, saved/b/0 after backward/c/0
//   backward/b/0(back/a/0, saved/b/0, dact/b/0, param/b) -> dact/a/0, grad/b/0
//
// The device then holds the inputs of two recomputed stages at a time, however deep the model. The first stage's
// inputs are the batch, which stays. Runs after recompute.
#ifndef MILLRACE_GRAPH_LOWER_OFFLOAD_INPUTS_H_
#define MILLRACE_GRAPH_LOWER_OFFLOAD_INPUTS_H_

#include <memory>

#include "graph/lower/pass.h"

namespace millrace {

std::unique_ptr<Pass> OffloadInputs();

}  // namespace millrace

#endif  // MILLRACE_GRAPH_LOWER_OFFLOAD_INPUTS_H_
