// Activation checkpointing: a recomputed stage's forward runs as in evaluation and keeps nothing; right before its
// backward the stage runs forward again, from the same inputs, and makes the block that backward reads. Stage a
// of two is recomputed; before:
//
//   forward/a/0(images/0, param/a) -> act/a/0, saved/a/0
//   forward/b/0(act/a/0, labels/0, param/b) -> loss/0, logits/0, saved/b/0
//   backward/b/0(act/a/0, labels/0, saved/b/0, param/b) -> dact/a/0, grad/b/0
//   backward/a/0(images/0, saved/a/0, dact/a/0, param/a) -> grad/a/0
//
// after
//
//   forward/a/0(images/0, param/a) -> act/a/0
//   forward/b/0(act/a/0, labels/0, param/b) -> loss/0, logits/0, saved/b/0
//   backward/b/0(act/a/0, labels/0, saved/b/0, param/b) -> dact/a/0, grad/b/0
//   recompute/a/0(images/0, param/a) -> again/a/0, saved/a/0 after backward/b/0
//   backward/a/0(images/0, saved/a/0, dact/a/0, param/a) -> grad/a/0
//
// The control edge keeps it late: its inputs are there from the start, and run early it would hold the very bytes
// that it is to save. again/a/0 is scratch for the outputs, which nobody needs a second time. The pass runs before
// parameters are bucketed and sharded, so at stage 3 a gather in backward serves recompute and backward alike.
//
// The same bits: a stage is a function of its inputs and parameters. What it draws at random must be, too - a function
// of the seed, the step, the stage and the micro-batch, as graph/base/random.h has it - so that no state needs saving.
//
// The last stage is never recomputed (its backward follows at once), nor one that saves nothing.
#ifndef MILLRACE_GRAPH_LOWER_RECOMPUTE_H_
#define MILLRACE_GRAPH_LOWER_RECOMPUTE_H_

#include <memory>
#include <string>
#include <vector>

#include "graph/lower/pass.h"

namespace millrace {

std::unique_ptr<Pass> RecomputeStages();

// Per stage of the model: whether `options` recompute it. What the options ask in vain is left out.
std::vector<bool> RecomputedStages(const ModelSpec& spec, const RecomputeOptions& options);

// What is wrong with `options` for this model: names that it does not have, settings that recompute nothing.
struct RecomputeMistake {
  int entry = -1;  // of RecomputeOptions::stages; -1: `all` or `every`
  std::string message, suggestion;
};
std::vector<RecomputeMistake> CheckRecompute(const ModelSpec& spec,
                                             const RecomputeOptions& options);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_LOWER_RECOMPUTE_H_
