#include "graph/lower/expand_stages.h"

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
      const int64_t n = stage.parameter_count();
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
  int stages() const { return static_cast<int>(spec_.stages.size()); }

  absl::Status CheckSpec() const {
    if (spec_.stages.empty()) return absl::InvalidArgumentError("the model has no stages");
    for (int s = 0; s < stages(); ++s) {
      const StageSpec& stage = spec_.stages[s];
      const size_t want = s == 0 ? 1 : spec_.stages[s - 1].outputs.size();
      if (stage.inputs.size() != want) {
        return absl::InvalidArgumentError(absl::StrCat(
            "stage '", stage.name, "' has ", stage.inputs.size(), " inputs, expected ", want,
            ": what ", s == 0 ? "the batch" : spec_.stages[s - 1].name, " gives"));
      }
      if (stage.outputs.empty()) {
        return absl::InvalidArgumentError(absl::StrCat("stage '", stage.name, "' has no outputs"));
      }
    }
    return absl::OkStatus();
  }

  void MicroBatch(int m) {
    Node load{.name = absl::StrCat("load_batch/", m), .op = "load_batch"};
    load.attrs["micro_batch"] = int64_t{m};
    if (last_ >= 0) load.control = {last_};
    const ValueId images = Tensor(absl::StrCat("images/", m), spec_.images, BufferKind::kInput);
    labels_ = Tensor(absl::StrCat("labels/", m), spec_.labels, BufferKind::kInput);
    load.outputs = {images, labels_};
    load.memory_bytes = spec_.images.bytes() + spec_.labels.bytes();
    r_.Append(std::move(load));

    inputs_.assign(stages() + 1, {});
    saved_.assign(stages(), -1);
    inputs_[0] = {images};
    for (int s = 0; s < stages(); ++s) Forward(s, m);
    if (evaluate()) return;
    gradients_.assign(stages() + 1, {});
    for (int s = stages() - 1; s >= 0; --s) last_ = Backward(s, m);
  }

  Node StageNode(absl::string_view op, int s, int m) const {
    Node node{.name = absl::StrCat(op, "/", spec_.stages[s].name, "/", m), .op = std::string(op)};
    node.attrs["stage"] = int64_t{s};
    node.attrs["micro_batch"] = int64_t{m};
    node.inputs = inputs_[s];
    if (s == stages() - 1) node.inputs.push_back(labels_);
    return node;
  }

  void Forward(int s, int m) {
    const StageSpec& stage = spec_.stages[s];
    Node node = StageNode("forward", s, m);
    if (params_[s] >= 0) node.inputs.push_back(params_[s]);
    for (size_t i = 0; i < stage.outputs.size(); ++i) {
      node.outputs.push_back(Output(s, i, m));
      inputs_[s + 1].push_back(node.outputs.back());
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
    for (ValueId v : gradients_[s + 1]) node.inputs.push_back(v);
    if (s == stages() - 1 && loss_scale_ >= 0) node.inputs.push_back(loss_scale_);
    if (params_[s] >= 0) node.inputs.push_back(params_[s]);
    if (s == stages() - 1) {
      node.attrs["scale"] = 1.0 / (double{1} * options_.world_size * options_.accumulation);
    }
    if (s > 0 && stage.input_needs_grad) {
      for (size_t i = 0; i < stage.inputs.size(); ++i) {
        gradients_[s].push_back(Tensor(Boundary("dact", s - 1, i, m),
                                       spec_.stages[s - 1].outputs[i], BufferKind::kActivation));
        node.outputs.push_back(gradients_[s].back());
      }
    }
    if (params_[s] >= 0) {
      node.outputs.push_back(
          r_.AddValueWithBuffer({.name = absl::StrCat("grad/", stage.name, "/", m),
                                 .dtype = stage.params[0].dtype,
                                 .shape = {stage.parameter_count()}},
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
    return Tensor(absl::StrCat(name, "/", m), tensor, BufferKind::kMetric);
  }

  ValueId Tensor(std::string name, const TensorSpec& tensor, BufferKind kind) {
    return r_.AddValueWithBuffer(
        {.name = std::move(name), .dtype = tensor.dtype, .shape = tensor.shape}, kind);
  }

  const ModelSpec& spec_;
  const LowerOptions& options_;
  Rewriter r_;
  std::vector<ValueId> params_;                           // per stage, -1: none
  std::vector<std::vector<ValueId>> inputs_, gradients_;  // per stage: its inputs, theirs
  std::vector<ValueId> saved_;                            // per stage, -1: none
  ValueId labels_ = -1, loss_scale_ = -1;
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
