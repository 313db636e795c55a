#include "tests/golden_stages.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include <cmath>
#include <map>
#include <set>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "graph/base/status.h"
#include "models/model_run.h"
#include "ops/exact_norm.h"

namespace millrace {
namespace {

constexpr char kParam[] = "param.", kBuffer[] = "buffer.";

// Calls f(i, u) for i < n with the formula's values of `name`, -1 <= u < 1.
template <typename F>
void ForFormula(const std::string& name, int64_t n, F&& f) {
  uint32_t h = 2166136261u;  // FNV-1a
  for (const char c : name) h = (h ^ static_cast<unsigned char>(c)) * 16777619u;
  for (int64_t i = 0; i < n; ++i) {
    uint32_t x = static_cast<uint32_t>(i) * 2654435761u + h;
    x ^= x >> 16;
    x *= 0x7FEB352Du;
    x ^= x >> 15;
    x *= 0x846CA68Bu;
    x ^= x >> 16;
    f(i, x / 2147483648.0 - 1);
  }
}

at::Tensor FillByFormula(const ParamSpec& p) {
  double base = 0, scale = 0.1;
  const std::string leaf = p.name.substr(p.name.rfind('.') + 1);
  if (leaf == "running_var") {
    base = 1, scale = 0.5;
  } else if (leaf == "weight" && p.shape.size() == 1) {
    base = 1;
  } else if (leaf == "weight" && p.shape.size() >= 2) {
    const double fan_in = static_cast<double>(p.numel() / p.shape[0]);
    scale = std::sqrt((p.shape.size() == 4 ? 6.0 : 3.0) / fan_in);
  }
  at::Tensor t = at::empty(p.shape, at::kFloat);
  float* out = t.data_ptr<float>();
  ForFormula(p.name, p.numel(),
             [&](int64_t i, double u) { out[i] = static_cast<float>(base + scale * u); });
  return t;
}

absl::StatusOr<at::Tensor> Param(const GoldenCase& c, const ParamSpec& p) {
  const std::string name = (p.statistic ? kBuffer : kParam) + p.name;
  if (c.inputs.Find(name) == nullptr && c.meta.value("formula_fill", false)) {
    return FillByFormula(p);
  }
  ASSIGN_OR_RETURN(at::Tensor t, GoldenTensor(c, name));
  if (t.sizes() != at::IntArrayRef(p.shape) || t.scalar_type() != at::kFloat) {
    return absl::InvalidArgumentError(
        absl::StrCat("parameter ", p.name, " has another shape or type than in the model"));
  }
  return t;
}

absl::Status PutGradientFigures(const GoldenCase& c, const std::map<std::string, at::Tensor>& grads,
                                GoldenOutputs& outputs) {
  std::vector<float> norms, dots;
  for (const nlohmann::json& json : c.meta.at("grad_norm_param_names")) {
    const std::string name = json.get<std::string>();
    const auto it = grads.find(name);
    if (it == grads.end()) {
      return absl::NotFoundError(absl::StrCat("no gradient of parameter ", name));
    }
    const float* g = it->second.data_ptr<float>();
    double dot = 0;
    ForFormula("dot:" + name, it->second.numel(), [&](int64_t i, double u) { dot += u * g[i]; });
    norms.push_back(static_cast<float>(PartialNorm(g, it->second.numel()).Norm()));
    dots.push_back(static_cast<float>(dot));
  }
  const int64_t n = static_cast<int64_t>(norms.size());
  outputs.Put("grad_param_l2", {n}, norms.data());
  outputs.Put("grad_param_dot_formula", {n}, dots.data());
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<at::Tensor> GoldenTensor(const GoldenCase& c, const std::string& name) {
  ASSIGN_OR_RETURN(const SafetensorsFile::Entry* e, c.FindInput(name));
  if (e->dtype != DType::kF32 && e->dtype != DType::kI64) {
    return absl::UnimplementedError(
        absl::StrCat(c.inputs.path(), ": '", name, "' is ", Name(e->dtype)));
  }
  const auto type = e->dtype == DType::kF32 ? at::kFloat : at::kLong;
  return at::from_blob(const_cast<uint8_t*>(e->data), e->shape, type).clone();
}

void PutTensor(GoldenOutputs& outputs, const std::string& name, const at::Tensor& t) {
  const at::Tensor plain = t.contiguous();
  outputs.Put(name, t.sizes().vec(), plain.data_ptr<float>());
}

absl::StatusOr<std::vector<Tensors>> GoldenParams(const GoldenCase& c, const ModelDef& model) {
  std::vector<Tensors> params;
  std::set<std::string> known;
  for (const StageDef& stage : model.stages) {
    params.emplace_back();
    for (const ParamSpec& p : stage.params) {
      ASSIGN_OR_RETURN(at::Tensor t, Param(c, p));
      params.back().push_back(std::move(t));
      known.insert(kParam + p.name);
    }
  }
  for (const SafetensorsFile::Entry& e : c.inputs.entries()) {
    if (absl::StartsWith(e.name, kParam) && known.count(e.name) == 0) {
      return absl::InvalidArgumentError(absl::StrCat("the model has no parameter for ", e.name));
    }
  }
  const int64_t expected = c.meta.value("num_params", model.parameter_count());
  if (model.parameter_count() != expected) {
    return absl::InvalidArgumentError(absl::StrCat("the model has ", model.parameter_count(),
                                                   " parameters, the reference ", expected));
  }
  return params;
}

absl::StatusOr<GoldenRun> RunStages(const ModelDef& model, const std::vector<Tensors>& params,
                                    const GoldenRunArgs& args) {
  ASSIGN_OR_RETURN(ModelRun run, RunModel(model, params, args.batch,
                                          {.train = true, .batch_needs_grad = args.batch_grads}));
  GoldenRun result;
  result.outputs = run.outputs;
  ASSIGN_OR_RETURN(ModelGradients g, BackwardModel(model, std::move(run), args.grad_outputs));
  result.param_grads = std::move(g.params);
  result.batch_grads = std::move(g.batch);
  return result;
}

absl::Status PutParamGradients(const GoldenCase& c, const ModelDef& model, const GoldenRun& run,
                               GoldenOutputs& outputs) {
  std::map<std::string, at::Tensor> grads;
  for (size_t i = 0; i < model.stages.size(); ++i) {
    for (size_t k = 0; k < model.stages[i].params.size(); ++k) {
      const at::Tensor& g = run.param_grads[i][k];
      if (g.defined()) grads[model.stages[i].params[k].name] = g.contiguous();
    }
  }
  if (c.Asks("grad_param_l2") || c.Asks("grad_param_dot_formula")) {
    return PutGradientFigures(c, grads, outputs);
  }
  for (const auto& [name, g] : grads) PutTensor(outputs, "grad_param." + name, g);
  return absl::OkStatus();
}

}  // namespace millrace
