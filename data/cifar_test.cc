#include "data/cifar.h"

#include "data/open_dataset.h"
#include "data/test_files.h"

namespace millrace {
namespace {

using Bytes = std::vector<uint8_t>;
using Kind = DatasetOptions::Kind;
constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

// Records with the given label bytes; pixel p of record r is (r + p) % 256.
Bytes Records(const std::vector<Bytes>& labels) {
  Bytes out;
  for (size_t r = 0; r < labels.size(); ++r) {
    out.insert(out.end(), labels[r].begin(), labels[r].end());
    for (int p = 0; p < kCifarPixels; ++p) out.push_back(static_cast<uint8_t>(r + p));
  }
  return out;
}

DatasetOptions Files(Kind kind, const std::vector<Bytes>& contents) {
  DatasetOptions options;
  options.kind = kind;
  for (size_t i = 0; i < contents.size(); ++i) {
    options.files.push_back(WriteTestFile(absl::StrCat("batch_", i, ".bin"), contents[i]));
  }
  return options;
}

int64_t LabelOf(const Dataset& data, int64_t index, float* first_pixel = nullptr) {
  std::vector<float> pixels(kCifarPixels);
  int64_t label = -1;
  EXPECT_TRUE(data.Get(index, absl::MakeSpan(pixels), &label).ok());
  if (first_pixel != nullptr) *first_pixel = pixels[0];
  return label;
}

TEST(Cifar, FineOrCoarseLabelsOfCifar100) {
  DatasetOptions options = Files(Kind::kCifar100, {Records({{3, 99}, {19, 0}})});
  auto fine = OpenDataset(options);
  ASSERT_TRUE(fine.ok()) << fine.status();
  EXPECT_EQ((*fine)->shape(), (ImageShape{3, 32, 32}));
  EXPECT_EQ((*fine)->classes(), 100);
  float pixel;
  EXPECT_EQ(LabelOf(**fine, 0), 99);
  EXPECT_EQ(LabelOf(**fine, 1, &pixel), 0);
  EXPECT_EQ(pixel, 1.0f / 255.0f);

  options.coarse_labels = true;
  auto coarse = OpenDataset(options);
  ASSERT_TRUE(coarse.ok()) << coarse.status();
  EXPECT_EQ((*coarse)->classes(), 20);
  EXPECT_EQ(LabelOf(**coarse, 1), 19);
}

TEST(Cifar, SeveralFilesAreOneDataSetAndASplitMayCrossThem) {
  DatasetOptions options = Files(Kind::kCifar10, {Records({{0}, {1}, {2}}), Records({{3}, {4}})});
  options.first = 2, options.count = 2;
  auto data = OpenDataset(options);
  ASSERT_TRUE(data.ok()) << data.status();
  EXPECT_EQ((*data)->size(), 2);
  EXPECT_EQ((*data)->classes(), 10);
  float pixel;
  EXPECT_EQ(LabelOf(**data, 0, &pixel), 2);
  EXPECT_EQ(pixel, 2.0f / 255.0f);
  EXPECT_EQ(LabelOf(**data, 1, &pixel), 3);
  EXPECT_EQ(pixel, 0.0f);
}

TEST(Cifar, ALengthThatIsNotWholeRecordsIsReportedWithTheByte) {
  Bytes bytes = Records({{0, 0}, {0, 0}});
  bytes.resize(4000);
  ExpectError(
      OpenDataset(Files(Kind::kCifar100, {bytes})).status(), kInvalid,
      {"batch_0.bin: truncated or not CIFAR-100: 4000 bytes are 1 records of 3074 bytes and "
       "926 bytes more, from byte 3074 on"});
  ExpectError(OpenDataset(Files(Kind::kCifar100, {{}})).status(), kInvalid, {"is empty"});
}

TEST(Cifar, TheOtherKindIsRecognised) {
  ExpectError(OpenDataset(Files(Kind::kCifar100, {Records({{0}, {1}})})).status(), kInvalid,
              {"they are 2 records of CIFAR-10"});
  ExpectError(OpenDataset(Files(Kind::kCifar10, {Records({{0, 1}})})).status(), kInvalid,
              {"they are 1 records of CIFAR-100"});
}

TEST(Cifar, ALabelOutOfRangeIsNamedWithItsByte) {
  ExpectError(OpenDataset(Files(Kind::kCifar100, {Records({{0, 0}, {1, 100}})})).status(), kInvalid,
              {"fine label 100 of record 1 (byte 3075) is out of range, expected 0..99"});
  ExpectError(OpenDataset(Files(Kind::kCifar100, {Records({{20, 0}})})).status(), kInvalid,
              {"coarse label 20 of record 0 (byte 0)"});
}

TEST(Cifar, AMissingFileSaysHowToMakeOne) {
  DatasetOptions options;
  options.kind = Kind::kCifar100;
  ExpectError(OpenDataset(options).status(), kInvalid, {"needs files", "millrace data make"});
  options.files = {TestPath("train.bin")};
  ExpectError(OpenDataset(options).status(), absl::StatusCode::kNotFound,
              {"train.bin: no such file", "millrace data make"});
}

TEST(Cifar, TheNumberOfClassesIsHeldAgainstTheLabels) {
  DatasetOptions options = Files(Kind::kCifar100, {Records({{0, 0}})});
  options.classes = 10;
  ExpectError(OpenDataset(options).status(), kInvalid,
              {"10 classes asked for, CIFAR-100 has 100 fine labels"});
}

}  // namespace
}  // namespace millrace
