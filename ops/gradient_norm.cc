// grad_norm, norm_sum, clip_coefficient: the global 2-norm over all parameters and shards, and the factor
// min(1, max_norm / (norm + 1e-6)) (torch.nn.utils.clip_grad_norm_) that the optimizer applies to gradients.
// Partial sums are exact (ops/exact_norm.h), so the result has the same bits for every stage and bucket size.
//
//   node { name: "grad_norm/bucket_0" op: "grad_norm" input: "grad/bucket_0'" output: "norm/bucket_0" }
//   node { name: "norm_sum" op: "norm_sum" input: "norm/bucket_0" input: "norm/bucket_1" output: "norm" }
//   node { name: "clip_coefficient" op: "clip_coefficient" input: "norm" output: "coefficient" attr { name: "max_norm" f: 1 } }
#include <cstring>

#include "graph/base/status.h"
#include "ops/exact_norm.h"
#include "ops/kernel_registry.h"
#include "ops/optimizer_kernels.h"

namespace millrace {
namespace {

class GradNorm final : public Kernel {
 public:
  explicit GradNorm(const KernelArgs& a)
      : x_(a.In<float>(0)), n_(a.input(0).numel()), out_(a.Out<int64_t>(0)) {}
  absl::Status Run(const StepContext&) override {
    const NormPartial partial = PartialNorm(x_, n_);
    std::memcpy(out_, partial.words.data(), sizeof(partial.words));
    return absl::OkStatus();
  }

 private:
  const float* const x_;
  const int64_t n_;
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

std::vector<std::pair<const int64_t*, int64_t>> Partials(const KernelArgs& a) {
  std::vector<std::pair<const int64_t*, int64_t>> inputs;
  for (int i = 0; i < a.inputs(); ++i)
    inputs.push_back({a.In<int64_t>(i), a.input(i).numel() / NormPartial::kWords});
  return inputs;
}

class NormSum final : public Kernel {
 public:
  explicit NormSum(const KernelArgs& a) : inputs_(Partials(a)), out_(a.Out<int64_t>(0)) {}
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
      : inputs_(Partials(a)),
        max_norm_(FloatAttr(a.node(), "max_norm", 1.0)),
        out_(a.Out<float>(0)) {}
  absl::Status Run(const StepContext&) override {
    const float norm = static_cast<float>(Sum(inputs_).Norm());
    out_[0] = ClipFactor(norm, max_norm_);
    out_[1] = norm;
    return absl::OkStatus();
  }

 private:
  const std::vector<std::pair<const int64_t*, int64_t>> inputs_;
  const double max_norm_;
  float* const out_;
};

REGISTER_KERNEL(grad_norm, [](const KernelArgs& a) -> absl::StatusOr<std::unique_ptr<Kernel>> {
  return std::make_unique<GradNorm>(a);
});
REGISTER_KERNEL(norm_sum, [](const KernelArgs& a) -> absl::StatusOr<std::unique_ptr<Kernel>> {
  return std::make_unique<NormSum>(a);
});
REGISTER_KERNEL(clip_coefficient,
                [](const KernelArgs& a) -> absl::StatusOr<std::unique_ptr<Kernel>> {
                  return std::make_unique<ClipCoefficient>(a);
                });

}  // namespace
}  // namespace millrace
