#include "pipelines/runner/scores.h"

#include <map>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace millrace {
namespace {

using testing::HasSubstr;

ModelSpec Spec(std::vector<TensorSpec> batch, std::vector<TensorSpec> outputs) {
  ModelSpec spec;
  spec.batch = std::move(batch);
  spec.stages.emplace_back();
  spec.stages.back().outputs = std::move(outputs);
  return spec;
}

std::map<std::string, double> ByName(const EvalMetrics& m) {
  return {m.values.begin(), m.values.end()};
}

TEST(Scores, ClassificationCountsRanksOfLabelsAndNoPadding) {
  const ModelSpec spec = Spec({{"images", DType::kF32, {3, 1, 1, 1}}, {"labels", DType::kI64, {3}}},
                              {{"loss"}, {"logits", DType::kF32, {3, 6}}});
  const float logits[] = {9, 0, 0, 0, 0, 0, /**/ 5, 4, 3, 2, 1, 0, /**/ 0, 9, 9, 9, 9, 9};
  const int64_t labels[] = {0, 4, 0};
  auto scores = Scores::Create(Task::kClassification, spec, nullptr);
  ASSERT_TRUE(scores.ok()) << scores.status();
  ASSERT_TRUE((*scores)->Add({{7, 8}, {nullptr, labels}, {nullptr, logits}}).ok());
  const EvalMetrics m = (*scores)->Result();
  EXPECT_EQ(m.samples, 2);
  EXPECT_EQ(m.values, (std::vector<std::pair<std::string, double>>{{"top1", 0.5}, {"top5", 1}}));
  EXPECT_NEAR(m.loss, 2.2287, 1e-3);
}

TEST(Scores, SegmentationReadsTheFirstScaleAndTheLossOfFullBatches) {
  const ModelSpec spec = Spec(
      {{"images", DType::kF32, {2, 3, 1, 2}},
       {"images.1", DType::kF32, {2, 3, 1, 1}},
       {"masks", DType::kU8, {2, 1, 2}}},
      {{"loss"}, {"logits.1", DType::kF32, {2, 1, 1, 1}}, {"logits", DType::kF32, {2, 1, 1, 2}}});
  const float logits[] = {9, -9, 9, 9}, first = 0.25f, second = 4;
  const uint8_t masks[] = {1, 0, 0, 1};
  auto scores = Scores::Create(Task::kSegmentation, spec, nullptr);
  ASSERT_TRUE(scores.ok()) << scores.status();
  ASSERT_TRUE((*scores)->Add({{0, 1}, {nullptr, nullptr, masks}, {&first, nullptr, logits}}).ok());
  ASSERT_TRUE((*scores)->Add({{2}, {nullptr, nullptr, masks}, {&second, nullptr, logits}}).ok());
  const EvalMetrics m = (*scores)->Result();
  EXPECT_EQ(m.samples, 3);
  EXPECT_FLOAT_EQ(static_cast<float>(m.loss), 0.25f);
  auto values = ByName(m);
  EXPECT_NEAR(values["dice"], (1 + 2.0 / 3 + 1) / 3, 1e-5);
  EXPECT_NEAR(values["sensitivity"], 1, 1e-5);
  EXPECT_NEAR(values["specificity"], 2.0 / 3, 1e-5);
}

TEST(Scores, ALossOfPaddedBatchesAloneIsBetterThanNone) {
  const ModelSpec spec =
      Spec({{"masks", DType::kU8, {2, 1, 1}}}, {{"loss"}, {"logits", DType::kF32, {2, 1, 1, 1}}});
  const float logits[] = {1, 1}, loss = 3;
  const uint8_t masks[] = {1, 0};
  auto scores = Scores::Create(Task::kSegmentation, spec, nullptr);
  ASSERT_TRUE((*scores)->Add({{0}, {masks}, {&loss, logits}}).ok());
  EXPECT_EQ((*scores)->Result().loss, 3);
}

// Two queries, one image at a time.
ModelSpec Detector(int64_t channels) {
  return Spec({{"images", DType::kF32, {1, 3, 100, 200}},
               {"boxes", DType::kF32, {1, 3, 4}},
               {"classes", DType::kI64, {1, 3}}},
              {{"loss"},
               {"class_logits", DType::kF32, {1, 2, channels}},
               {"boxes", DType::kF32, {1, 2, 4}}});
}

// One object of category 1 in the left half of an image of 400 x 300.
class OneObject final : public GroundTruth {
 public:
  int64_t categories() const override { return 2; }
  absl::StatusOr<ImageTruth> Of(int64_t sample) const override {
    if (sample != 5) return absl::NotFoundError("no such sample");
    return ImageTruth{300, 400, {{5, 1, {0, 0, 200, 300}, 60000, false}}};
  }
};

TEST(Scores, DetectionsAreScaledToTheImagesOwnSize) {
  const ModelSpec spec = Detector(2);
  const float loss = 1, logits[] = {-9, 3, -9, -3};
  const float boxes[] = {0.25f, 0.5f, 0.5f, 1, 0.9f, 0.9f, 0.1f, 0.1f};
  auto scores = Scores::Create(Task::kDetection, spec, std::make_shared<OneObject>());
  ASSERT_TRUE(scores.ok()) << scores.status();
  ASSERT_TRUE((*scores)->Add({{5}, {nullptr, nullptr, nullptr}, {&loss, logits, boxes}}).ok());
  auto values = ByName((*scores)->Result());
  EXPECT_DOUBLE_EQ(values["ap"], 1);
  EXPECT_DOUBLE_EQ(values["ap_large"], 1);
  EXPECT_EQ(values["ap_small"], -1);
  EXPECT_FALSE((*scores)->Add({{6}, {}, {&loss, logits, boxes}}).ok());
}

TEST(Scores, AnExtraChannelMeansSoftmaxWithNoObjectLast) {
  const ModelSpec spec = Detector(3);
  // The first query sees the object with 0.6, the second one, wrong, with 0.3: "no object" is likelier.
  const float loss = 1, logits[] = {-9, 3, 2.5f, -9, 3, 4};
  const float boxes[] = {0.25f, 0.5f, 0.5f, 1, 0.9f, 0.9f, 0.1f, 0.1f};
  auto scores = Scores::Create(Task::kDetection, spec, std::make_shared<OneObject>());
  ASSERT_TRUE(scores.ok()) << scores.status();
  ASSERT_TRUE((*scores)->Add({{5}, {nullptr, nullptr, nullptr}, {&loss, logits, boxes}}).ok());
  EXPECT_DOUBLE_EQ(ByName((*scores)->Result())["ap"], 1);
}

TEST(Scores, WithoutGroundTruthTheBatchsBoxesStandInForIt) {
  const ModelSpec spec = Detector(2);
  const float loss = 1, logits[] = {3, -9, -9, 3};
  const float boxes[] = {0.25f, 0.5f, 0.5f, 1, 0.9f, 0.9f, 0.1f, 0.1f};
  const float targets[] = {0.25f, 0.5f, 0.5f, 1, 0, 0, 0, 0, 0.1f, 0.1f, 0.1f, 0.1f};
  const int64_t classes[] = {0, -1, 1};
  auto scores = Scores::Create(Task::kDetection, spec, nullptr);
  ASSERT_TRUE(scores.ok()) << scores.status();
  ASSERT_TRUE((*scores)->Add({{0}, {nullptr, targets, classes}, {&loss, logits, boxes}}).ok());
  auto values = ByName((*scores)->Result());
  EXPECT_DOUBLE_EQ(values["ap"], 0.5);      // of two categories one is found
  EXPECT_DOUBLE_EQ(values["ap_large"], 1);  // 100 x 100 pixels of the model's image
  EXPECT_DOUBLE_EQ(values["ap_small"], 0);
}

TEST(Scores, WhatTheTaskNeedsAndTheModelLacksIsNamed) {
  const ModelSpec spec = Spec({{"labels", DType::kI64, {3}}}, {{"loss"}});
  EXPECT_THAT(std::string(Scores::Create(Task::kSegmentation, spec, nullptr).status().message()),
              HasSubstr("an output 'logits' of 4 dimensions"));
  EXPECT_THAT(
      std::string(Scores::Create(Task::kDetection, Detector(7), std::make_shared<OneObject>())
                      .status()
                      .message()),
      HasSubstr("tells 7 classes apart, the evaluation data have 2 categories"));
}

}  // namespace
}  // namespace millrace
