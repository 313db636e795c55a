// Kind seg_metrics: Dice and IoU on probabilities and at one half, sensitivity, specificity and what they count.
#include <cstdint>
#include <utility>
#include <vector>

#include "data/metrics/segmentation.h"
#include "graph/base/status.h"
#include "tests/golden_case.h"

namespace millrace {
namespace {

absl::StatusOr<GoldenOutputs> SegMetrics(const GoldenCase& c) {
  GoldenArgs args(c.args);
  const auto shape = args.Get("shape", std::vector<int64_t>{});
  args.Get("density", 0.0);  // how the inputs were drawn
  args.Get("empty_row", int64_t{0});
  RETURN_IF_ERROR(args.AllWereRead());
  ASSIGN_OR_RETURN(const auto logits, c.Input("input.logits"));
  ASSIGN_OR_RETURN(const auto target, c.Input("input.target"));
  const std::vector<uint8_t> mask(target.begin(), target.end());

  const int64_t pixels = shape.at(2) * shape.at(3);
  // As two ranks would: even and odd images.
  SegmentationMeter meter, other;
  for (int64_t i = 0; i < shape[0]; ++i) {
    (i % 2 == 0 ? meter : other)
        .Add(logits.data() + i * pixels, mask.data() + i * pixels, 1, pixels);
  }
  meter.Merge(other);
  const SegmentationScores s = meter.Scores();
  const SegmentationMeter::Confusion& n = meter.confusion();

  GoldenOutputs outputs;
  for (const auto& [name, value] : {std::pair{"output.dice_soft", s.soft.dice},
                                    {"output.iou_soft", s.soft.iou},
                                    {"output.dice_hard", s.hard.dice},
                                    {"output.iou_hard", s.hard.iou},
                                    {"output.sensitivity", s.sensitivity},
                                    {"output.specificity", s.specificity}}) {
    const float value32 = static_cast<float>(value);
    outputs.Put(name, {}, &value32);
  }
  const std::vector<int64_t> counts{n.true_positive, n.true_negative, n.false_positive,
                                    n.false_negative};
  const std::vector<float> confusion(counts.begin(), counts.end());
  outputs.Put("output.confusion_tp_tn_fp_fn", {4}, confusion.data());
  return outputs;
}

REGISTER_GOLDEN_KIND(seg_metrics, SegMetrics);

}  // namespace
}  // namespace millrace
