// Kind optimizer: AdamW, Adam and SGD against torch.optim, step by step with given gradients, with and
// without clipping of the global norm.
#include <algorithm>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "graph/base/status.h"
#include "ops/exact_norm.h"
#include "ops/optimizer_kernels.h"
#include "tests/golden_case.h"

namespace millrace {
namespace {

struct Param {
  std::vector<int64_t> shape;
  std::vector<float> value, first, second;  // first: exp_avg or momentum buffer; second: exp_avg_sq
};

// An optimizer of one of torch.optim's names with its arguments.
class Optimizer {
 public:
  static absl::StatusOr<Optimizer> Create(const std::string& name, const nlohmann::json& kw) {
    GoldenArgs args(kw);
    Optimizer o;
    o.is_sgd_ = name == "SGD";
    if (o.is_sgd_) {
      o.sgd_.lr = args.Get("lr", 1e-3);
      o.sgd_.momentum = args.Get("momentum", 0.0);
      o.sgd_.weight_decay = args.Get("weight_decay", 0.0);
      o.sgd_.nesterov = args.Get("nesterov", false);
    } else if (name == "Adam" || name == "AdamW") {
      o.adam_.decoupled = name == "AdamW";
      o.adam_.lr = args.Get("lr", 1e-3);
      o.adam_.weight_decay = args.Get("weight_decay", o.adam_.decoupled ? 1e-2 : 0.0);
      o.adam_.eps = args.Get("eps", 1e-8);
      const auto betas = args.Get("betas", std::vector<double>{0.9, 0.999});
      o.adam_.beta1 = betas.at(0);
      o.adam_.beta2 = betas.at(1);
    } else {
      return absl::UnimplementedError(absl::StrCat("no optimizer '", name, "'"));
    }
    RETURN_IF_ERROR(args.AllWereRead());
    return o;
  }

  void Step(Param& p, const float* grad, int64_t step, float grad_scale) {
    const int64_t n = static_cast<int64_t>(p.value.size());
    if (is_sgd_) {
      sgd_.grad_scale = grad_scale;
      SgdUpdate(p.value.data(), grad, sgd_.momentum == 0 ? nullptr : p.first.data(), n, sgd_);
    } else {
      adam_.grad_scale = grad_scale;
      adam_.step = step;
      AdamUpdate(p.value.data(), grad, p.first.data(), p.second.data(), n, adam_);
    }
  }

  void PutState(const Param& p, int64_t steps, size_t i, GoldenOutputs& outputs) const {
    const auto name = [i](const char* what) {
      return absl::StrCat("output.state_", what, "_p", i);
    };
    if (is_sgd_) {
      if (sgd_.momentum != 0) outputs.Put(name("momentum_buffer"), p.shape, p.first.data());
      return;
    }
    const float count = static_cast<float>(steps);
    outputs.Put(name("exp_avg"), p.shape, p.first.data());
    outputs.Put(name("exp_avg_sq"), p.shape, p.second.data());
    outputs.Put(name("step"), {}, &count);
  }

 private:
  bool is_sgd_ = false;
  AdamScalars adam_;
  SgdScalars sgd_;
};

absl::StatusOr<GoldenOutputs> RunOptimizer(const GoldenCase& c) {
  GoldenArgs args(c.args);
  const auto name = args.Get<std::string>("name", "");
  const auto kw = args.Get("kw", nlohmann::json::object());
  const auto steps = args.Get<int64_t>("steps", 0);
  const auto shapes = args.Get("shapes", std::vector<std::vector<int64_t>>{});
  const auto clip = args.Get("clip", 0.0);
  RETURN_IF_ERROR(args.AllWereRead());
  ASSIGN_OR_RETURN(Optimizer optimizer, Optimizer::Create(name, kw));

  std::vector<Param> params;
  for (size_t i = 0; i < shapes.size(); ++i) {
    ASSIGN_OR_RETURN(const auto start, c.Input(absl::StrCat("param.p", i)));
    params.push_back({shapes[i], {start.begin(), start.end()}, {}, {}});
    params.back().first.resize(start.size());
    params.back().second.resize(start.size());
  }
  GoldenOutputs outputs;
  std::vector<float> norms;
  for (int64_t step = 0; step < steps; ++step) {
    std::vector<absl::Span<const float>> grads;
    NormPartial total;
    for (size_t i = 0; i < params.size(); ++i) {
      ASSIGN_OR_RETURN(const auto g, c.Input(absl::StrCat("input.grad_step", step, "_p", i)));
      if (g.size() != params[i].value.size()) {
        return absl::InvalidArgumentError(absl::StrCat(
            "gradient of p", i, " has ", g.size(), " elements, expected ", params[i].value.size()));
      }
      grads.push_back(g);
      total.Add(PartialNorm(g.data(), static_cast<int64_t>(g.size())));
    }
    float scale = 1;
    if (clip > 0) {  // as clip_coefficient (ops/gradient_norm.cc)
      norms.push_back(static_cast<float>(total.Norm()));
      scale = ClipFactor(norms.back(), clip);
    }
    for (size_t i = 0; i < params.size(); ++i) {
      optimizer.Step(params[i], grads[i].data(), step + 1, scale);
      outputs.Put(absl::StrCat("output.step", step, "_p", i), params[i].shape,
                  params[i].value.data());
    }
  }
  if (clip > 0) outputs.Put("output.grad_norms", {steps}, norms.data());
  for (size_t i = 0; i < params.size(); ++i) optimizer.PutState(params[i], steps, i, outputs);
  return outputs;
}

REGISTER_GOLDEN_KIND(optimizer, RunOptimizer);

}  // namespace
}  // namespace millrace
