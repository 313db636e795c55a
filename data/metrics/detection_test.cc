#include "data/metrics/detection.h"

#include <cmath>

#include "gtest/gtest.h"

namespace millrace {
namespace {

constexpr BoxXywh kBox{10, 10, 50, 50}, kElsewhere{200, 200, 50, 50};

void Object(DetectionMeter& m, int64_t image, const BoxXywh& box, int64_t category = 0,
            bool crowd = false) {
  m.AddObject({image, category, box, box.w * box.h, crowd});
}

TEST(DetectionMeter, WhatIsFoundExactlyScoresOneAndAbsentSizesAreSaidToBeAbsent) {
  DetectionMeter m(2);
  Object(m, 1, kBox);
  m.AddDetection({1, 0, 0.9, kBox});
  const DetectionScores s = m.Scores();
  EXPECT_DOUBLE_EQ(s.ap(), 1);
  EXPECT_DOUBLE_EQ(s.ap50(), 1);
  EXPECT_DOUBLE_EQ(s.ap75(), 1);
  EXPECT_DOUBLE_EQ(s.medium(), 1);
  EXPECT_EQ(s.small(), -1);
  EXPECT_EQ(s.large(), -1);
  EXPECT_DOUBLE_EQ(s.by_category[0][9], 1);
  EXPECT_EQ(s.by_category[1][0], -1);
}

TEST(DetectionMeter, NothingFoundIsZeroAndNothingThereIsAbsent) {
  DetectionMeter m(1);
  EXPECT_EQ(m.Scores().ap(), -1);
  m.AddDetection({1, 0, 0.9, kBox});
  EXPECT_EQ(m.Scores().ap(), -1);
  Object(m, 2, kBox);
  EXPECT_EQ(m.Scores().ap(), 0);
}

TEST(DetectionMeter, AWrongDetectionOfHigherScoreHalvesPrecision) {
  DetectionMeter m(1);
  Object(m, 1, kBox);
  m.AddDetection({1, 0, 0.9, kElsewhere});
  m.AddDetection({1, 0, 0.8, kBox});
  EXPECT_NEAR(m.Scores().ap(), 0.5, 1e-12);
  EXPECT_DOUBLE_EQ(m.Scores().stats[6], 0);  // the first alone finds nothing
  EXPECT_DOUBLE_EQ(m.Scores().stats[7], 1);
}

TEST(DetectionMeter, AnObjectIsFoundOnce) {
  DetectionMeter m(1);
  Object(m, 1, kBox);
  Object(m, 1, kElsewhere);
  m.AddDetection({1, 0, 0.9, kBox});
  m.AddDetection({1, 0, 0.8, kBox});
  m.AddDetection({1, 0, 0.7, kElsewhere});
  // Precision 1 up to recall 0.5 (51 of 101 recalls), then 2/3.
  EXPECT_NEAR(m.Scores().ap(), (51 + 50 * 2.0 / 3) / 101, 1e-12);
}

TEST(DetectionMeter, ThresholdsCountFromTheirOwnValueOn) {
  DetectionMeter m(1);
  Object(m, 1, {0, 0, 100, 100});
  m.AddDetection({1, 0, 0.9, {0, 0, 100, 75}});  // IoU 0.75: right at 0.50 ... 0.75
  EXPECT_NEAR(m.Scores().ap(), 0.6, 1e-12);
  EXPECT_DOUBLE_EQ(m.Scores().ap75(), 1);
  EXPECT_EQ(m.Scores().by_category[0][6], 0);
}

TEST(DetectionMeter, WhatLiesInACrowdIsNeitherRightNorWrong) {
  DetectionMeter m(1);
  Object(m, 1, kBox);
  Object(m, 1, {200, 200, 200, 200}, 0, /*crowd=*/true);
  for (const double x : {200.0, 260.0, 320.0}) {
    m.AddDetection({1, 0, 0.95, {x, 210, 50, 50}});  // small parts of the group
  }
  m.AddDetection({1, 0, 0.9, kBox});
  EXPECT_DOUBLE_EQ(m.Scores().ap(), 1);
}

TEST(DetectionMeter, AnObjectComesBeforeACrowdThatOverlapsMore) {
  DetectionMeter m(1);
  Object(m, 1, {0, 0, 100, 60});
  Object(m, 1, {0, 0, 100, 100}, 0, /*crowd=*/true);
  m.AddDetection({1, 0, 0.9, {0, 0, 100, 100}});
  EXPECT_DOUBLE_EQ(m.Scores().ap50(), 1);
}

TEST(DetectionMeter, SizesAreByTheObjectsOwnArea) {
  DetectionMeter m(1);
  m.AddObject({1, 0, kBox, /*area=*/900, false});  // a thin object in a box of 2500
  m.AddDetection({1, 0, 0.9, kBox});
  EXPECT_DOUBLE_EQ(m.Scores().small(), 1);
  EXPECT_EQ(m.Scores().medium(), -1);
}

TEST(DetectionMeter, ADetectionOutsideTheRangeThatFindsNothingIsLeftOut) {
  DetectionMeter m(1);
  Object(m, 1, {0, 0, 20, 20});
  m.AddDetection({1, 0, 0.9, {300, 300, 200, 200}});  // large and wrong
  m.AddDetection({1, 0, 0.8, {0, 0, 20, 20}});
  EXPECT_NEAR(m.Scores().ap(), 0.5, 1e-12);
  EXPECT_DOUBLE_EQ(m.Scores().small(), 1);
}

TEST(DetectionMeter, OnlyTheHundredBestOfAnImageCount) {
  DetectionMeter m(1);
  Object(m, 1, kBox);
  for (int i = 0; i < 100; ++i) m.AddDetection({1, 0, 0.9, kElsewhere});
  m.AddDetection({1, 0, 0.8, kBox});
  EXPECT_EQ(m.Scores().ap(), 0);
}

TEST(DetectionMeter, OfEqualScoresTheFirstAddedComesFirstThenTheLowerImage) {
  const auto score = [](bool right_first) {
    DetectionMeter m(1);
    Object(m, 1, kBox);
    for (const bool right : {right_first, !right_first}) {
      m.AddDetection({1, 0, 0.5, right ? kBox : kElsewhere});
    }
    return m.Scores().ap();
  };
  EXPECT_DOUBLE_EQ(score(true), 1);
  EXPECT_NEAR(score(false), 0.5, 1e-12);
  // Two ranks: whoever is merged first, image 1 is before image 2.
  for (const int64_t right : {1, 2}) {
    for (const bool swap : {false, true}) {
      DetectionMeter a(1), b(1);
      Object(a, right, kBox);
      a.AddDetection({right, 0, 0.5, kBox});
      b.AddDetection({3 - right, 0, 0.5, kElsewhere});
      DetectionMeter& first = swap ? b : a;
      first.Merge(swap ? a : b);
      EXPECT_NEAR(first.Scores().ap(), right == 1 ? 1 : 0.5, 1e-12);
    }
  }
}

TEST(DetectionMeter, AScoreThatIsNoNumberStandsLastAndUnknownCategoriesDoNotCount) {
  DetectionMeter m(1);
  Object(m, 1, kBox);
  Object(m, 1, kBox, 7);
  m.AddDetection({1, 0, std::nan(""), kElsewhere});
  m.AddDetection({1, 0, 0.1, kBox});
  m.AddDetection({1, -1, 0.9, kBox});
  EXPECT_DOUBLE_EQ(m.Scores().ap(), 1);
}

}  // namespace
}  // namespace millrace
