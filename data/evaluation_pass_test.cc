#include "data/evaluation_pass.h"

#include <algorithm>
#include <set>

#include "data/dataset_source.h"
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

std::shared_ptr<const SampleSource> SourceOf(std::shared_ptr<const Dataset> data,
                                             const AugmentOptions& augment = {}) {
  return *MakeDatasetSource(std::move(data), augment);
}

TEST(EvaluationPass, EverySampleComesOnceInOrderAndTheLastBatchIsSmaller) {
  const auto data = TenImages();
  auto pass = EvaluationPass::Create(SourceOf(data), {4});
  ASSERT_TRUE(pass.ok()) << pass.status();
  EXPECT_EQ(pass->batches(), 3);
  std::vector<float> images(4 * 24);
  std::vector<int64_t> labels(4), seen, sizes, indices;
  for (int round = 0; round < 2; ++round, pass->Restart()) {
    seen.clear(), sizes.clear(), indices.clear();
    for (int batch = 0; batch < 4; ++batch) {
      const auto samples = pass->Next({images.data(), labels.data()});
      ASSERT_TRUE(samples.ok()) << samples.status();
      const int64_t n = static_cast<int64_t>(samples->size());
      sizes.push_back(n);
      indices.insert(indices.end(), samples->begin(), samples->end());
      seen.insert(seen.end(), labels.begin(), labels.begin() + n);
      for (int64_t i = n; i < 4; ++i) {
        EXPECT_EQ(labels[i], 0);
        EXPECT_EQ(images[i * 24], 0.0f);
      }
    }
    EXPECT_EQ(seen, LabelsInOrder(*data));
    EXPECT_EQ(sizes, (std::vector<int64_t>{4, 4, 2, 0}));
    EXPECT_EQ(indices, (std::vector<int64_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
  }
}

TEST(EvaluationPass, RanksShareTheDataSetWithoutLossOrRepeat) {
  const auto source = SourceOf(TenImages());
  for (const int ranks : {1, 2, 3, 7}) {
    std::multiset<int64_t> seen;
    for (int r = 0; r < ranks; ++r) {
      auto pass = EvaluationPass::Create(source, {3, r, ranks});
      ASSERT_TRUE(pass.ok());
      std::vector<float> images(3 * 24);
      std::vector<int64_t> labels(3);
      for (int64_t b = 0; b < pass->batches(); ++b) {
        const auto samples = *pass->Next({images.data(), labels.data()});
        EXPECT_FALSE(samples.empty());
        seen.insert(samples.begin(), samples.end());
      }
      EXPECT_TRUE(pass->Next({images.data(), labels.data()})->empty());
    }
    EXPECT_EQ(seen, (std::multiset<int64_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9})) << ranks << " ranks";
  }
}

TEST(EvaluationPass, NothingRandomHappensButResizeAndNormaliseDo) {
  const auto data = TenImages();
  AugmentOptions augment;
  augment.horizontal_flip_probability = 1;
  augment.rotation_degrees = 45;
  augment.mean = {1};
  auto pass = EvaluationPass::Create(SourceOf(data, augment), {1});
  ASSERT_TRUE(pass.ok());
  std::vector<float> image(24), pixels(24);
  int64_t label;
  ASSERT_TRUE(pass->Next({image.data(), &label}).ok());
  ASSERT_TRUE(data->Get(0, absl::MakeSpan(pixels), &label).ok());
  for (int i = 0; i < 24; ++i) EXPECT_EQ(image[i], pixels[i] - 1);
  augment.resize_height = augment.resize_width = 5;
  EXPECT_EQ(SourceOf(data, augment)->fields()[0].shape, (std::vector<int64_t>{2, 5, 5}));
}

// Samples 2 and 3 of five cannot be read.
class Holes : public SampleSource {
 public:
  int64_t size() const override { return 5; }
  const std::vector<FieldSpec>& fields() const override { return fields_; }
  std::string description() const override { return "holes"; }
  std::string NameOf(int64_t index) const override { return absl::StrCat("file ", index); }
  absl::Status Get(int64_t index, const SampleKey& key, absl::Span<void* const> out,
                   SampleScratch*) const override {
    EXPECT_FALSE(key.random);
    if (index == 2 || index == 3) return absl::DataLossError("torn");
    *static_cast<int64_t*>(out[0]) = 100 + index;
    return absl::OkStatus();
  }

 private:
  const std::vector<FieldSpec> fields_ = {{"labels", DType::kI64, {}}};
};

TEST(EvaluationPass, ABadSampleIsAnErrorOrLeftOutAndNoted) {
  const auto source = std::make_shared<Holes>();
  std::vector<int64_t> labels(4);
  auto strict = *EvaluationPass::Create(source, {4});
  ExpectError(strict.Next({labels.data()}).status(), absl::StatusCode::kDataLoss,
              {"sample 2 of the evaluation: torn"});
  EvaluationOptions options{4};
  options.bad = std::make_shared<BadSamples>();
  auto pass = *EvaluationPass::Create(source, options);
  for (int round = 0; round < 2; ++round, pass.Restart()) {
    EXPECT_EQ(*pass.Next({labels.data()}), (std::vector<int64_t>{0, 1}));
    EXPECT_EQ(labels, (std::vector<int64_t>{100, 101, 0, 0}));
    EXPECT_EQ(*pass.Next({labels.data()}), (std::vector<int64_t>{4}));
  }
  ASSERT_EQ(options.bad->list().size(), 2u);
  EXPECT_EQ(options.bad->list()[1].name, "file 3");
}

TEST(EvaluationPass, AnEmptyBatchAndARankOutOfRangeAreErrors) {
  ExpectError(EvaluationPass::Create(SourceOf(TenImages()), {0}).status(),
              absl::StatusCode::kInvalidArgument, {"batches of 0"});
  ExpectError(EvaluationPass::Create(SourceOf(TenImages()), {1, 2, 2}).status(),
              absl::StatusCode::kInvalidArgument, {"rank 2 of 2"});
}

}  // namespace
}  // namespace millrace
