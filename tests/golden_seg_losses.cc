// Kind seg_losses: binary cross-entropy, Dice and their mean, and cross-entropy with and without label smoothing; each
// value with its own gradient.
#include <torch/csrc/autograd/autograd.h>

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "graph/base/status.h"
#include "models/layers.h"
#include "models/losses.h"
#include "tests/golden_case.h"
#include "tests/golden_stages.h"

namespace millrace {
namespace {

absl::StatusOr<GoldenOutputs> SegLosses(const GoldenCase& c) {
  GoldenArgs args(c.args);
  args.Get("shape", std::vector<int64_t>{});  // how the inputs were drawn
  RETURN_IF_ERROR(args.AllWereRead());
  ASSIGN_OR_RETURN(const at::Tensor logits, GoldenTensor(c, "input.logits"));
  ASSIGN_OR_RETURN(const at::Tensor target, GoldenTensor(c, "input.target"));
  ASSIGN_OR_RETURN(const at::Tensor ce_logits, GoldenTensor(c, "input.ce_logits"));
  ASSIGN_OR_RETURN(const at::Tensor labels, GoldenTensor(c, "input.ce_target"));
  const at::Tensor masks = target.squeeze(1).to(at::kByte);

  GoldenOutputs outputs;
  const auto put = [&](const std::string& name, const std::string& input, const at::Tensor& x,
                       const auto& loss) {
    const at::Tensor leaf = x.clone().requires_grad_(true);
    const at::Tensor value = loss(leaf);
    PutTensor(outputs, absl::StrCat("output.", name), value.detach());
    PutTensor(outputs, absl::StrCat("grad_input.", input, "_", name),
              torch::autograd::grad({value}, {leaf})[0]);
  };
  for (const auto& [name, weights] :
       {std::pair{"bce", MaskWeights{1, 0}}, {"dice", MaskWeights{0, 1}}}) {
    put(name, "logits", logits,
        [&, w = weights](const at::Tensor& x) { return MaskLoss(x, masks, w); });
  }
  put("combined", "logits", logits, [&](const at::Tensor& x) { return BceDiceLoss(x, masks); });
  for (const auto& [name, smoothing] : {std::pair{"ce", 0.0}, {"ce_smooth", 0.1}}) {
    put(name, "ce_logits", ce_logits,
        [&, s = smoothing](const at::Tensor& x) { return layers::CrossEntropy(x, labels, s); });
  }
  return outputs;
}

REGISTER_GOLDEN_KIND(seg_losses, SegLosses);

}  // namespace
}  // namespace millrace
