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
#include <cstdint>

#include "dist/kernels.h"
#include "graph/base/status.h"
#include "ops/kernel_registry.h"
#include "ops/optimizer_kernels.h"
#include "ops/optimizer_node.h"

namespace millrace {
namespace {

// What a rule does with a node.
class Update {
 public:
  Update(const OptimizerNode& node, int threads) : node_(node), threads_(threads) {}

  // No gradient has come yet, or the step overflowed.
  bool skips(const StepScalars& step) const {
    return step.update <= node_.delay || (node_.may_skip && node_.coefficient[2] != 0);
  }
  // Nothing is updated: the parameters stay as they are. A 16-bit copy may lie in staged bytes that hold something else.
  absl::Status Keep() const {
    if (node_.copy != nullptr) {
      Narrow(node_.copy_type, node_.p, reinterpret_cast<uint16_t*>(node_.copy), node_.numel);
    }
    return absl::OkStatus();
  }
  float grad_scale() const { return node_.coefficient != nullptr ? node_.coefficient[0] : 1.0f; }
  // Every run by `update`, the optimizer's rule; running statistics by their own, which all optimizers share.
  template <typename Rule>
  absl::Status ForEachRun(const Rule& update) const {
    for (const BucketRun& run : node_.runs) {
      RETURN_IF_ERROR(run.statistic ? MoveStatistic(run) : update(run));
    }
    return absl::OkStatus();
  }
  UpdateOptions options(const BucketRun& run) const {
    UpdateOptions o;
    o.grad = node_.grad;
    o.copy = node_.copy_at(run);
    o.copy_type = node_.copy_type;
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
    return SgdUpdate(node_.p + run.begin, node_.grad_at(run), nullptr, run.count, s, options(run));
  }

  const OptimizerNode& node_;
  const int threads_;
};

class AdamKernel final : public Kernel {
 public:
  AdamKernel(const KernelArgs& args, bool decoupled)
      : node_(ReadAdam(args, decoupled)), update_(node_, args.rank.threads) {}
  absl::Status Run(const StepContext& context) override {
    const auto& step = *static_cast<const StepScalars*>(context.user);
    if (update_.skips(step)) return update_.Keep();
    AdamScalars s = node_.scalars;
    s.lr = step.lr;
    s.step = step.update - node_.delay;
    s.grad_scale = update_.grad_scale();
    return update_.ForEachRun([&](const BucketRun& run) {
      s.weight_decay = run.decay ? node_.scalars.weight_decay : 0;
      return AdamUpdate(node_.p + run.begin, node_.grad_at(run), node_.m + run.begin,
                        node_.v + run.begin, run.count, s, update_.options(run));
    });
  }

 private:
  const AdamNode node_;
  const Update update_;
};

class SgdKernel final : public Kernel {
 public:
  explicit SgdKernel(const KernelArgs& args)
      : node_(ReadSgd(args)), update_(node_, args.rank.threads) {}
  absl::Status Run(const StepContext& context) override {
    const auto& step = *static_cast<const StepScalars*>(context.user);
    if (update_.skips(step)) return update_.Keep();
    SgdScalars s = node_.scalars;
    s.lr = step.lr;
    s.grad_scale = update_.grad_scale();
    return update_.ForEachRun([&](const BucketRun& run) {
      s.weight_decay = run.decay ? node_.scalars.weight_decay : 0;
      return SgdUpdate(node_.p + run.begin, node_.grad_at(run),
                       node_.buffer != nullptr ? node_.buffer + run.begin : nullptr, run.count, s,
                       update_.options(run));
    });
  }

 private:
  const SgdNode node_;
  const Update update_;
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
