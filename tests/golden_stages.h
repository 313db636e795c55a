// What golden kinds of models share: tensors from a case's inputs, parameters that are stored or follow the
// set's formula, and a run over all stages of a model, forward and backward, through the same functions that
// training calls.
#ifndef MILLRACE_TESTS_GOLDEN_STAGES_H_
#define MILLRACE_TESTS_GOLDEN_STAGES_H_

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "models/model.h"
#include "tests/golden_case.h"

namespace millrace {

// A copy of an input tensor, full name: "input.image".
absl::StatusOr<at::Tensor> GoldenTensor(const GoldenCase& c, const std::string& name);

void PutTensor(GoldenOutputs& outputs, const std::string& name, const at::Tensor& t);

// Parameters by stage: "param.NAME" of the inputs ("buffer.NAME" for running statistics), or the formula's where meta.formula_fill is set. Stored
// parameters that the model does not have, and a total other than meta.num_params, are errors.
absl::StatusOr<std::vector<Tensors>> GoldenParams(const GoldenCase& c, const ModelDef& model);

struct GoldenRun {
  std::vector<Tensors> outputs;      // by stage
  std::vector<Tensors> param_grads;  // by stage; undefined where the loss does not reach
  Tensors batch_grads;               // undefined unless asked for
};

struct GoldenRunArgs {
  Tensors batch;         // as ModelDef::batch
  Tensors grad_outputs;  // of the last stage, one per output, undefined where there is no probe
  bool batch_grads = false;
};

absl::StatusOr<GoldenRun> RunStages(const ModelDef& model, const std::vector<Tensors>& params,
                                    const GoldenRunArgs& args);

// "grad_param.NAME" in full, or, where the case asks for them, 2-norms and dot products with the formula in
// the order of meta.grad_norm_param_names.
absl::Status PutParamGradients(const GoldenCase& c, const ModelDef& model, const GoldenRun& run,
                               GoldenOutputs& outputs);

}  // namespace millrace

#endif  // MILLRACE_TESTS_GOLDEN_STAGES_H_
