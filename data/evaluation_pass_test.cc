#include "data/evaluation_pass.h"

#include <algorithm>

#include "data/open_dataset.h"
#include "data/test_files.h"

namespace millrace {
namespace {

std::shared_ptr<const Dataset> TenImages() {
  DatasetOptions options;
  options.kind = DatasetOptions::Kind::kSynthetic;
  options.shape = {2, 3, 4};
  options.classes = 1000000;  // labels tell the images apart
  options.count = 10;
  auto data = OpenDataset(options);
  EXPECT_TRUE(data.ok()) << data.status();
  return *data;
}

std::vector<int64_t> LabelsInOrder(const Dataset& data) {
  std::vector<int64_t> labels(data.size());
  std::vector<float> pixels(data.shape().elements());
  for (int64_t i = 0; i < data.size(); ++i) {
    EXPECT_TRUE(data.Get(i, absl::MakeSpan(pixels), &labels[i]).ok());
  }
  return labels;
}

TEST(EvaluationPass, EverySampleComesOnceInOrderAndTheLastBatchIsSmaller) {
  const auto data = TenImages();
  auto pass = EvaluationPass::Create(data, {}, 4);
  ASSERT_TRUE(pass.ok()) << pass.status();
  EXPECT_EQ(pass->batches(), 3);
  std::vector<float> images(4 * 24);
  std::vector<int64_t> labels(4), seen, sizes;
  for (int round = 0; round < 2; ++round, pass->Restart()) {
    seen.clear(), sizes.clear();
    while (true) {
      const auto n = pass->Next(images.data(), labels.data());
      ASSERT_TRUE(n.ok()) << n.status();
      sizes.push_back(*n);
      if (*n == 0) break;
      seen.insert(seen.end(), labels.begin(), labels.begin() + *n);
      for (int64_t i = *n; i < 4; ++i) {
        EXPECT_EQ(labels[i], -1);
        EXPECT_EQ(images[i * 24], 0.0f);
      }
    }
    EXPECT_EQ(seen, LabelsInOrder(*data));
    EXPECT_EQ(sizes, (std::vector<int64_t>{4, 4, 2, 0}));
  }
}

TEST(EvaluationPass, RanksShareTheDataSetWithoutLossOrRepeat) {
  const auto data = TenImages();
  std::vector<int64_t> expected = LabelsInOrder(*data);
  std::sort(expected.begin(), expected.end());
  for (const int ranks : {1, 2, 3, 7}) {
    std::vector<int64_t> seen;
    for (int r = 0; r < ranks; ++r) {
      auto pass = EvaluationPass::Create(data, {}, 3, r, ranks);
      ASSERT_TRUE(pass.ok());
      std::vector<float> images(3 * 24);
      std::vector<int64_t> labels(3);
      int64_t batches = 0;
      for (int64_t n; (n = *pass->Next(images.data(), labels.data())) > 0; ++batches) {
        seen.insert(seen.end(), labels.begin(), labels.begin() + n);
      }
      EXPECT_EQ(batches, pass->batches());
    }
    std::sort(seen.begin(), seen.end());
    EXPECT_EQ(seen, expected) << ranks << " ranks";
  }
}

TEST(EvaluationPass, NothingRandomHappensButResizeAndNormaliseDo) {
  const auto data = TenImages();
  AugmentOptions augment;
  augment.horizontal_flip_probability = 1;
  augment.rotation_degrees = 45;
  augment.mean = {1};
  auto pass = EvaluationPass::Create(data, augment, 1);
  ASSERT_TRUE(pass.ok());
  std::vector<float> image(24), pixels(24);
  int64_t label;
  ASSERT_TRUE(pass->Next(image.data(), &label).ok());
  ASSERT_TRUE(data->Get(0, absl::MakeSpan(pixels), &label).ok());
  for (int i = 0; i < 24; ++i) EXPECT_EQ(image[i], pixels[i] - 1);
  augment.resize_height = augment.resize_width = 5;
  EXPECT_EQ(EvaluationPass::Create(data, augment, 1)->shape(), (ImageShape{2, 5, 5}));
}

TEST(EvaluationPass, AnEmptyBatchAndARankOutOfRangeAreErrors) {
  ExpectError(EvaluationPass::Create(TenImages(), {}, 0).status(),
              absl::StatusCode::kInvalidArgument, {"batches of 0"});
  ExpectError(EvaluationPass::Create(TenImages(), {}, 1, 2, 2).status(),
              absl::StatusCode::kInvalidArgument, {"rank 2 of 2"});
}

}  // namespace
}  // namespace millrace
