// adamw, adam, sgd: update one bucket, or this rank's shard of it, in place. accumulate: adds one
// micro-batch's gradient to the total.
//
//   node { name: "adamw/bucket_0" op: "adamw" input: "param/bucket_0" input: "grad/bucket_0'"
//          input: "exp_avg/bucket_0" input: "exp_avg_sq/bucket_0" input: "clip_coefficient"
//          output: "param/bucket_0'" output: "exp_avg/bucket_0'" output: "exp_avg_sq/bucket_0'" }
//
// Parameters of 16 bits: "param" is the f32 master, and the last output gets the new parameters rounded, in the same
// pass. Gradients may be 16 bits wide. A clip_coefficient that found an overflow makes every update leave all as it
// is, bit for bit.
//
// Weight decay is left out for parameters that ask for it (ParamSpec::weight_decay), so the bucket is walked in
// runs of equal setting. Padding between parameters holds zeros and stays zero.
#include <algorithm>
#include <cstdint>

#include "dist/kernels.h"
#include "graph/base/status.h"
#include "ops/bucket_runs.h"
#include "ops/kernel_registry.h"
#include "ops/optimizer_kernels.h"

namespace millrace {
namespace {

// What both rules read and write beside their states.
class Update {
 public:
  // `coefficient`: the input that is it; -1: none.
  Update(const KernelArgs& args, int coefficient)
      : runs_(BucketRuns(args, args.input(0))),
        p_(args.In<float>(0)),
        g_(args.In<char>(1)),
        grad_(args.input(1).dtype),
        threads_(args.rank.threads) {
    if (coefficient >= 0) {
      coefficient_ = args.In<float>(coefficient);
      may_skip_ = args.input(coefficient).numel() > 2;
    }
    const Value& last = args.output(args.outputs() - 1);
    if (last.dtype == DType::kF32) return;
    numel_ = args.input(0).numel();
    copy_ = args.Out<char>(args.outputs() - 1);
    copy_type_ = last.dtype;
  }

  bool skips() const { return may_skip_ && coefficient_[2] != 0; }
  // Nothing is updated: the parameters stay as they are. A 16-bit copy may lie in staged bytes that hold something else.
  absl::Status Keep() const {
    if (copy_ != nullptr) Narrow(copy_type_, p_, reinterpret_cast<uint16_t*>(copy_), numel_);
    return absl::OkStatus();
  }
  float grad_scale() const { return coefficient_ != nullptr ? coefficient_[0] : 1.0f; }
  // Every run by `update`, the optimizer's rule; running statistics by their own, which all optimizers share.
  template <typename Rule>
  absl::Status ForEachRun(const Rule& update) const {
    for (const BucketRun& run : runs_) {
      RETURN_IF_ERROR(run.statistic ? MoveStatistic(run) : update(run));
    }
    return absl::OkStatus();
  }
  float* param(const BucketRun& run) const { return p_ + run.begin; }
  const void* grad(const BucketRun& run) const { return g_ + run.begin * SizeOf(grad_); }
  UpdateOptions options(const BucketRun& run) const {
    UpdateOptions o;
    o.grad = grad_;
    if (copy_ != nullptr) o.copy = copy_ + run.begin * SizeOf(copy_type_);
    o.copy_type = copy_type_;
    o.threads = threads_;
    return o;
  }

 private:
  // running -= momentum * (running - value): no part of clipping or of what else the optimizer does.
  absl::Status MoveStatistic(const BucketRun& run) const {
    SgdScalars s;
    s.lr = run.momentum;
    s.momentum = s.weight_decay = 0;
    s.grad_scale = 1;
    return SgdUpdate(param(run), grad(run), nullptr, run.count, s, options(run));
  }

  const std::vector<BucketRun> runs_;
  float* const p_;
  const char* const g_;
  const DType grad_;
  const int threads_;
  int64_t numel_ = 0;
  const float* coefficient_ = nullptr;
  bool may_skip_ = false;
  char* copy_ = nullptr;
  DType copy_type_ = DType::kBF16;
};

class AdamKernel final : public Kernel {
 public:
  AdamKernel(const KernelArgs& args, bool decoupled)
      : update_(args, args.inputs() > 4 ? 4 : -1), m_(args.In<float>(2)), v_(args.In<float>(3)) {
    const OptimizerSettings& o = args.rank.optimizer;
    scalars_.beta1 = FloatAttr(args.node(), "beta1", o.beta1);
    scalars_.beta2 = FloatAttr(args.node(), "beta2", o.beta2);
    scalars_.eps = FloatAttr(args.node(), "eps", o.eps);
    scalars_.weight_decay = FloatAttr(args.node(), "weight_decay", o.weight_decay);
    scalars_.decoupled = decoupled;
    delay_ = IntAttr(args.node(), "delay", 0);
  }
  absl::Status Run(const StepContext& context) override {
    const auto& step = *static_cast<const StepScalars*>(context.user);
    const bool none_yet = step.update <= delay_;  // no gradient has come
    if (update_.skips() || none_yet) return update_.Keep();
    AdamScalars s = scalars_;
    s.lr = step.lr;
    s.step = step.update - delay_;
    s.grad_scale = update_.grad_scale();
    return update_.ForEachRun([&](const BucketRun& run) {
      s.weight_decay = run.decay ? scalars_.weight_decay : 0;
      return AdamUpdate(update_.param(run), update_.grad(run), m_ + run.begin, v_ + run.begin,
                        run.count, s, update_.options(run));
    });
  }

 private:
  const Update update_;
  float *const m_, *const v_;
  AdamScalars scalars_;
  int64_t delay_ = 0;  // steps from a gradient to its update
};

class SgdKernel final : public Kernel {
 public:
  explicit SgdKernel(const KernelArgs& args) : update_(args, CoefficientPort(args)) {
    const OptimizerSettings& o = args.rank.optimizer;
    scalars_.momentum = FloatAttr(args.node(), "momentum", o.momentum);
    scalars_.weight_decay = FloatAttr(args.node(), "weight_decay", o.weight_decay);
    scalars_.nesterov = o.nesterov;
    delay_ = IntAttr(args.node(), "delay", 0);
    if (HasMomentum(args)) buffer_ = args.In<float>(2);
  }
  absl::Status Run(const StepContext& context) override {
    const auto& step = *static_cast<const StepScalars*>(context.user);
    const bool none_yet = step.update <= delay_;  // no gradient has come
    if (update_.skips() || none_yet) return update_.Keep();
    SgdScalars s = scalars_;
    s.lr = step.lr;
    s.grad_scale = update_.grad_scale();
    return update_.ForEachRun([&](const BucketRun& run) {
      s.weight_decay = run.decay ? scalars_.weight_decay : 0;
      return SgdUpdate(update_.param(run), update_.grad(run),
                       buffer_ != nullptr ? buffer_ + run.begin : nullptr, run.count, s,
                       update_.options(run));
    });
  }

 private:
  // Inputs after the gradient: the momentum buffer, the clip coefficient; each may be absent. A momentum is written,
  // too, in the parameter's type, which a copy is not.
  static bool HasMomentum(const KernelArgs& args) {
    return args.outputs() > 1 && args.output(1).dtype == DType::kF32;
  }
  static int CoefficientPort(const KernelArgs& args) {
    const int port = HasMomentum(args) ? 3 : 2;
    return port < args.inputs() ? port : -1;
  }

  const Update update_;
  float* buffer_ = nullptr;
  SgdScalars scalars_;
  int64_t delay_ = 0;
};

class Accumulate final : public Kernel {
 public:
  explicit Accumulate(const KernelArgs& args)
      : total_(args.In<void>(0)),
        addend_(args.In<void>(1)),
        n_(args.input(0).numel()),
        dtype_(args.input(0).dtype) {}
  bool capturable() const override { return true; }
  absl::Status Run(const StepContext&) override {
    if (dtype_ == DType::kF32) {
      AddInPlace(static_cast<float*>(total_), static_cast<const float*>(addend_), n_);
    } else {  // 16 bits: added in f32, rounded once
      ReduceInRankOrder(dtype_, ReduceOp::kSum, {total_, addend_}, {total_}, n_, Store::kCached);
    }
    return absl::OkStatus();
  }

 private:
  void *const total_, *const addend_;
  const int64_t n_;
  const DType dtype_;
};

REGISTER_KERNEL(adamw, [](const KernelArgs& a) -> absl::StatusOr<std::unique_ptr<Kernel>> {
  return std::make_unique<AdamKernel>(a, /*decoupled=*/true);
});
REGISTER_KERNEL(adam, [](const KernelArgs& a) -> absl::StatusOr<std::unique_ptr<Kernel>> {
  return std::make_unique<AdamKernel>(a, /*decoupled=*/false);
});
REGISTER_KERNEL(sgd, [](const KernelArgs& a) -> absl::StatusOr<std::unique_ptr<Kernel>> {
  return std::make_unique<SgdKernel>(a);
});
REGISTER_KERNEL(accumulate, [](const KernelArgs& a) -> absl::StatusOr<std::unique_ptr<Kernel>> {
  return std::make_unique<Accumulate>(a);
});

}  // namespace
}  // namespace millrace
