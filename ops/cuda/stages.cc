// forward, recompute and backward on the device: the nodes of ops/stages.cc with tensors over the device's arenas.
//
// LibTorch's operators are issued to the node's stream (set_stream of models/cuda/torch_shim.h), its allocations are
// served at their planned places by the same ReplayScope; what no probe could foresee comes from the device's spill
// arena. Nothing is read on the host: the loss scale multiplies the gradient of the loss where it lies, gaps and
// statistics are one launch, and which gradients are not finite is counted on the device and read when somebody asks
// (ModelRuntime::overflow).
//
// Captured, a stage's Issue happens once, and with it its tape: so a forward and its backward are both captured, or
// neither (Kernel::capture_alone).
#include <ATen/ops/full.h>

#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "graph/base/loss_scale.h"
#include "graph/base/status.h"
#include "models/allocator.h"
#include "models/cuda/torch_cuda.h"
#include "models/tensors.h"
#include "ops/cuda/cuda_device.h"
#include "ops/cuda/device_table.h"
#include "ops/cuda/norm.h"
#include "ops/exact_norm.h"
#include "ops/kernel_registry.h"
#include "ops/model_runtime.h"
#include "ops/stage_ports.h"
#include "ops/torch_bridge.h"

namespace millrace {
namespace {

// Counts the elements of 16-bit gradients that are not finite, by parameter, in one pass.
class OverflowCounts {
 public:
  static absl::StatusOr<std::shared_ptr<OverflowCounts>> Make(CudaDevice* device,
                                                              const StageSpec& spec,
                                                              const StagePorts& ports) {
    auto counts = std::make_shared<OverflowCounts>();
    counts->device_ = device;
    for (const DType type : {DType::kBF16, DType::kF16}) {
      Group group;
      std::vector<cuda::NormRange> ranges;
      for (size_t i = spec.params.size(); i-- > 0;) {  // in the order of backward
        const ParamSpec& p = spec.params[i];
        if (p.dtype != type) continue;
        ranges.push_back({ports.param_grads[i], p.numel()});
        group.params.push_back(p.name);
      }
      if (ranges.empty()) continue;
      const std::vector<cuda::Chunk> chunks = cuda::Chunks(ranges);
      ASSIGN_OR_RETURN(group.ranges, DeviceTable::Of(device, ranges));
      ASSIGN_OR_RETURN(group.chunks, DeviceTable::Of(device, chunks));
      ASSIGN_OR_RETURN(group.flags, DeviceTable::Of(device, std::vector<int32_t>(ranges.size())));
      ASSIGN_OR_RETURN(group.words,
                       DeviceTable::Of(device, std::vector<int64_t>(NormPartial::kWords)));
      group.launch.type = type;
      group.launch.ranges = group.ranges.as<cuda::NormRange>();
      group.launch.chunks = group.chunks.as<cuda::Chunk>();
      group.launch.chunk_count = static_cast<int64_t>(chunks.size());
      group.launch.words = group.words.as<int64_t>();
      group.launch.non_finite = group.flags.as<int32_t>();
      group.launch.range_count = static_cast<int64_t>(ranges.size());
      counts->groups_.push_back(std::move(group));
    }
    counts->stage_ = ports.stage;
    counts->micro_batch_ = ports.micro_batch;
    return counts;
  }

  absl::Status Issue(void* stream) const {
    for (const Group& g : groups_) {
      RETURN_IF_ERROR(Launched(cuda::LaunchNorm(g.launch, stream), "the search for overflows"));
    }
    return absl::OkStatus();
  }
  // After the step.
  Overflow First() const {
    for (const Group& g : groups_) {
      std::vector<int32_t> flags(g.params.size());
      const absl::Status read = device_->Read(flags.data(), g.flags.as<int32_t>(),
                                              static_cast<int64_t>(flags.size() * 4));
      if (!read.ok()) return {absl::StrCat("(", read.message(), ")"), micro_batch_, stage_};
      for (size_t i = 0; i < flags.size(); ++i) {
        if (flags[i] > 0) return {g.params[i], micro_batch_, stage_};
      }
    }
    return {};
  }

 private:
  struct Group {
    std::vector<std::string> params;
    DeviceTable ranges, chunks, flags, words;
    cuda::NormLaunch launch;
  };
  CudaDevice* device_ = nullptr;
  std::vector<Group> groups_;
  int stage_ = 0;
  int64_t micro_batch_ = 0;
};

class StageKernel : public Kernel {
 public:
  StageKernel(const KernelArgs& args, StagePorts ports, void* compute)
      : device_(*static_cast<CudaDevice*>(args.rank.device)),
        where_(at::kCUDA, static_cast<at::DeviceIndex>(device_.ordinal())),
        model_(*args.rank.model),
        ports_(std::move(ports)),
        compute_(compute) {
    model_.set_device(where_);
    for (size_t i = 0; i < ports_.inputs.size(); ++i) {
      inputs_.push_back(AsTensor(ports_.input_data[i], *ports_.inputs[i], where_));
    }
  }

  bool capturable() const override { return true; }
  bool capture_alone() const override { return true; }

  // In the first step of a thread: what LibTorch makes for a thread and a stream when it is first used.
  absl::Status BeginStep(const StepContext&) override {
    thread_local const void* prepared = nullptr;
    if (prepared == compute_) return absl::OkStatus();
    RETURN_IF_ERROR(
        ShimStatus(device_.torch()->prepare(device_.ordinal(), compute_), "preparing LibTorch"));
    prepared = compute_;
    return absl::OkStatus();
  }

  absl::Status Issue(const StepContext&, const DeviceStream& stream) override {
    RETURN_IF_ERROR(ShimStatus(device_.torch()->set_stream(device_.ordinal(), stream.native()),
                               "setting LibTorch's stream"));
    absl::Status status;
    const absl::Status caught = CatchTorch([&] { status = RunStage(stream.native()); });
    return caught.ok() ? status : caught;
  }

 protected:
  virtual absl::Status RunStage(void* stream) = 0;

  const StageSpec& spec() const { return model_.spec(ports_.stage); }
  ReplayMemory Memory() const {
    ReplayMemory memory;
    memory.device = c10::kCUDA;
    memory.spill = device_.spill();
    memory.workspace = ports_.workspace;
    memory.saved = ports_.saved;
    return memory;
  }
  void Count(const ReplayScope& replay, const AllocationPlan& plan) {
    const int64_t skipped = static_cast<int64_t>(plan.allocations.size()) - replay.served() -
                            replay.mismatches() - replay.spilled();
    model_.CountUnplanned(replay.mismatches() + (skipped > 0 ? skipped : 0),
                          replay.unplanned_bytes_peak());
  }

  CudaDevice& device_;
  const at::Device where_;
  ModelRuntime& model_;
  const StagePorts ports_;
  void* const compute_;
  Tensors inputs_;
};

class Forward final : public StageKernel {
 public:
  Forward(const KernelArgs& args, StagePorts ports, void* compute, bool train)
      : StageKernel(args, std::move(ports), compute), train_(train) {}

 private:
  absl::Status RunStage(void*) override {
    const AllocationPlan& plan = train_ ? spec().forward : spec().evaluate;
    const Tensors& params = model_.Bind(ports_.stage, ports_.params);
    ReplayMemory memory = Memory();
    memory.outputs = ports_.outputs;
    ReplayScope replay(plan, memory);
    absl::StatusOr<StageTape> tape =
        StageForward(model_.stage(ports_.stage), inputs_, params, {.train = train_});
    RETURN_IF_ERROR(tape);
    for (size_t i = 0; i < ports_.outputs.size(); ++i) {
      PutAt(tape->outputs[i], ports_.outputs[i], spec().outputs[i], where_);
    }
    tape->outputs.clear();
    Count(replay, plan);
    if (train_) model_.KeepTape(ports_.stage, ports_.micro_batch, *std::move(tape));
    return absl::OkStatus();
  }

  const bool train_;
};

class Backward final : public StageKernel {
 public:
  static absl::StatusOr<std::unique_ptr<Kernel>> Make(const KernelArgs& args, StagePorts ports,
                                                      void* compute) {
    auto kernel = std::make_unique<Backward>(args, std::move(ports), compute);
    const StageSpec& spec = kernel->spec();
    const StagePorts& p = kernel->ports_;
    std::vector<cuda::Piece> pieces;
    for (const auto& [begin, bytes] : p.gaps) pieces.push_back(cuda::Piece::Zero(begin, bytes));
    const double factor = FloatAttr(args.node(), "statistic_scale", 1.0);
    for (size_t i = 0; i < spec.params.size(); ++i) {
      const ParamSpec& param = spec.params[i];
      if (!param.statistic || factor == 1.0) continue;
      pieces.push_back(cuda::Piece::Scale(p.param_grads[i], param.dtype, param.numel(), factor));
    }
    ASSIGN_OR_RETURN(kernel->finish_, PiecesLaunch::Make(args.rank.device, pieces));
    if (args.plan.graph.FindNode("update_loss_scale") >= 0) {
      ASSIGN_OR_RETURN(kernel->counts_, OverflowCounts::Make(&kernel->device_, spec, p));
      args.rank.model->AddOverflowReader([counts = std::weak_ptr(kernel->counts_)] {
        const auto alive = counts.lock();
        return alive == nullptr ? Overflow() : alive->First();
      });
    }
    return std::unique_ptr<Kernel>(std::move(kernel));
  }
  Backward(const KernelArgs& args, StagePorts ports, void* compute)
      : StageKernel(args, std::move(ports), compute), scale_(FloatAttr(args.node(), "scale", 1.0)) {
    for (size_t i = 0; i < ports_.grad_outputs.size(); ++i) {
      grad_outputs_.push_back(
          AsTensor(ports_.grad_output_data[i], *ports_.grad_outputs[i], where_));
    }
    if (ports_.loss_scale != nullptr) {
      loss_scale_ =
          AsTensor(const_cast<double*>(&ports_.loss_scale->scale), DType::kF64, {}, where_);
    }
  }

 private:
  // What StageBackward makes by itself where the host knows the number: the same allocation, so that the replay is that
  // of the probe. Powers of two: the product is exact.
  Tensors ScaledRoot() const {
    const TensorSpec& loss = spec().outputs[0];
    Tensors roots(spec().outputs.size());
    roots[0] =
        at::full({}, scale_, at::TensorOptions().dtype(ToScalarType(loss.dtype)).device(where_));
    roots[0].mul_(loss_scale_);
    return roots;
  }

  absl::Status RunStage(void* stream) override {
    StageTape tape = model_.TakeTape(ports_.stage, ports_.micro_batch);
    if (tape.graph == nullptr)
      return absl::FailedPreconditionError("the stage's forward has not run");
    model_.Bind(ports_.stage, ports_.params);
    ReplayMemory memory = Memory();
    memory.input_grads = ports_.outputs;
    memory.param_grads = ports_.param_grads;
    ReplayScope replay(spec().backward, memory);
    absl::StatusOr<StageGradients> gradients =
        loss_scale_.defined() ? StageBackward(std::move(tape), ScaledRoot(), 1)
                              : StageBackward(std::move(tape), grad_outputs_, scale_);
    RETURN_IF_ERROR(gradients);
    for (size_t i = 0; i < ports_.outputs.size(); ++i) {
      PutAt(gradients->inputs[i], ports_.outputs[i], spec().inputs[i], where_);
    }
    for (size_t i = 0; i < ports_.param_grads.size(); ++i) {
      PutAt(gradients->params[i], ports_.param_grads[i], SpecOf(spec().params[i]), where_);
    }
    *gradients = StageGradients();
    Count(replay, spec().backward);
    RETURN_IF_ERROR(finish_.Issue(stream));
    return counts_ == nullptr ? absl::OkStatus() : counts_->Issue(stream);
  }

  const double scale_;
  at::Tensor loss_scale_;  // of no dimensions; undefined: there is none
  Tensors grad_outputs_;
  PiecesLaunch finish_;
  std::shared_ptr<OverflowCounts> counts_;
};

using Made = absl::StatusOr<std::unique_ptr<Kernel>>;

// The native stream of the lane that stages run in.
absl::StatusOr<void*> ComputeStream(const KernelArgs& a) {
  auto* const device = static_cast<CudaDevice*>(a.rank.device);
  if (device->torch() == nullptr) {
    return absl::FailedPreconditionError("LibTorch's CUDA libraries are not loaded");
  }
  ASSIGN_OR_RETURN(const StreamId compute, device->NewStream("compute"));
  return device->native(compute);
}

Made MakeForward(const KernelArgs& a, bool train) {
  ASSIGN_OR_RETURN(StagePorts ports, ReadStagePorts(a, /*backward=*/false));
  ASSIGN_OR_RETURN(void* const compute, ComputeStream(a));
  return std::make_unique<Forward>(a, std::move(ports), compute, train);
}

REGISTER_DEVICE_KERNEL(cuda, forward, [](const KernelArgs& a) {
  return MakeForward(a, IntAttr(a.node(), "evaluate", 0) == 0);
});
REGISTER_DEVICE_KERNEL(cuda, recompute, [](const KernelArgs& a) { return MakeForward(a, true); });
REGISTER_DEVICE_KERNEL(cuda, backward, [](const KernelArgs& a) -> Made {
  ASSIGN_OR_RETURN(StagePorts ports, ReadStagePorts(a, /*backward=*/true));
  ASSIGN_OR_RETURN(void* const compute, ComputeStream(a));
  return Backward::Make(a, std::move(ports), compute);
});

}  // namespace
}  // namespace millrace
