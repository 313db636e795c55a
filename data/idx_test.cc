#include "data/idx.h"

#include <algorithm>
#include <set>
#include <utility>

#include "data/open_dataset.h"
#include "data/test_files.h"

namespace millrace {
namespace {

using Bytes = std::vector<uint8_t>;
constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

// A small IDX file: header for `dims`, then `data`.
Bytes Idx(const std::vector<uint32_t>& dims, Bytes data) {
  Bytes out = {0, 0, 8, static_cast<uint8_t>(dims.size())};
  for (uint32_t d : dims) {
    for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<uint8_t>(d >> shift));
  }
  out.insert(out.end(), data.begin(), data.end());
  return out;
}

DatasetOptions Files(const Bytes& images, const Bytes& labels) {
  DatasetOptions options;
  options.images = WriteTestFile("images.idx3-ubyte", images);
  options.labels = WriteTestFile("labels.idx1-ubyte", labels);
  return options;
}

// Two images of 1 x 2 x 3.
const Bytes kPixels = {0, 51, 102, 153, 204, 255, 5, 4, 3, 2, 1, 0};

TEST(Idx, PixelsComeScaledInRowOrderWithTheirLabels) {
  auto data = OpenDataset(Files(Idx({2, 2, 3}, kPixels), Idx({2}, {7, 1})));
  ASSERT_TRUE(data.ok()) << data.status();
  EXPECT_EQ((*data)->size(), 2);
  EXPECT_EQ((*data)->shape(), (ImageShape{1, 2, 3}));
  EXPECT_EQ((*data)->classes(), 8);
  std::vector<float> pixels(6);
  int64_t label = -1;
  ASSERT_TRUE((*data)->Get(0, absl::MakeSpan(pixels), &label).ok());
  EXPECT_EQ(pixels, (std::vector<float>{0, 0.2f, 0.4f, 0.6f, 0.8f, 1}));
  EXPECT_EQ(label, 7);
}

TEST(Idx, FourDimensionsAreChannels) {
  auto data = OpenDataset(Files(Idx({1, 3, 2, 2}, Bytes(12, 9)), Idx({1}, {0})));
  ASSERT_TRUE(data.ok()) << data.status();
  EXPECT_EQ((*data)->shape(), (ImageShape{3, 2, 2}));
}

TEST(Idx, ASplitKeepsItsPartAndTheClassesOfTheWholeFile) {
  DatasetOptions options = Files(Idx({3, 1, 1}, {0, 128, 255}), Idx({3}, {0, 9, 2}));
  options.first = 2;
  auto data = OpenDataset(options);
  ASSERT_TRUE(data.ok()) << data.status();
  EXPECT_EQ((*data)->size(), 1);
  EXPECT_EQ((*data)->classes(), 10);
  float pixel;
  int64_t label;
  ASSERT_TRUE((*data)->Get(0, absl::MakeSpan(&pixel, 1), &label).ok());
  EXPECT_EQ(pixel, 1.0f);
  EXPECT_EQ(label, 2);

  options.first = 1, options.count = 3;
  ExpectError(OpenDataset(options).status(), kInvalid, {"samples [1, 4)", "the file has 3"});
  options.first = 3, options.count = -1;
  ExpectError(OpenDataset(options).status(), kInvalid, {"empty"});
}

TEST(Idx, ATruncatedFileSaysWhatItPromisedAndWhatItHas) {
  Bytes labels = Idx({1797}, Bytes(892, 1));
  ExpectError(OpenDataset(Files(Idx({1797, 1, 1}, Bytes(1797)), labels)).status(), kInvalid,
              {"labels.idx1-ubyte: truncated: header promises 1797 labels (1805 bytes), "
               "file has 900 bytes"});
  ExpectError(OpenDataset(Files(Idx({4, 2, 3}, kPixels), Idx({4}, Bytes(4)))).status(), kInvalid,
              {"images.idx3-ubyte: truncated: header promises 4 x 2 x 3 pixels (40 bytes), "
               "file has 28 bytes"});
  ExpectError(OpenDataset(Files({0, 0, 8, 3, 0, 0}, {})).status(), kInvalid,
              {"header of 3 dimensions needs 16 bytes, file has 6 bytes"});
  ExpectError(OpenDataset(Files({0, 0}, {})).status(), kInvalid, {"file has 2 bytes"});
}

TEST(Idx, BytesBehindTheEndAreAnErrorToo) {
  ExpectError(OpenDataset(Files(Idx({1, 1, 1}, {1, 2}), Idx({1}, {0}))).status(), kInvalid,
              {"too long: header promises 1 x 1 x 1 pixels (17 bytes), file has 18 bytes"});
}

TEST(Idx, DimensionsWhoseProductOverflowsAreTruncation) {
  const uint32_t huge = 0xffffffff;
  ExpectError(OpenDataset(Files(Idx({huge, huge, huge, huge}, {1}), Idx({1}, {0}))).status(),
              kInvalid, {"truncated"});
}

TEST(Idx, AWrongMagicNumberIsShown) {
  ExpectError(OpenDataset(Files({0x89, 'P', 'N', 'G', 0}, {})).status(), kInvalid,
              {"wrong magic number 89 50 4e 47 at byte 0"});
  ExpectError(OpenDataset(Files({0x1f, 0x8b, 8, 0}, {})).status(), kInvalid,
              {"compressed with gzip", "gunzip"});
  ExpectError(OpenDataset(Files({0, 0, 0x0d, 1, 0, 0, 0, 0}, {})).status(), kInvalid,
              {"element type 0x0d (32-bit float) at byte 2, expected 0x08"});
}

TEST(Idx, SwappedFilesAreRecognised) {
  const Bytes images = Idx({2, 2, 3}, kPixels), labels = Idx({2}, {0, 1});
  ExpectError(OpenDataset(Files(labels, images)).status(), kInvalid,
              {"images.idx3-ubyte: 1 dimensions", "this is a file of labels"});
  ExpectError(OpenDataset(Files(images, images)).status(), kInvalid,
              {"labels.idx1-ubyte: 3 dimensions", "this is a file of images"});
}

TEST(Idx, CountsOfImagesAndLabelsMustAgree) {
  ExpectError(OpenDataset(Files(Idx({2, 2, 3}, kPixels), Idx({3}, {0, 1, 2}))).status(), kInvalid,
              {"has 2 images", "has 3 labels"});
}

TEST(Idx, ALabelOutOfRangeIsNamedWithItsByte) {
  DatasetOptions options = Files(Idx({2, 2, 3}, kPixels), Idx({2}, {9, 10}));
  options.classes = 10;
  ExpectError(OpenDataset(options).status(), kInvalid,
              {"label 10 of sample 1 (byte 9) is out of range, expected 0..9"});
}

TEST(Idx, APixelAboveTheScaleIsNamed) {
  DatasetOptions options = Files(Idx({2, 2, 3}, kPixels), Idx({2}, {0, 1}));
  options.scale = 16;
  ExpectError(OpenDataset(options).status(), kInvalid,
              {"pixel 1 of image 0 is 51, above scale 16"});
}

TEST(Idx, AMissingFileSaysWhereToGetOne) {
  DatasetOptions options = Files(Idx({2, 2, 3}, kPixels), Idx({2}, {0, 1}));
  options.labels = TestPath("nothing-here");
  ExpectError(OpenDataset(options).status(), absl::StatusCode::kNotFound,
              {"nothing-here: no such file", "data/digits"});
  options.labels = "";
  ExpectError(OpenDataset(options).status(), kInvalid, {"labels is not set"});
}

TEST(Idx, GetChecksIndexAndRoom) {
  auto data = OpenDataset(Files(Idx({2, 2, 3}, kPixels), Idx({2}, {7, 1})));
  ASSERT_TRUE(data.ok()) << data.status();
  std::vector<float> pixels(6);
  int64_t label;
  ExpectError((*data)->Get(2, absl::MakeSpan(pixels), &label), absl::StatusCode::kOutOfRange,
              {"sample 2 does not exist", "2 images of 1x2x3"});
  pixels.resize(5);
  ExpectError((*data)->Get(0, absl::MakeSpan(pixels), &label), kInvalid, {"5 pixels, expected 6"});
}

TEST(Idx, TheDigitsOfTheRepositoryAreTrainingAndTestSet) {
  DatasetOptions options;
  options.images = "data/digits/images.idx3-ubyte";
  options.labels = "data/digits/labels.idx1-ubyte";
  options.scale = 16;
  for (const auto& [first, count, size] : {std::tuple(0, 1500, 1500), std::tuple(1500, -1, 297)}) {
    options.first = first, options.count = count;
    auto data = OpenDataset(options);
    ASSERT_TRUE(data.ok()) << data.status();
    EXPECT_EQ((*data)->size(), size);
    EXPECT_EQ((*data)->classes(), 10);
    ASSERT_EQ((*data)->shape(), (ImageShape{1, 8, 8}));
    std::set<int64_t> labels;
    std::vector<float> pixels(64);
    float largest = 0;
    for (int64_t i = 0; i < size; ++i) {
      int64_t label;
      ASSERT_TRUE((*data)->Get(i, absl::MakeSpan(pixels), &label).ok());
      labels.insert(label);
      largest = std::max(largest, *std::max_element(pixels.begin(), pixels.end()));
    }
    EXPECT_EQ(labels.size(), 10u);
    EXPECT_EQ(largest, 1.0f);
  }
}

}  // namespace
}  // namespace millrace
