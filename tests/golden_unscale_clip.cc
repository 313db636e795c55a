// Kind unscale_clip: gradients that carry a loss scale S, brought back and clipped in one multiplication, against
// DeepSpeed's ZeRO: g / (S * max(1, (norm / S + 1e-6) / clip)), norm being that of the scaled gradients.
#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "graph/base/status.h"
#include "ops/exact_norm.h"
#include "ops/optimizer_kernels.h"
#include "tests/golden_case.h"

namespace millrace {
namespace {

absl::StatusOr<GoldenOutputs> UnscaleClip(const GoldenCase& c) {
  GoldenArgs args(c.args);
  const double scale = std::ldexp(1.0, args.Get("power", 0));
  const auto clips = args.Get("clips", std::vector<double>{});
  args.Get("n", int64_t{0});  // how the inputs were drawn
  args.Get("grad_scale", 1.0);
  RETURN_IF_ERROR(args.AllWereRead());
  ASSIGN_OR_RETURN(const auto grad, c.Input("input.scaled_grad"));
  const int64_t n = static_cast<int64_t>(grad.size());

  const double norm = PartialNorm(grad.data(), n).Norm();
  GoldenOutputs outputs;
  std::vector<double> combined;
  for (const double clip : clips) {
    const float factor = UnscaleClipFactor(static_cast<float>(norm), scale, clip);
    combined.push_back(1 / static_cast<double>(factor));
    std::vector<float> clipped(grad.begin(), grad.end());
    for (float& g : clipped) g *= factor;
    outputs.Put(absl::StrCat("output.grad_clip_", absl::StrFormat("%g", clip)), {n},
                clipped.data());
  }
  const float norm32 = static_cast<float>(norm);
  outputs.Put("output.scaled_norm", {1}, &norm32);
  outputs.Put("output.combined_scale", {static_cast<int64_t>(combined.size())}, combined.data());
  return outputs;
}

REGISTER_GOLDEN_KIND(unscale_clip, UnscaleClip);

}  // namespace
}  // namespace millrace
