#include "graph/lower/optimizer.h"

#include "absl/strings/str_cat.h"
#include "graph/ir/loss_scale_attrs.h"
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
    const bool scaled = options.loss_scale.has_value();
    const bool clips = (options.clip_norm > 0 || scaled) && !grads.empty();
    const ValueId clip = clips ? Clip(grads, graph.FindValue("loss_scale"), options, &r) : -1;
    const std::vector<std::string> states = States(options);
    for (size_t k = 0; k < params.size(); ++k) {
      Update(k, params[k], grads[k], clip, states, OpName(options.optimizer), &r);
    }
    if (scaled && clips)
      NextLossScale(graph.FindValue("loss_scale"), clip, *options.loss_scale, &r);
    return std::move(r).Finish();
  }

 private:
  static ValueId AddNorm(std::string name, Rewriter* r) {
    return r->AddValueWithBuffer(
        {.name = std::move(name), .dtype = DType::kI64, .shape = {kNormWords}},
        BufferKind::kMetric);
  }

  // `loss_scale`: what the gradients carry; -1: nothing.
  static ValueId Clip(const std::vector<ValueId>& grads, ValueId loss_scale,
                      const LowerOptions& options, Rewriter* r) {
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
    if (loss_scale >= 0) coefficient.inputs.push_back(loss_scale);
    const ValueId clip = r->AddValueWithBuffer({.name = "clip", .shape = {loss_scale >= 0 ? 3 : 2}},
                                               BufferKind::kMetric);
    coefficient.outputs = {clip};
    r->Append(std::move(coefficient));
    return clip;
  }

  static void NextLossScale(ValueId loss_scale, ValueId clip, const LossScaleOptions& o,
                            Rewriter* r) {
    Node node{.name = "update_loss_scale", .op = "update_loss_scale", .inputs = {clip, loss_scale}};
    node.attrs = LossScaleAttrs(o);
    Value next = r->value(loss_scale);
    next.name += "'";
    node.outputs = {r->AddValue(std::move(next))};
    r->Append(std::move(node));
  }

  // A parameter of 16 bits is a rounded copy of the bucket's master, which is what the optimizer updates.
  static void Update(size_t k, ValueId param, ValueId grad, ValueId clip,
                     const std::vector<std::string>& states, const std::string& op, Rewriter* r) {
    const std::string bucket = r->buckets()[k].name;
    Node node{.name = absl::StrCat(op, "/", bucket), .op = op};
    node.attrs["bucket"] = static_cast<int64_t>(k);
    const auto next = [&](ValueId v) {
      Value updated = r->value(v);
      updated.name += "'";
      return r->AddValue(std::move(updated));
    };
    const Value like = r->value(param);
    const auto add_state = [&](const std::string& state) {
      Value value{
          .name = absl::StrCat(state, "/", bucket), .shape = like.shape, .bucket = like.bucket};
      return r->AddValueWithBuffer(value, BufferKind::kOptimizerState, true);
    };
    const bool copies = like.dtype != DType::kF32;
    const ValueId updated = copies ? add_state("master") : param;
    node.inputs = {updated, grad};
    node.outputs = {next(updated)};
    for (const std::string& state : states) {
      const ValueId v = add_state(state);
      node.inputs.push_back(v);
      node.outputs.push_back(next(v));
    }
    if (clip >= 0) node.inputs.push_back(clip);
    if (copies) node.outputs.push_back(next(param));
    // Reads parameter, gradient and states, writes parameter and states: 28 bytes of f32 with two states.
    node.memory_bytes = r->value(updated).bytes() * (2 + 2 * static_cast<int64_t>(states.size())) +
                        r->value(grad).bytes() + (copies ? like.bytes() : 0);
    node.flops = like.numel() * (2 + 6 * static_cast<int64_t>(states.size()));
    r->Append(std::move(node));
  }
};

}  // namespace

std::unique_ptr<Pass> OptimizerStep() { return std::make_unique<OptimizerPass>(); }

}  // namespace millrace
