// softmax_cross_entropy, for steps written by hand: mean loss over this rank's rows and its gradient, in one pass.
//
//   node { name: "loss" op: "softmax_cross_entropy" input: "logits" input: "labels" output: "loss" output: "dlogits" }
//
// `dlogits` carries the factor 1 / (rows x ranks), so that weight gradients summed over rows and ranks are the
// mean over the global batch.
#include <algorithm>
#include <cmath>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "graph/base/status.h"
#include "graph/ir/op_contract.h"
#include "ops/kernel_registry.h"

namespace millrace {
namespace {

absl::Status InferLoss(InferContext& c) {
  const Value &logits = *c.inputs[0], &labels = *c.inputs[1];
  if (logits.shape.size() != 2 || logits.dtype != DType::kF32) {
    return absl::InvalidArgumentError(
        absl::StrCat("logits '", logits.name, "' must be f32 [rows, classes]"));
  }
  if (labels.dtype != DType::kI64 || labels.shape != std::vector<int64_t>{logits.shape[0]}) {
    return absl::InvalidArgumentError(
        absl::StrCat("labels '", labels.name, "' must be i64 [", logits.shape[0], "]"));
  }
  Value loss;  // one number
  Value dlogits;
  dlogits.shape = logits.shape;
  c.outputs = {loss, dlogits};
  return absl::OkStatus();
}

REGISTER_OP_CONTRACT(softmax_cross_entropy,
                     OpContract("softmax_cross_entropy",
                                "mean of -log softmax(logits)[label], and its gradient")
                         .In("logits", "[rows, classes]")
                         .In("labels", "[rows], 0 .. classes - 1")
                         .Out("loss", "one number: the mean over this rank's rows")
                         .Out("dlogits", "gradient of the mean over all ranks' rows")
                         .Infer(InferLoss)
                         .Cost([](const Graph& g, const Node& n) {
                           const int64_t numel = g.values()[n.inputs[0]].numel();
                           return OpCost{numel * 10, numel * 12};
                         }));

class SoftmaxCrossEntropy final : public Kernel {
 public:
  explicit SoftmaxCrossEntropy(const KernelArgs& a)
      : logits_(a.In<float>(0)),
        labels_(a.In<int64_t>(1)),
        loss_(a.Out<float>(0)),
        dlogits_(a.Out<float>(1)),
        rows_(a.input(0).shape[0]),
        classes_(a.input(0).shape[1]),
        ranks_(a.plan.graph.group_size("data")) {}

  bool capturable() const override { return true; }
  absl::Status Run(const StepContext&) override {
    const double factor = 1.0 / static_cast<double>(rows_ * ranks_);
    double total = 0;
    for (int64_t r = 0; r < rows_; ++r) {
      const float* x = logits_ + r * classes_;
      float* dx = dlogits_ + r * classes_;
      if (labels_[r] < 0 || labels_[r] >= classes_) {
        return absl::OutOfRangeError(
            absl::StrCat("label ", labels_[r], " of row ", r, " is not in 0..", classes_ - 1));
      }
      const float top = *std::max_element(x, x + classes_);
      double sum = 0;
      for (int64_t c = 0; c < classes_; ++c) sum += std::exp(static_cast<double>(x[c] - top));
      for (int64_t c = 0; c < classes_; ++c) {
        const double p = std::exp(static_cast<double>(x[c] - top)) / sum;
        dx[c] = static_cast<float>((p - (c == labels_[r] ? 1.0 : 0.0)) * factor);
      }
      total += std::log(sum) - static_cast<double>(x[labels_[r]] - top);
    }
    *loss_ = static_cast<float>(total / static_cast<double>(rows_));
    return absl::OkStatus();
  }

 private:
  const float* const logits_;
  const int64_t* const labels_;
  float *const loss_, *const dlogits_;
  const int64_t rows_, classes_, ranks_;
};

REGISTER_KERNEL(softmax_cross_entropy,
                [](const KernelArgs& a) -> absl::StatusOr<std::unique_ptr<Kernel>> {
                  return std::make_unique<SoftmaxCrossEntropy>(a);
                });

}  // namespace
}  // namespace millrace
