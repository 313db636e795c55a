// forward, recompute and backward: run one stage of the model on one micro-batch, inside the bytes that the plan gave it.
//
//   node { name: "forward/layers.0/0" op: "forward" input: "act/embeddings/0" input: "param/bucket_1"
//          output: "act/layers.0/0" output: "saved/layers.0/0" output: "ws/forward/layers.0/0"
//          attr { name: "stage" i: 1 } attr { name: "micro_batch" i: 0 } }
//
// LibTorch allocates inside its operators; a ReplayScope serves each of these allocations at its planned place,
// so outputs and gradients appear directly in their values and buckets. Should a tensor lie elsewhere (an
// allocation that the probe did not foresee), it is copied: the result never depends on the replay.
#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "graph/base/loss_scale.h"
#include "graph/base/status.h"
#include "models/allocator.h"
#include "ops/kernel_registry.h"
#include "ops/model_runtime.h"
#include "ops/stage_ports.h"
#include "ops/torch_bridge.h"

namespace millrace {
namespace {

// Of 16-bit floats: the exponent's bits are not all set.
bool AllFinite(DType dtype, const void* data, int64_t n) {
  const uint16_t exponent = dtype == DType::kF16 ? 0x7c00 : 0x7f80;
  const auto* x = static_cast<const uint16_t*>(data);
  bool infinite = false;
  for (int64_t i = 0; i < n; ++i) infinite |= (x[i] & exponent) == exponent;
  return !infinite;
}

class StageKernel : public Kernel {
 public:
  StageKernel(ModelRuntime* model, StagePorts ports) : model_(*model), ports_(std::move(ports)) {
    for (size_t i = 0; i < ports_.inputs.size(); ++i) {
      inputs_.push_back(AsTensor(ports_.input_data[i], *ports_.inputs[i]));
    }
  }

  bool capturable() const override { return true; }

 protected:
  const StageSpec& spec() const { return model_.spec(ports_.stage); }
  void Count(const ReplayScope& replay, const AllocationPlan& plan) {
    const int64_t skipped =
        static_cast<int64_t>(plan.allocations.size()) - replay.served() - replay.mismatches();
    model_.CountUnplanned(replay.mismatches() + (skipped > 0 ? skipped : 0),
                          replay.unplanned_bytes_peak());
  }

  ModelRuntime& model_;
  const StagePorts ports_;
  Tensors inputs_;
};

class Forward final : public StageKernel {
 public:
  Forward(ModelRuntime* model, StagePorts ports, bool train)
      : StageKernel(model, std::move(ports)), train_(train) {}

  absl::Status Run(const StepContext&) override {
    absl::Status status;
    const absl::Status caught = CatchTorch([&] { status = RunStage(); });
    return caught.ok() ? status : caught;
  }

 private:
  absl::Status RunStage() {
    const AllocationPlan& plan = train_ ? spec().forward : spec().evaluate;
    const Tensors& params = model_.Bind(ports_.stage, ports_.params);
    ReplayMemory memory;
    memory.workspace = ports_.workspace;
    memory.saved = ports_.saved;
    memory.outputs = ports_.outputs;
    ReplayScope replay(plan, memory);
    absl::StatusOr<StageTape> tape =
        StageForward(model_.stage(ports_.stage), inputs_, params, {.train = train_});
    RETURN_IF_ERROR(tape);
    for (size_t i = 0; i < ports_.outputs.size(); ++i) {
      PutAt(tape->outputs[i], ports_.outputs[i], spec().outputs[i], at::kCPU);
    }
    tape->outputs.clear();
    Count(replay, plan);
    if (train_) model_.KeepTape(ports_.stage, ports_.micro_batch, *std::move(tape));
    return absl::OkStatus();
  }

  const bool train_;
};

// Not by LibTorch: on the CPU it would make a tensor of the factor, which is in no plan.
template <typename T>
void ScaleAs(int64_t n, double factor, void* data) {
  T* x = static_cast<T*>(data);
  for (int64_t i = 0; i < n; ++i) x[i] = static_cast<T>(factor * static_cast<double>(x[i]));
}
void Scale(DType dtype, int64_t n, double factor, void* data) {
  switch (dtype) {
    case DType::kBF16:
      return ScaleAs<c10::BFloat16>(n, factor, data);
    case DType::kF16:
      return ScaleAs<c10::Half>(n, factor, data);
    default:
      return ScaleAs<float>(n, factor, data);
  }
}

class Backward final : public StageKernel {
 public:
  // may_overflow: the step has a loss scale, so it asks which gradient was first.
  Backward(ModelRuntime* model, StagePorts ports, double scale, double statistic_scale,
           bool may_overflow)
      : StageKernel(model, std::move(ports)),
        scale_(scale),
        statistic_scale_(statistic_scale),
        may_overflow_(may_overflow) {
    for (size_t i = 0; i < ports_.grad_outputs.size(); ++i) {
      grad_outputs_.push_back(AsTensor(ports_.grad_output_data[i], *ports_.grad_outputs[i]));
    }
  }

  absl::Status Run(const StepContext&) override {
    absl::Status status;
    const absl::Status caught = CatchTorch([&] { status = RunStage(); });
    return caught.ok() ? status : caught;
  }

 private:
  absl::Status RunStage() {
    StageTape tape = model_.TakeTape(ports_.stage, ports_.micro_batch);
    if (tape.graph == nullptr)
      return absl::FailedPreconditionError("the stage's forward has not run");
    model_.Bind(ports_.stage, ports_.params);
    ReplayMemory memory;
    memory.workspace = ports_.workspace;
    memory.saved = ports_.saved;
    memory.input_grads = ports_.outputs;
    memory.param_grads = ports_.param_grads;
    ReplayScope replay(spec().backward, memory);
    const double scale = ports_.loss_scale != nullptr ? scale_ * ports_.loss_scale->scale : scale_;
    absl::StatusOr<StageGradients> gradients = StageBackward(std::move(tape), grad_outputs_, scale);
    RETURN_IF_ERROR(gradients);
    for (size_t i = 0; i < ports_.outputs.size(); ++i) {
      PutAt(gradients->inputs[i], ports_.outputs[i], spec().inputs[i], at::kCPU);
    }
    for (size_t i = 0; i < ports_.param_grads.size(); ++i) {
      const ParamSpec& p = spec().params[i];
      PutAt(gradients->params[i], ports_.param_grads[i], SpecOf(p), at::kCPU);
      if (p.statistic) Scale(p.dtype, p.numel(), statistic_scale_, ports_.param_grads[i]);
    }
    *gradients = StageGradients();
    for (const auto& [begin, bytes] : ports_.gaps) std::memset(begin, 0, bytes);
    for (size_t i = ports_.param_grads.size(); i-- > 0 && may_overflow_;) {
      const ParamSpec& p = spec().params[i];
      if (SizeOf(p.dtype) != 2 || AllFinite(p.dtype, ports_.param_grads[i], p.numel())) continue;
      model_.NoteOverflow({p.name, ports_.micro_batch, ports_.stage});
    }
    Count(replay, spec().backward);
    return absl::OkStatus();
  }

  const double scale_, statistic_scale_;
  const bool may_overflow_;
  Tensors grad_outputs_;
};

REGISTER_KERNEL(forward, [](const KernelArgs& a) -> absl::StatusOr<std::unique_ptr<Kernel>> {
  ASSIGN_OR_RETURN(StagePorts ports, ReadStagePorts(a, /*backward=*/false));
  const bool train = IntAttr(a.node(), "evaluate", 0) == 0;
  return std::make_unique<Forward>(a.rank.model, std::move(ports), train);
});
// The forward that trains, later: forward itself ran as in evaluation. Stages draw no random numbers of their
// own, so the second run computes the same bits.
REGISTER_KERNEL(recompute, [](const KernelArgs& a) -> absl::StatusOr<std::unique_ptr<Kernel>> {
  ASSIGN_OR_RETURN(StagePorts ports, ReadStagePorts(a, /*backward=*/false));
  return std::make_unique<Forward>(a.rank.model, std::move(ports), /*train=*/true);
});
REGISTER_KERNEL(backward, [](const KernelArgs& a) -> absl::StatusOr<std::unique_ptr<Kernel>> {
  ASSIGN_OR_RETURN(StagePorts ports, ReadStagePorts(a, /*backward=*/true));
  return std::make_unique<Backward>(
      a.rank.model, std::move(ports), FloatAttr(a.node(), "scale", 1.0),
      FloatAttr(a.node(), "statistic_scale", 1.0), a.plan.graph.FindNode("update_loss_scale") >= 0);
});

}  // namespace
}  // namespace millrace
