// How well masks were found: Dice, IoU, sensitivity and specificity.
//
//   SegmentationMeter meter;
//   meter.Add(logits, mask, /*classes=*/1, height * width);          // one image
//   meter.Merge(other_ranks_meter);
//   SegmentationScores s = meter.Scores();                           // s.hard.dice, s.sensitivity, ...
//
// p = sigmoid(logit). Dice and IoU are taken per image - of several classes per image and class - and averaged:
// `soft` on p itself, `hard` on p > 0.5. An object that is neither there nor found counts as found exactly.
// Sensitivity and specificity are taken over the pixels of all images together. Not thread-safe.
#ifndef MILLRACE_DATA_METRICS_SEGMENTATION_H_
#define MILLRACE_DATA_METRICS_SEGMENTATION_H_

#include <cstdint>

namespace millrace {

struct SegmentationScores {
  struct OfOverlap {
    double dice = 0, iou = 0;
  };
  OfOverlap soft, hard;
  double sensitivity = 0, specificity = 0;
};

class SegmentationMeter {
 public:
  struct Confusion {
    int64_t true_positive = 0, true_negative = 0, false_positive = 0, false_negative = 0;
  };

  // logits [classes, pixels]; mask [pixels] with 0 for background. One class: whatever is not background; more:
  // channel c is held against c + 1.
  void Add(const float* logits, const uint8_t* mask, int64_t classes, int64_t pixels);
  void Merge(const SegmentationMeter& other);

  SegmentationScores Scores() const;  // all 0 when nothing was added
  const Confusion& confusion() const { return confusion_; }

 private:
  int64_t masks_ = 0;                          // images x classes
  SegmentationScores::OfOverlap soft_, hard_;  // sums
  Confusion confusion_;
};

}  // namespace millrace

#endif  // MILLRACE_DATA_METRICS_SEGMENTATION_H_
