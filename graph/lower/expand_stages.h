// Writes the step of one rank, whole and unsharded: per micro-batch the batch is loaded, every stage runs
// forward, then every stage backward. Two stages a, b and one micro-batch become
//
//   load_batch/0() -> images/0, labels/0
//   forward/a/0(images/0, param/a) -> act/a/0, saved/a/0
//   forward/b/0(act/a/0, labels/0, param/b) -> loss/0, logits/0, saved/b/0
//   backward/b/0(act/a/0, labels/0, saved/b/0, param/b) -> dact/a/0, grad/b/0
//   backward/a/0(images/0, saved/a/0, dact/a/0, param/a) -> grad/a/0
//
// A node's scratch is an output "ws/forward/a/0" that nobody reads. What has no bytes is left out: saved
// blocks, scratch, the parameters of a stage without any. A further micro-batch begins after the last
// backward of the one before ("load_batch/1() ... after backward/a/0"): interleaving them would hold the
// saved blocks of both and hide nothing, since all compute of a rank is one lane.
//
// A stage may read outputs of any earlier stage (a skip connection); each output has one reader, whose backward gives
// its gradient. The batch's tensors go to the stages that ask for them.
//
// The last stage's backward has the attribute scale = 1 / (ranks x micro-batches), so that summing over
// ranks and micro-batches gives the mean; that of a stage with running statistics has it as statistic_scale, since
// their gradients do not come from the loss. An evaluation step has the forward nodes only, marked evaluate = 1,
// and nothing saved.
#ifndef MILLRACE_GRAPH_LOWER_EXPAND_STAGES_H_
#define MILLRACE_GRAPH_LOWER_EXPAND_STAGES_H_

#include <memory>

#include "graph/lower/pass.h"

namespace millrace {

// The graph that it runs on is empty.
std::unique_ptr<Pass> ExpandStages();

}  // namespace millrace

#endif  // MILLRACE_GRAPH_LOWER_EXPAND_STAGES_H_
