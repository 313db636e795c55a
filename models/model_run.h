// A whole model on one thread, stage by stage, with tensors that anyone made: what tests and golden cases run. Training
// does the same from a plan (ops/stages.cc).
//
//   ASSIGN_OR_RETURN(ModelRun run, RunModel(model, params, batch, {.train = true}));
//   run.outputs.back()[0];                                       // the loss
//   ASSIGN_OR_RETURN(ModelGradients g, BackwardModel(model, std::move(run), /*grad_outputs=*/{}));
#ifndef MILLRACE_MODELS_MODEL_RUN_H_
#define MILLRACE_MODELS_MODEL_RUN_H_

#include <vector>

#include "absl/status/statusor.h"
#include "models/model.h"
#include "models/stage_run.h"

namespace millrace {

// What a stage reads: outputs of earlier stages, then its tensors of the batch.
Tensors StageInputs(const StageDef& stage, const std::vector<Tensors>& outputs,
                    const Tensors& batch);

struct ModelRun {
  std::vector<Tensors> outputs;  // by stage
  std::vector<StageTape> tapes;  // by stage; empty without `train`
};

absl::StatusOr<ModelRun> RunModel(const ModelDef& model, const std::vector<Tensors>& params,
                                  const Tensors& batch, const StageOptions& options);

struct ModelGradients {
  std::vector<Tensors> params;  // by stage; undefined where the loss does not reach
  Tensors batch;  // with options.batch_needs_grad; where several stages read one, the sum
};

// From gradients of the last stage's outputs (undefined: nothing depends on it), or, where there are none, from the
// loss. `run.outputs` may be moved out before.
absl::StatusOr<ModelGradients> BackwardModel(const ModelDef& model, ModelRun run,
                                             const Tensors& grad_outputs);

}  // namespace millrace

#endif  // MILLRACE_MODELS_MODEL_RUN_H_
