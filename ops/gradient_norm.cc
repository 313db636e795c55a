// grad_norm, norm_sum, clip_coefficient: the global 2-norm over all parameters and shards, and the factor
// min(1, max_norm / (norm + 1e-6)) (torch.nn.utils.clip_grad_norm_) that the optimizer applies to gradients.
// With a loss scale the factor also brings gradients back, a norm that is not finite makes the updates skip the step,
// and update_loss_scale moves the scale on. Any element of any rank that is not finite is in the norm, so all ranks
// agree.
// Partial sums are exact (ops/exact_norm.h), so the result has the same bits for every stage and bucket size.
//
//   node { name: "grad_norm/bucket_0" op: "grad_norm" input: "grad/bucket_0'" output: "norm/bucket_0" }
//   node { name: "norm_sum" op: "norm_sum" input: "norm/bucket_0" input: "norm/bucket_1" output: "norm" }
//   node { name: "clip_coefficient" op: "clip_coefficient" input: "norm" output: "coefficient" attr { name: "max_norm" f: 1 } }
#include <algorithm>
#include <cmath>
#include <cstring>

#include "dist/kernels.h"
#include "graph/base/loss_scale.h"
#include "graph/base/status.h"
#include "graph/ir/loss_scale_attrs.h"
#include "ops/bucket_runs.h"
#include "ops/exact_norm.h"
#include "ops/kernel_registry.h"
#include "ops/optimizer_kernels.h"

namespace millrace {
namespace {

class GradNorm final : public Kernel {
 public:
  explicit GradNorm(const KernelArgs& a)
      : x_(a.In<char>(0)),
        runs_(BucketRuns(a, a.input(0))),
        dtype_(a.input(0).dtype),
        out_(a.Out<int64_t>(0)) {}
  bool capturable() const override { return true; }
  absl::Status Run(const StepContext&) override {
    NormPartial partial;
    for (const BucketRun& run : runs_) {
      if (!run.statistic) partial.Add(Norm(x_ + run.begin * SizeOf(dtype_), run.count));
    }
    std::memcpy(out_, partial.words.data(), sizeof(partial.words));
    return absl::OkStatus();
  }

 private:
  NormPartial Norm(const void* x, int64_t n) const {
    if (dtype_ == DType::kF32) return PartialNorm(static_cast<const float*>(x), n);
    NormPartial partial;
    float wide[1024];
    for (int64_t i = 0; i < n; i += 1024) {
      const int64_t count = std::min<int64_t>(1024, n - i);
      Widen(dtype_, static_cast<const uint16_t*>(x) + i, wide, count);
      partial.Add(PartialNorm(wide, count));
    }
    return partial;
  }

  const char* const x_;
  const std::vector<BucketRun> runs_;
  const DType dtype_;
  int64_t* const out_;
};

// Sums the partials of `inputs`, each one or several (a gathered run, one per rank).
NormPartial Sum(const std::vector<std::pair<const int64_t*, int64_t>>& inputs) {
  NormPartial total;
  for (const auto& [words, count] : inputs) {
    for (int64_t i = 0; i < count; ++i) {
      NormPartial p;
      std::memcpy(p.words.data(), words + i * NormPartial::kWords, sizeof(p.words));
      total.Add(p);
    }
  }
  return total;
}

std::vector<std::pair<const int64_t*, int64_t>> Partials(const KernelArgs& a, int count) {
  std::vector<std::pair<const int64_t*, int64_t>> inputs;
  for (int i = 0; i < count; ++i)
    inputs.push_back({a.In<int64_t>(i), a.input(i).numel() / NormPartial::kWords});
  return inputs;
}

class NormSum final : public Kernel {
 public:
  explicit NormSum(const KernelArgs& a)
      : inputs_(Partials(a, a.inputs())), out_(a.Out<int64_t>(0)) {}
  bool capturable() const override { return true; }
  absl::Status Run(const StepContext&) override {
    const NormPartial total = Sum(inputs_);
    std::memcpy(out_, total.words.data(), sizeof(total.words));
    return absl::OkStatus();
  }

 private:
  const std::vector<std::pair<const int64_t*, int64_t>> inputs_;
  int64_t* const out_;
};

class ClipCoefficient final : public Kernel {
 public:
  explicit ClipCoefficient(const KernelArgs& a)
      : inputs_(Partials(a, 1)),
        max_norm_(FloatAttr(a.node(), "max_norm", 1.0)),
        scale_(a.inputs() > 1 ? a.In<LossScaleState>(1) : nullptr),
        out_(a.Out<float>(0)) {}
  bool capturable() const override { return true; }
  absl::Status Run(const StepContext&) override {
    const float norm = static_cast<float>(Sum(inputs_).Norm());
    if (scale_ == nullptr) {
      out_[0] = ClipFactor(norm, max_norm_);
      out_[1] = norm;
      return absl::OkStatus();
    }
    out_[0] = UnscaleClipFactor(norm, scale_->scale, max_norm_);
    out_[1] = norm / static_cast<float>(scale_->scale);
    out_[2] = std::isfinite(norm) ? 0 : 1;
    return absl::OkStatus();
  }

 private:
  const std::vector<std::pair<const int64_t*, int64_t>> inputs_;
  const double max_norm_;
  const LossScaleState* const scale_;
  float* const out_;
};

class NextLossScale final : public Kernel {
 public:
  explicit NextLossScale(const KernelArgs& a)
      : options_(LossScaleOptionsOf(a.node())),
        coefficient_(a.In<float>(0)),
        state_(a.In<LossScaleState>(1)) {}
  bool capturable() const override { return true; }
  absl::Status Run(const StepContext&) override {
    UpdateLossScale(options_, coefficient_[2] != 0,
                    state_);  // who gives up is the runner: it knows why
    return absl::OkStatus();
  }

 private:
  const LossScaleOptions options_;
  const float* const coefficient_;
  LossScaleState* const state_;
};

REGISTER_KERNEL(grad_norm, [](const KernelArgs& a) -> absl::StatusOr<std::unique_ptr<Kernel>> {
  return std::make_unique<GradNorm>(a);
});
REGISTER_KERNEL(norm_sum, [](const KernelArgs& a) -> absl::StatusOr<std::unique_ptr<Kernel>> {
  return std::make_unique<NormSum>(a);
});
REGISTER_KERNEL(update_loss_scale,
                [](const KernelArgs& a) -> absl::StatusOr<std::unique_ptr<Kernel>> {
                  return std::make_unique<NextLossScale>(a);
                });
REGISTER_KERNEL(clip_coefficient,
                [](const KernelArgs& a) -> absl::StatusOr<std::unique_ptr<Kernel>> {
                  return std::make_unique<ClipCoefficient>(a);
                });

}  // namespace
}  // namespace millrace
