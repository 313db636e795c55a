#include "graph/lower/expand_stages.h"

#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "graph/base/status.h"
#include "graph/lower/rewriter.h"

namespace millrace {
namespace {

// Names and values of one step as it is written, stage by stage.
class Expander {
 public:
  Expander(const Graph& graph, const LowerContext& context)
      : spec_(context.spec), options_(context.options), r_(graph) {}

  absl::StatusOr<Graph> Run() {
    RETURN_IF_ERROR(CheckSpec());
    r_.SetGroup(options_.group, options_.world_size);
    for (const StageSpec& stage : spec_.stages) {
      const int64_t n = stage.element_count();
      params_.push_back(n == 0 ? -1
                               : r_.AddValueWithBuffer({.name = absl::StrCat("param/", stage.name),
                                                        .dtype = stage.params[0].dtype,
                                                        .shape = {n}},
                                                       BufferKind::kParameter, true));
    }
    if (options_.loss_scale.has_value() && !evaluate()) {
      loss_scale_ = r_.AddValueWithBuffer(
          {.name = "loss_scale", .dtype = DType::kF64, .shape = {kLossScaleWords}},
          BufferKind::kOptimizerState, true);
    }
    const int micro_batches = evaluate() ? 1 : options_.accumulation;
    for (int m = 0; m < micro_batches; ++m) MicroBatch(m);
    return std::move(r_).Finish();
  }

 private:
  bool evaluate() const { return options_.kind == StepKind::kEvaluate; }
  // What makes a sum over ranks and micro-batches their mean.
  double mean_factor() const {
    return 1.0 / (double{1} * options_.world_size * options_.accumulation);
  }
  int stages() const { return static_cast<int>(spec_.stages.size()); }

  absl::Status CheckSpec() const {
    std::set<std::pair<int, int>> read;
    if (spec_.stages.empty()) return absl::InvalidArgumentError("the model has no stages");
    for (int s = 0; s < stages(); ++s) {
      const StageSpec& stage = spec_.stages[s];
      if (stage.inputs.size() != stage.sources.size()) {
        return absl::InvalidArgumentError(absl::StrCat("stage '", stage.name, "' has ",
                                                       stage.inputs.size(), " inputs and ",
                                                       stage.sources.size(), " sources of them"));
      }
      for (const StageSource& from : stage.sources) {
        const bool exists = from.stage >= 0 && from.stage < s && from.output >= 0 &&
                            from.output < static_cast<int>(spec_.stages[from.stage].outputs.size());
        if (!exists || !read.insert({from.stage, from.output}).second) {
          return absl::InvalidArgumentError(absl::StrCat(
              "stage '", stage.name, "' reads output ", from.output, " of stage ", from.stage,
              ", which ", exists ? "another input reads already" : "does not come before it"));
        }
      }
      for (int b : stage.batch) {
        if (b >= 0 && b < static_cast<int>(spec_.batch.size())) continue;
        return absl::InvalidArgumentError(absl::StrCat("stage '", stage.name, "' reads tensor ", b,
                                                       " of a batch of ", spec_.batch.size()));
      }
      if (stage.outputs.empty()) {
        return absl::InvalidArgumentError(absl::StrCat("stage '", stage.name, "' has no outputs"));
      }
    }
    for (int s = 0; s + 1 < stages(); ++s) {
      for (int i = 0; i < static_cast<int>(spec_.stages[s].outputs.size()); ++i) {
        if (read.count({s, i}) > 0) continue;
        return absl::InvalidArgumentError(
            absl::StrCat("no stage reads output ", i, " of stage '", spec_.stages[s].name, "'"));
      }
    }
    return absl::OkStatus();
  }

  void MicroBatch(int m) {
    Node load{.name = absl::StrCat("load_batch/", m), .op = "load_batch"};
    load.attrs["micro_batch"] = int64_t{m};
    if (last_ >= 0) load.control = {last_};
    batch_.clear();
    for (const TensorSpec& tensor : spec_.batch) {
      batch_.push_back(Tensor(absl::StrCat(tensor.name, "/", m), tensor, BufferKind::kInput));
      load.memory_bytes += tensor.bytes();
    }
    load.outputs = batch_;
    r_.Append(std::move(load));

    outputs_.assign(stages(), {});
    saved_.assign(stages(), -1);
    for (int s = 0; s < stages(); ++s) Forward(s, m);
    if (evaluate()) return;
    gradients_.assign(stages(), {});
    for (int s = 0; s < stages(); ++s) gradients_[s].assign(spec_.stages[s].outputs.size(), -1);
    for (int s = stages() - 1; s >= 0; --s) last_ = Backward(s, m);
  }

  Node StageNode(absl::string_view op, int s, int m) const {
    Node node{.name = absl::StrCat(op, "/", spec_.stages[s].name, "/", m), .op = std::string(op)};
    node.attrs["stage"] = int64_t{s};
    node.attrs["micro_batch"] = int64_t{m};
    for (const StageSource& from : spec_.stages[s].sources) {
      node.inputs.push_back(outputs_[from.stage][from.output]);
    }
    for (int b : spec_.stages[s].batch) node.inputs.push_back(batch_[b]);
    return node;
  }

  void Forward(int s, int m) {
    const StageSpec& stage = spec_.stages[s];
    Node node = StageNode("forward", s, m);
    if (params_[s] >= 0) node.inputs.push_back(params_[s]);
    for (size_t i = 0; i < stage.outputs.size(); ++i) {
      node.outputs.push_back(Output(s, i, m));
      outputs_[s].push_back(node.outputs.back());
    }
    if (evaluate()) {
      node.attrs["evaluate"] = int64_t{1};
      AddWorkspace(stage.evaluate, &node);
    } else {
      if (stage.saved_bytes > 0) {
        saved_[s] = r_.AddValueWithBuffer({.name = absl::StrCat("saved/", stage.name, "/", m),
                                           .dtype = DType::kU8,
                                           .shape = {stage.saved_bytes}},
                                          BufferKind::kSaved);
        node.outputs.push_back(saved_[s]);
      }
      AddWorkspace(stage.forward, &node);
    }
    node.flops = stage.forward_flops;
    node.memory_bytes = stage.forward_bytes;
    node.operators = stage.forward_operators;
    r_.Append(std::move(node));
  }

  NodeId Backward(int s, int m) {
    const StageSpec& stage = spec_.stages[s];
    Node node = StageNode("backward", s, m);
    if (saved_[s] >= 0) node.inputs.push_back(saved_[s]);
    for (ValueId v : gradients_[s]) {
      if (v >= 0) node.inputs.push_back(v);
    }
    if (s == stages() - 1 && loss_scale_ >= 0) node.inputs.push_back(loss_scale_);
    if (params_[s] >= 0) node.inputs.push_back(params_[s]);
    if (s == stages() - 1) {
      node.attrs["scale"] = mean_factor();
    }
    for (const ParamSpec& p : stage.params) {
      if (p.statistic) node.attrs["statistic_scale"] = mean_factor();
    }
    for (const StageSource& from : stage.sources) {
      ValueId& gradient = gradients_[from.stage][from.output];
      gradient = Tensor(Boundary("dact", from.stage, from.output, m),
                        spec_.stages[from.stage].outputs[from.output], BufferKind::kActivation);
      node.outputs.push_back(gradient);
    }
    if (params_[s] >= 0) {
      node.outputs.push_back(
          r_.AddValueWithBuffer({.name = absl::StrCat("grad/", stage.name, "/", m),
                                 .dtype = stage.params[0].dtype,
                                 .shape = {stage.element_count()}},
                                BufferKind::kGradient));
    }
    AddWorkspace(stage.backward, &node);
    node.flops = stage.backward_flops;
    node.memory_bytes = stage.backward_bytes;
    node.operators = stage.backward_operators;
    return r_.Append(std::move(node));
  }

  void AddWorkspace(const AllocationPlan& plan, Node* node) {
    if (plan.workspace_bytes == 0) return;
    node->outputs.push_back(r_.AddValueWithBuffer({.name = absl::StrCat("ws/", node->name),
                                                   .dtype = DType::kU8,
                                                   .shape = {plan.workspace_bytes}},
                                                  BufferKind::kWorkspace));
  }

  // "act/a/0"; with several boundary tensors "act/a.1/0".
  std::string Boundary(absl::string_view prefix, int s, size_t i, int m) const {
    const StageSpec& stage = spec_.stages[s];
    const std::string index = stage.outputs.size() > 1 ? absl::StrCat(".", i) : "";
    return absl::StrCat(prefix, "/", stage.name, index, "/", m);
  }

  // The last stage's outputs are what the run reads after the step: they live to its end.
  ValueId Output(int s, size_t i, int m) {
    const TensorSpec& tensor = spec_.stages[s].outputs[i];
    if (s < stages() - 1) return Tensor(Boundary("act", s, i, m), tensor, BufferKind::kActivation);
    const std::string name = i == 0                ? "loss"
                             : tensor.name.empty() ? absl::StrCat("output_", i)
                                                   : tensor.name;
    // Boxes are in the batch and, as predicted, among the outputs.
    for (const TensorSpec& given : spec_.batch) {
      if (given.name == name)
        return Tensor(absl::StrCat("output.", name, "/", m), tensor, BufferKind::kMetric);
    }
    return Tensor(absl::StrCat(name, "/", m), tensor, BufferKind::kMetric);
  }

  ValueId Tensor(std::string name, const TensorSpec& tensor, BufferKind kind) {
    return r_.AddValueWithBuffer(
        {.name = std::move(name), .dtype = tensor.dtype, .shape = tensor.shape}, kind);
  }

  const ModelSpec& spec_;
  const LowerOptions& options_;
  Rewriter r_;
  std::vector<ValueId> params_;  // per stage, -1: none
  std::vector<std::vector<ValueId>> outputs_,
      gradients_;               // per stage: its outputs, their gradients
  std::vector<ValueId> saved_;  // per stage, -1: none
  std::vector<ValueId> batch_;
  ValueId loss_scale_ = -1;
  NodeId last_ = -1;  // the last backward of the micro-batch before
};

class ExpandStagesPass final : public Pass {
 public:
  absl::string_view name() const override { return "expand_stages"; }
  absl::StatusOr<Graph> Run(const Graph& graph, const LowerContext& context) const override {
    return Expander(graph, context).Run();
  }
};

}  // namespace

std::unique_ptr<Pass> ExpandStages() { return std::make_unique<ExpandStagesPass>(); }

}  // namespace millrace
