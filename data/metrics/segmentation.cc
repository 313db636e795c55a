#include "data/metrics/segmentation.h"

#include <cmath>

namespace millrace {
namespace {

constexpr double kSmooth = 1e-6;

// both: sum of p t; all: sum of p and of t.
void AddOverlap(double both, double all, SegmentationScores::OfOverlap* sum) {
  sum->dice += (2 * both + kSmooth) / (all + kSmooth);
  sum->iou += (both + kSmooth) / (all - both + kSmooth);
}

double Share(int64_t right, int64_t wrong) {
  return static_cast<double>(right) / (static_cast<double>(right + wrong) + kSmooth);
}

}  // namespace

void SegmentationMeter::Add(const float* logits, const uint8_t* mask, int64_t classes,
                            int64_t pixels) {
  for (int64_t c = 0; c < classes; ++c, logits += pixels) {
    double both = 0, all = 0;
    Confusion seen;
    for (int64_t i = 0; i < pixels; ++i) {
      const bool t = classes == 1 ? mask[i] != 0 : mask[i] == c + 1;
      const float p = 1 / (1 + std::exp(-logits[i]));
      both += t ? static_cast<double>(p) : 0;
      all += static_cast<double>(p) + t;
      const bool found = p > 0.5f;
      seen.true_positive += found && t;
      seen.true_negative += !found && !t;
      seen.false_positive += found && !t;
      seen.false_negative += !found && t;
    }
    AddOverlap(both, all, &soft_);
    const double hits = static_cast<double>(seen.true_positive);
    AddOverlap(hits, 2 * hits + static_cast<double>(seen.false_positive + seen.false_negative),
               &hard_);
    confusion_.true_positive += seen.true_positive;
    confusion_.true_negative += seen.true_negative;
    confusion_.false_positive += seen.false_positive;
    confusion_.false_negative += seen.false_negative;
    ++masks_;
  }
}

void SegmentationMeter::Merge(const SegmentationMeter& o) {
  masks_ += o.masks_;
  soft_.dice += o.soft_.dice, soft_.iou += o.soft_.iou;
  hard_.dice += o.hard_.dice, hard_.iou += o.hard_.iou;
  confusion_.true_positive += o.confusion_.true_positive;
  confusion_.true_negative += o.confusion_.true_negative;
  confusion_.false_positive += o.confusion_.false_positive;
  confusion_.false_negative += o.confusion_.false_negative;
}

SegmentationScores SegmentationMeter::Scores() const {
  if (masks_ == 0) return {};
  const double n = static_cast<double>(masks_);
  const Confusion& c = confusion_;
  return {{soft_.dice / n, soft_.iou / n},
          {hard_.dice / n, hard_.iou / n},
          Share(c.true_positive, c.false_negative),
          Share(c.true_negative, c.false_positive)};
}

}  // namespace millrace
