#include "data/metrics/segmentation.h"

#include <vector>

#include "gtest/gtest.h"

namespace millrace {
namespace {

SegmentationMeter Of(const std::vector<float>& logits, const std::vector<uint8_t>& mask,
                     int64_t classes = 1) {
  SegmentationMeter meter;
  meter.Add(logits.data(), mask.data(), classes, static_cast<int64_t>(mask.size()));
  return meter;
}

TEST(SegmentationMeter, CountsByHand) {
  // Found: the first two of four; there: the second and the third.
  const SegmentationMeter meter = Of({9, 9, -9, -9}, {0, 1, 1, 0});
  EXPECT_EQ(meter.confusion().true_positive, 1);
  EXPECT_EQ(meter.confusion().true_negative, 1);
  EXPECT_EQ(meter.confusion().false_positive, 1);
  EXPECT_EQ(meter.confusion().false_negative, 1);
  const SegmentationScores s = meter.Scores();
  EXPECT_NEAR(s.hard.dice, 0.5, 1e-6);
  EXPECT_NEAR(s.hard.iou, 1.0 / 3, 1e-6);
  EXPECT_NEAR(s.sensitivity, 0.5, 1e-6);
  EXPECT_NEAR(s.specificity, 0.5, 1e-6);
}

TEST(SegmentationMeter, APixelOfExactlyOneHalfIsNotFound) {
  const SegmentationMeter meter = Of({0, 0.01f}, {1, 1});
  EXPECT_EQ(meter.confusion().true_positive, 1);
  EXPECT_NEAR(meter.Scores().soft.dice, 2 * 1.0025 / (1.0025 + 2), 1e-4);
}

TEST(SegmentationMeter, AnEmptyMaskIsFoundExactlyByFindingNothing) {
  EXPECT_NEAR(Of({-9, -9}, {0, 0}).Scores().hard.dice, 1, 1e-9);
  EXPECT_NEAR(Of({-9, -9}, {0, 0}).Scores().hard.iou, 1, 1e-9);
  EXPECT_NEAR(Of({9, -9}, {0, 0}).Scores().hard.dice, 0, 1e-5);
}

TEST(SegmentationMeter, ImagesCountEquallyAndPixelsTogether) {
  SegmentationMeter meter = Of({9, 9, 9, 9}, {1, 1, 1, 1});
  meter.Merge(Of({-9}, {1}));
  EXPECT_NEAR(meter.Scores().hard.dice, 0.5, 1e-5);
  EXPECT_NEAR(meter.Scores().sensitivity, 0.8, 1e-6);
}

TEST(SegmentationMeter, OfSeveralClassesEachHasItsChannel) {
  // Pixels: class 1, class 2, background. Channel 0 finds the first, channel 1 the last.
  const SegmentationScores s = Of({9, -9, -9, -9, -9, 9}, {1, 2, 0}, 2).Scores();
  EXPECT_NEAR(s.hard.dice, 0.5, 1e-5);
}

TEST(SegmentationMeter, OfNothingIsNothing) {
  EXPECT_EQ(SegmentationMeter().Scores().hard.dice, 0);
}

}  // namespace
}  // namespace millrace
