#include "graph/lower/optimizer.h"

#include "absl/strings/str_cat.h"
#include "graph/lower/rewriter.h"

namespace millrace {
namespace {

constexpr int64_t kNormWords = 10;  // a sum of squares as an exact integer

const char* OpName(OptimizerKind kind) {
  switch (kind) {
    case OptimizerKind::kAdamW:
      return "adamw";
    case OptimizerKind::kAdam:
      return "adam";
    case OptimizerKind::kSgd:
      return "sgd";
  }
  return "";
}

std::vector<std::string> States(const LowerOptions& options) {
  if (options.optimizer != OptimizerKind::kSgd) return {"exp_avg", "exp_avg_sq"};
  if (options.momentum) return {"momentum"};
  return {};
}

class OptimizerPass final : public Pass {
 public:
  absl::string_view name() const override { return "optimizer"; }

  absl::StatusOr<Graph> Run(const Graph& graph, const LowerContext& context) const override {
    Rewriter r(graph);
    const LowerOptions& options = context.options;
    std::vector<ValueId> params, grads;
    for (const Bucket& bucket : graph.buckets()) {
      params.push_back(graph.FindValue(absl::StrCat("param/", bucket.name)));
      grads.push_back(graph.FindValue(absl::StrCat("grad/", bucket.name)));
      if (params.back() < 0 || grads.back() < 0) {
        return absl::InvalidArgumentError(
            absl::StrCat("expected values param/", bucket.name, " and grad/", bucket.name));
      }
    }
    const ValueId clip = options.clip_norm > 0 && !grads.empty() ? Clip(grads, options, &r) : -1;
    const std::vector<std::string> states = States(options);
    for (size_t k = 0; k < params.size(); ++k) {
      Update(k, params[k], grads[k], clip, states, OpName(options.optimizer), &r);
    }
    return std::move(r).Finish();
  }

 private:
  static ValueId AddNorm(std::string name, Rewriter* r) {
    return r->AddValueWithBuffer(
        {.name = std::move(name), .dtype = DType::kI64, .shape = {kNormWords}},
        BufferKind::kMetric);
  }

  static ValueId Clip(const std::vector<ValueId>& grads, const LowerOptions& options, Rewriter* r) {
    Node sum{.name = "norm_sum", .op = "norm_sum"};
    for (size_t k = 0; k < grads.size(); ++k) {
      const std::string& bucket = r->buckets()[k].name;
      const Value& grad = r->value(grads[k]);
      Node norm{
          .name = absl::StrCat("grad_norm/", bucket), .op = "grad_norm", .inputs = {grads[k]}};
      norm.flops = 2 * grad.numel();
      norm.memory_bytes = grad.bytes();
      norm.outputs = {AddNorm(absl::StrCat("norm/", bucket), r)};
      sum.inputs.push_back(norm.outputs[0]);
      r->Append(std::move(norm));
    }
    const ValueId total = AddNorm("norm", r);
    sum.outputs = {total};
    r->Append(std::move(sum));
    Node coefficient{.name = "clip_coefficient", .op = "clip_coefficient", .inputs = {total}};
    coefficient.attrs["max_norm"] = options.clip_norm;
    const ValueId clip = r->AddValueWithBuffer({.name = "clip", .shape = {2}}, BufferKind::kMetric);
    coefficient.outputs = {clip};
    r->Append(std::move(coefficient));
    return clip;
  }

  static void Update(size_t k, ValueId param, ValueId grad, ValueId clip,
                     const std::vector<std::string>& states, const std::string& op, Rewriter* r) {
    const std::string bucket = r->buckets()[k].name;
    Node node{.name = absl::StrCat(op, "/", bucket), .op = op, .inputs = {param, grad}};
    node.attrs["bucket"] = static_cast<int64_t>(k);
    const auto next = [&](ValueId v) {
      Value updated = r->value(v);
      updated.name += "'";
      return r->AddValue(std::move(updated));
    };
    const Value like = r->value(param);
    node.outputs.push_back(next(param));
    for (const std::string& state : states) {
      Value value{.name = absl::StrCat(state, "/", bucket),
                  .dtype = like.dtype,
                  .shape = like.shape,
                  .bucket = like.bucket};
      const ValueId v = r->AddValueWithBuffer(value, BufferKind::kOptimizerState, true);
      node.inputs.push_back(v);
      node.outputs.push_back(next(v));
    }
    if (clip >= 0) node.inputs.push_back(clip);
    // Reads parameter, gradient and states, writes parameter and states: 28 bytes of f32 with two states.
    node.memory_bytes = like.bytes() * (3 + 2 * static_cast<int64_t>(states.size()));
    node.flops = like.numel() * (2 + 6 * static_cast<int64_t>(states.size()));
    r->Append(std::move(node));
  }
};

}  // namespace

std::unique_ptr<Pass> OptimizerStep() { return std::make_unique<OptimizerPass>(); }

}  // namespace millrace
