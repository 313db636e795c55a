// adamw, adam, sgd: update one bucket, or this rank's shard of it, in place. accumulate: adds one
// micro-batch's gradient to the total.
//
//   node { name: "adamw/bucket_0" op: "adamw" input: "param/bucket_0" input: "grad/bucket_0'"
//          input: "exp_avg/bucket_0" input: "exp_avg_sq/bucket_0" input: "clip_coefficient"
//          output: "param/bucket_0'" output: "exp_avg/bucket_0'" output: "exp_avg_sq/bucket_0'" }
//
// Weight decay is left out for parameters that ask for it (ParamSpec::weight_decay), so the bucket is walked in
// runs of equal setting. Padding between parameters holds zeros and stays zero.
#include <algorithm>
#include <cstdint>

#include "graph/base/status.h"
#include "ops/kernel_registry.h"
#include "ops/optimizer_kernels.h"

namespace millrace {
namespace {

struct DecayRun {
  int64_t begin, count;
  bool decay;
};

// The runs of the bytes that `value` covers, relative to its first element.
std::vector<DecayRun> DecayRuns(const KernelArgs& args, const Value& value) {
  const int64_t n = value.numel();
  if (value.bucket < 0 || args.rank.spec == nullptr) return {{0, n, true}};
  // Sharded values hold part r of the flat bucket, wherever they lie.
  const bool part = value.sharding == Sharding::kSharded || value.own_shard;
  const int64_t first = part ? args.rank.rank % args.plan.graph.group_size(value.group) * n : 0;
  std::vector<DecayRun> runs;
  for (const ParamSlot& slot : args.plan.graph.buckets()[value.bucket].slots) {
    const int64_t begin = std::max<int64_t>(0, slot.offset - first);
    const int64_t end = std::min(n, slot.offset + slot.numel - first);
    if (begin >= end) continue;
    const bool decay = args.rank.spec->stages[slot.stage].params[slot.param].weight_decay;
    if (!runs.empty() && runs.back().decay == decay) {
      runs.back().count = end - runs.back().begin;  // over the padding, which holds zeros
    } else {
      runs.push_back({begin, end - begin, decay});
    }
  }
  return runs;
}

class AdamKernel final : public Kernel {
 public:
  AdamKernel(const KernelArgs& args, bool decoupled)
      : runs_(DecayRuns(args, args.input(0))),
        p_(args.In<float>(0)),
        g_(args.In<float>(1)),
        m_(args.In<float>(2)),
        v_(args.In<float>(3)),
        coefficient_(args.inputs() > 4 ? args.In<float>(4) : nullptr) {
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
    if (step.update <= delay_) return absl::OkStatus();  // no gradient has come yet
    AdamScalars s = scalars_;
    s.lr = step.lr;
    s.step = step.update - delay_;
    s.grad_scale = coefficient_ != nullptr ? *coefficient_ : 1.0f;
    for (const DecayRun& run : runs_) {
      s.weight_decay = run.decay ? scalars_.weight_decay : 0;
      AdamUpdate(p_ + run.begin, g_ + run.begin, m_ + run.begin, v_ + run.begin, run.count, s);
    }
    return absl::OkStatus();
  }

 private:
  const std::vector<DecayRun> runs_;
  float *const p_, *const g_, *const m_, *const v_;
  const float* const coefficient_;
  AdamScalars scalars_;
  int64_t delay_ = 0;  // steps from a gradient to its update
};

class SgdKernel final : public Kernel {
 public:
  explicit SgdKernel(const KernelArgs& args)
      : runs_(DecayRuns(args, args.input(0))), p_(args.In<float>(0)), g_(args.In<float>(1)) {
    const OptimizerSettings& o = args.rank.optimizer;
    scalars_.momentum = FloatAttr(args.node(), "momentum", o.momentum);
    scalars_.weight_decay = FloatAttr(args.node(), "weight_decay", o.weight_decay);
    scalars_.nesterov = o.nesterov;
    delay_ = IntAttr(args.node(), "delay", 0);
    // Inputs after the gradient: the momentum buffer, the clip coefficient; each may be absent.
    for (int i = 2; i < args.inputs(); ++i) {
      if (args.input(i).numel() == args.input(0).numel() && buffer_ == nullptr &&
          scalars_.momentum != 0) {
        buffer_ = args.In<float>(i);
      } else {
        coefficient_ = args.In<float>(i);
      }
    }
  }
  absl::Status Run(const StepContext& context) override {
    const auto& step = *static_cast<const StepScalars*>(context.user);
    if (step.update <= delay_) return absl::OkStatus();  // no gradient has come yet
    SgdScalars s = scalars_;
    s.lr = step.lr;
    s.grad_scale = coefficient_ != nullptr ? *coefficient_ : 1.0f;
    for (const DecayRun& run : runs_) {
      s.weight_decay = run.decay ? scalars_.weight_decay : 0;
      SgdUpdate(p_ + run.begin, g_ + run.begin, buffer_ != nullptr ? buffer_ + run.begin : nullptr,
                run.count, s);
    }
    return absl::OkStatus();
  }

 private:
  const std::vector<DecayRun> runs_;
  float *const p_, *const g_;
  float* buffer_ = nullptr;
  const float* coefficient_ = nullptr;
  SgdScalars scalars_;
  int64_t delay_ = 0;
};

class Accumulate final : public Kernel {
 public:
  explicit Accumulate(const KernelArgs& args)
      : total_(args.In<float>(0)), addend_(args.In<float>(1)), n_(args.input(0).numel()) {}
  absl::Status Run(const StepContext&) override {
    AddInPlace(total_, addend_, n_);
    return absl::OkStatus();
  }

 private:
  float *const total_, *const addend_;
  const int64_t n_;
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
