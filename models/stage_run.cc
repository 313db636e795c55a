#include "models/stage_run.h"

#include <ATen/ops/full.h>
#include <c10/core/AutogradState.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/edge.h>
#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/variable.h>

#include <exception>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace millrace {

// Edges only, no output tensors: an output that autograd itself does not need is the caller's alone.
class StageGraph {
 public:
  std::string stage;
  torch::autograd::edge_list roots;  // into the graph, one per output
  at::TensorOptions loss_options;
  torch::autograd::edge_list leaves;  // of the inputs, then of the parameters, that need gradients
  std::vector<int> leaf_of_input, leaf_of_param;  // indices into `leaves`, -1 when none
};

namespace {

// While it lives, backward runs on its thread alone. By itself autograd gives nodes of a device to a thread that it
// keeps for that device, where this thread's scopes (models/allocator.h) and current stream do not hold.
class OnThisThread {
 public:
  OnThisThread() : outer_(c10::AutogradState::get_tls_state().get_multithreading_enabled()) {
    c10::AutogradState::get_tls_state().set_multithreading_enabled(false);
  }
  ~OnThisThread() { c10::AutogradState::get_tls_state().set_multithreading_enabled(outer_); }
  OnThisThread(const OnThisThread&) = delete;
  OnThisThread& operator=(const OnThisThread&) = delete;

 private:
  const bool outer_;
};

// The same memory as a leaf of its own.
at::Tensor Leaf(const at::Tensor& t, bool needs_grad) {
  at::Tensor leaf = t.detach();
  if (needs_grad) leaf.set_requires_grad(true);
  return leaf;
}

template <typename F>
auto WithoutExceptions(const std::string& stage, const char* phase, F&& body) -> decltype(body()) {
  try {
    return body();
  } catch (const c10::Error& e) {
    return absl::InternalError(
        absl::StrCat(phase, " of stage '", stage, "': ", e.what_without_backtrace()));
  } catch (const std::exception& e) {
    return absl::InternalError(absl::StrCat(phase, " of stage '", stage, "': ", e.what()));
  }
}

StageTape Forward(const StageDef& stage, const Tensors& inputs, const Tensors& params,
                  const StageOptions& options) {
  StageTape tape;
  if (!options.train) {
    c10::AutoGradMode no_grad(false);
    tape.outputs = stage.forward(inputs, params);
    return tape;
  }
  c10::AutoGradMode grad(true);
  auto graph = std::make_shared<StageGraph>();
  graph->stage = stage.name;
  Tensors x, w;
  const auto add_leaf = [&](const at::Tensor& t, bool needs_grad, Tensors& to,
                            std::vector<int>& index) {
    to.push_back(Leaf(t, needs_grad));
    index.push_back(needs_grad ? static_cast<int>(graph->leaves.size()) : -1);
    if (needs_grad) graph->leaves.push_back(torch::autograd::impl::gradient_edge(to.back()));
  };
  for (size_t i = 0; i < inputs.size(); ++i) {
    const bool differentiable = i < stage.inputs.size() || options.batch_needs_grad;
    add_leaf(inputs[i], differentiable && inputs[i].is_floating_point(), x, graph->leaf_of_input);
  }
  for (const at::Tensor& t : params) add_leaf(t, true, w, graph->leaf_of_param);
  for (const at::Tensor& out : stage.forward(x, w)) {
    graph->roots.push_back(torch::autograd::impl::gradient_edge(out));
    tape.outputs.push_back(out.detach());
  }
  graph->loss_options = tape.outputs.at(0).options();
  tape.graph = std::move(graph);
  return tape;
}

StageGradients Backward(StageTape tape, const Tensors& grad_outputs, double scale) {
  tape.outputs.clear();
  StageGraph& graph = *tape.graph;
  torch::autograd::edge_list roots;
  torch::autograd::variable_list grads;
  if (grad_outputs.empty()) {
    roots.push_back(graph.roots[0]);
    grads.push_back(at::full({}, scale, graph.loss_options));
  } else {
    TORCH_CHECK(grad_outputs.size() == graph.roots.size(), "expected ", graph.roots.size(),
                " gradients of outputs, got ", grad_outputs.size());
    for (size_t i = 0; i < grad_outputs.size(); ++i) {
      if (!grad_outputs[i].defined()) continue;
      roots.push_back(graph.roots[i]);
      grads.push_back(grad_outputs[i]);
    }
  }
  torch::autograd::variable_list result;
  if (!graph.leaves.empty()) {  // nothing to differentiate: a first stage without parameters
    const OnThisThread here;
    result = torch::autograd::Engine::get_default_engine().execute(
        roots, grads, /*keep_graph=*/false, /*create_graph=*/false, /*accumulate_grad=*/false,
        graph.leaves);
  }
  StageGradients g;
  const auto take = [&result](int leaf) { return leaf < 0 ? at::Tensor() : result[leaf]; };
  for (int leaf : graph.leaf_of_input) g.inputs.push_back(take(leaf));
  for (int leaf : graph.leaf_of_param) g.params.push_back(take(leaf));
  return g;
}

}  // namespace

absl::StatusOr<StageTape> StageForward(const StageDef& stage, const Tensors& inputs,
                                       const Tensors& params, const StageOptions& options) {
  return WithoutExceptions(stage.name, "forward", [&]() -> absl::StatusOr<StageTape> {
    TORCH_CHECK(inputs.size() == stage.inputs.size() + stage.batch.size(), "expected ",
                stage.inputs.size(), " inputs and ", stage.batch.size(),
                " tensors of the batch, got ", inputs.size(), " tensors");
    TORCH_CHECK(params.size() == stage.params.size(), "expected ", stage.params.size(),
                " parameters, got ", params.size());
    return Forward(stage, inputs, params, options);
  });
}

absl::StatusOr<StageGradients> StageBackward(StageTape tape, const Tensors& grad_outputs,
                                             double scale) {
  if (tape.graph == nullptr) {
    return absl::FailedPreconditionError("backward of a stage whose forward did not train");
  }
  const std::string stage = tape.graph->stage;
  return WithoutExceptions(stage, "backward", [&]() -> absl::StatusOr<StageGradients> {
    return Backward(std::move(tape), grad_outputs, scale);
  });
}

}  // namespace millrace
