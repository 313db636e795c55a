// Runs one stage forward and backward, cut at its boundaries: the inputs are leaves, so that backward
// of a stage needs nothing of its neighbours but the gradients of its outputs. Probing (on the meta device)
// and the runtime (on a real one) share this code, so that what was probed is what runs.
//
//   ASSIGN_OR_RETURN(StageTape tape, StageForward(stage, inputs, params, {.train = true}));
//   Tensors y = tape.outputs;                       // plain tensors, without a graph
//   ASSIGN_OR_RETURN(StageGradients g, StageBackward(std::move(tape), {grad_of_y}, /*scale=*/1));
//
// `inputs` are the stage's inputs, then the batch's tensors that it reads. Where no gradients of outputs are given, as for the last
// stage, backward starts at output 0, the loss, with the gradient `scale`. An undefined gradient of an
// output means that nothing depends on that output.
//
// Both functions may be called from any thread, and all their operators run on it; a tape belongs to one thread at a time. LibTorch's
// exceptions end here.
#ifndef MILLRACE_MODELS_STAGE_RUN_H_
#define MILLRACE_MODELS_STAGE_RUN_H_

#include <memory>

#include "absl/status/statusor.h"
#include "models/model.h"

namespace millrace {

class StageGraph;  // what autograd keeps for backward

struct StageTape {
  Tensors outputs;
  std::shared_ptr<StageGraph> graph;  // null unless trained
};

struct StageOptions {
  bool train = true;              // keep what backward needs
  bool batch_needs_grad = false;  // also of the batch's tensors
};

struct StageGradients {
  Tensors inputs;  // one per input and tensor of the batch, undefined where not asked for
  Tensors params;  // one per parameter, undefined where the outputs do not depend on it
};

absl::StatusOr<StageTape> StageForward(const StageDef& stage, const Tensors& inputs,
                                       const Tensors& params, const StageOptions& options);

// Consumes the tape: each saved tensor is released as soon as it has been used.
absl::StatusOr<StageGradients> StageBackward(StageTape tape, const Tensors& grad_outputs,
                                             double scale);

}  // namespace millrace

#endif  // MILLRACE_MODELS_STAGE_RUN_H_
