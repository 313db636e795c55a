// adamw, adam, sgd and accumulate on the device: the nodes of ops/optimizers.cc, one launch each, with the same bits.
// Learning rate and bias corrections lie in a step slot (cuda_device.h), so a launch may be captured.
#include <memory>
#include <utility>
#include <vector>

#include "graph/base/status.h"
#include "ops/cuda/cuda_device.h"
#include "ops/cuda/device_table.h"
#include "ops/cuda/optimizer.h"
#include "ops/kernel_registry.h"
#include "ops/optimizer_node.h"

namespace millrace {
namespace {

// Scalars: AdamScalars or SgdScalars, without what changes from step to step.
template <typename Scalars>
class OptimizerKernel final : public Kernel {
 public:
  // `m`, `v`: the first elements of the states, or null.
  static absl::StatusOr<std::unique_ptr<Kernel>> Make(CudaDevice* device, const OptimizerNode& node,
                                                      Rule rule, float* m, float* v,
                                                      const Scalars& scalars) {
    std::vector<cuda::OptimizerRun> runs;
    for (const BucketRun& run : node.runs) {
      cuda::OptimizerRun r;
      r.p = node.p + run.begin;
      r.g = node.grad_at(run);
      r.m = m == nullptr ? nullptr : m + run.begin;
      r.v = v == nullptr ? nullptr : v + run.begin;
      r.copy = node.copy_at(run);
      r.count = run.count;
      r.momentum = static_cast<float>(run.momentum);
      r.statistic = run.statistic;
      r.decay = run.decay;
      runs.push_back(r);
    }
    const std::vector<cuda::Chunk> chunks = cuda::Chunks(runs);
    auto kernel = std::make_unique<OptimizerKernel>();
    kernel->scalars_ = scalars;
    kernel->delay_ = node.delay;
    ASSIGN_OR_RETURN(kernel->runs_, DeviceTable::Of(device, runs));
    ASSIGN_OR_RETURN(kernel->chunks_, DeviceTable::Of(device, chunks));
    ASSIGN_OR_RETURN(kernel->slot_, device->NewStepSlot(sizeof(cuda::OptimizerScalars)));
    cuda::OptimizerLaunch& launch = kernel->launch_;
    launch.rule = rule;
    launch.grad = node.grad;
    launch.copy = node.copy_type;
    launch.runs = kernel->runs_.template as<cuda::OptimizerRun>();
    launch.chunks = kernel->chunks_.template as<cuda::Chunk>();
    launch.chunk_count = static_cast<int64_t>(chunks.size());
    launch.scalars = static_cast<const cuda::OptimizerScalars*>(kernel->slot_.device);
    launch.coefficient = node.coefficient;
    launch.may_skip = node.may_skip;
    return std::unique_ptr<Kernel>(std::move(kernel));
  }

  absl::Status BeginStep(const StepContext& context) override {
    const auto& step = *static_cast<const StepScalars*>(context.user);
    Scalars s = scalars_;
    s.lr = step.lr;
    *static_cast<cuda::OptimizerScalars*>(slot_.host) = cuda::ScalarsOf(s, step.update, delay_);
    return absl::OkStatus();
  }
  absl::Status Issue(const StepContext&, const DeviceStream& stream) override {
    if (launch_.chunk_count == 0) return absl::OkStatus();
    return Launched(cuda::Launch(launch_, stream.native()), "the update");
  }
  bool capturable() const override { return true; }

 private:
  Scalars scalars_;
  int64_t delay_ = 0;
  DeviceTable runs_, chunks_;
  CudaStepSlot slot_;
  cuda::OptimizerLaunch launch_;
};

absl::StatusOr<std::unique_ptr<Kernel>> MakeAdam(const KernelArgs& args, bool decoupled) {
  const AdamNode node = ReadAdam(args, decoupled);
  return OptimizerKernel<AdamScalars>::Make(static_cast<CudaDevice*>(args.rank.device), node,
                                            decoupled ? Rule::kAdamW : Rule::kAdam, node.m, node.v,
                                            node.scalars);
}

absl::StatusOr<std::unique_ptr<Kernel>> MakeSgd(const KernelArgs& args) {
  const SgdNode node = ReadSgd(args);
  const bool plain = node.scalars.momentum == 0 || node.buffer == nullptr;
  return OptimizerKernel<SgdScalars>::Make(static_cast<CudaDevice*>(args.rank.device), node,
                                           plain                   ? Rule::kSgd
                                           : node.scalars.nesterov ? Rule::kSgdNesterov
                                                                   : Rule::kSgdMomentum,
                                           plain ? nullptr : node.buffer, nullptr, node.scalars);
}

// accumulate, and cast and scale of hand-written steps: pieces that never change.
class Pieces final : public Kernel {
 public:
  static absl::StatusOr<std::unique_ptr<Kernel>> Make(const KernelArgs& args,
                                                      const std::vector<cuda::Piece>& pieces) {
    auto kernel = std::make_unique<Pieces>();
    ASSIGN_OR_RETURN(kernel->launch_, PiecesLaunch::Make(args.rank.device, pieces));
    return std::unique_ptr<Kernel>(std::move(kernel));
  }
  absl::Status Issue(const StepContext&, const DeviceStream& stream) override {
    return launch_.Issue(stream.native());
  }
  bool capturable() const override { return true; }

 private:
  PiecesLaunch launch_;
};

REGISTER_DEVICE_KERNEL(cuda, adamw,
                       [](const KernelArgs& a) { return MakeAdam(a, /*decoupled=*/true); });
REGISTER_DEVICE_KERNEL(cuda, adam,
                       [](const KernelArgs& a) { return MakeAdam(a, /*decoupled=*/false); });
REGISTER_DEVICE_KERNEL(cuda, sgd, MakeSgd);
REGISTER_DEVICE_KERNEL(cuda, accumulate, [](const KernelArgs& a) {
  return Pieces::Make(
      a, {cuda::Piece::Add(a.In<void>(0), a.In<void>(1), a.input(0).dtype, a.input(0).numel())});
});
REGISTER_DEVICE_KERNEL(cuda, cast, [](const KernelArgs& a) {
  return Pieces::Make(a, {cuda::Piece::Cast(a.In<void>(0), a.input(0).dtype, a.Out<void>(0),
                                            a.output(0).dtype, a.input(0).numel())});
});

}  // namespace
}  // namespace millrace
