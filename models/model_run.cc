#include "models/model_run.h"

#include <ATen/ops/add.h>

#include <utility>

#include "graph/base/status.h"

namespace millrace {

Tensors StageInputs(const StageDef& stage, const std::vector<Tensors>& outputs,
                    const Tensors& batch) {
  Tensors inputs;
  for (const StageSource& from : stage.sources) {
    inputs.push_back(outputs.at(from.stage).at(from.output));
  }
  for (int b : stage.batch) inputs.push_back(batch.at(b));
  return inputs;
}

absl::StatusOr<ModelRun> RunModel(const ModelDef& model, const std::vector<Tensors>& params,
                                  const Tensors& batch, const StageOptions& options) {
  ModelRun run;
  for (size_t s = 0; s < model.stages.size(); ++s) {
    const StageDef& stage = model.stages[s];
    ASSIGN_OR_RETURN(StageTape tape, StageForward(stage, StageInputs(stage, run.outputs, batch),
                                                  params.at(s), options));
    run.outputs.push_back(tape.outputs);
    run.tapes.push_back(std::move(tape));
  }
  return run;
}

absl::StatusOr<ModelGradients> BackwardModel(const ModelDef& model, ModelRun run,
                                             const Tensors& grad_outputs) {
  ModelGradients result;
  result.params.resize(model.stages.size());
  result.batch.resize(model.batch.size());
  std::vector<Tensors> grads;
  for (const StageDef& stage : model.stages) grads.emplace_back(stage.outputs.size());
  grads.back() = grad_outputs;
  for (size_t s = model.stages.size(); s-- > 0;) {
    const StageDef& stage = model.stages[s];
    ASSIGN_OR_RETURN(StageGradients g,
                     StageBackward(std::move(run.tapes[s]), grads[s], /*scale=*/1));
    result.params[s] = std::move(g.params);
    for (size_t i = 0; i < stage.sources.size(); ++i) {
      grads[stage.sources[i].stage][stage.sources[i].output] = g.inputs[i];
    }
    for (size_t i = 0; i < stage.batch.size(); ++i) {
      const at::Tensor& grad = g.inputs[stage.sources.size() + i];
      at::Tensor& sum = result.batch[stage.batch[i]];
      if (grad.defined()) sum = sum.defined() ? at::add(sum, grad) : grad;
    }
  }
  return result;
}

}  // namespace millrace
