#include "tests/golden_function.h"

#include <ATen/ops/full.h>

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "graph/base/status.h"

namespace millrace {

absl::StatusOr<Tensors> Probes(const GoldenCase& c, const std::vector<std::string>& names) {
  Tensors probes;
  for (const std::string& name : names) {
    probes.emplace_back();
    if (c.inputs.Find("probe." + name) == nullptr) continue;
    ASSIGN_OR_RETURN(probes.back(), GoldenTensor(c, "probe." + name));
  }
  return probes;
}

absl::StatusOr<GoldenOutputs> RunFunction(const GoldenCase& c, const GoldenFunction& f) {
  ModelDef model;
  StageDef stage;
  stage.name = stage.class_key = c.name;
  stage.params = f.params;
  stage.forward = f.forward;
  GoldenRunArgs args;
  for (const std::string& name : f.inputs) {
    ASSIGN_OR_RETURN(at::Tensor t, GoldenTensor(c, "input." + name));
    stage.batch.push_back(static_cast<int>(model.batch.size()));
    model.batch.push_back({name, DType::kF32, t.sizes().vec()});
    args.batch.push_back(std::move(t));
  }
  for (const std::string& name : f.outputs) stage.outputs.push_back({name, DType::kF32, {}});
  model.stages = {std::move(stage)};
  ASSIGN_OR_RETURN(const std::vector<Tensors> params, GoldenParams(c, model));
  ASSIGN_OR_RETURN(args.grad_outputs, Probes(c, f.outputs));
  args.batch_grads = true;
  ASSIGN_OR_RETURN(const GoldenRun run, RunStages(model, params, args));
  GoldenOutputs outputs;
  for (size_t i = 0; i < f.outputs.size(); ++i) {
    PutTensor(outputs, "output." + f.outputs[i], run.outputs[0].at(i));
  }
  for (size_t i = 0; i < f.inputs.size(); ++i) {
    if (!run.batch_grads.at(i).defined()) continue;
    PutTensor(outputs, "grad_input." + f.inputs[i], run.batch_grads[i]);
  }
  RETURN_IF_ERROR(PutParamGradients(c, model, run, outputs));
  return outputs;
}

std::vector<int64_t> PerAxis(const nlohmann::json& value, int64_t axes) {
  if (value.is_array()) return value.get<std::vector<int64_t>>();
  return std::vector<int64_t>(static_cast<size_t>(axes), value.get<int64_t>());
}

at::Tensor SpacingTensor(const nlohmann::json& spacings, int64_t scales, int64_t axes) {
  at::Tensor t = at::full({1, scales, axes}, 1.0, at::kFloat);
  float* out = t.data_ptr<float>();
  for (int64_t i = 0; i < scales && !spacings.is_null(); ++i) {
    for (int64_t a = 0; a < axes; ++a) *out++ = spacings.at(i).at(a).get<float>();
  }
  return t;
}

absl::StatusOr<rat::SpacingStart> StartOf(const nlohmann::json& initial_scaling) {
  if (initial_scaling.is_null() || initial_scaling == "identity") {
    return rat::SpacingStart::kIdentity;
  }
  if (initial_scaling == "log") return rat::SpacingStart::kLog;
  if (initial_scaling == "rope") return rat::SpacingStart::kRope;
  return absl::UnimplementedError(absl::StrCat("initial scaling ", initial_scaling.dump()));
}

}  // namespace millrace
