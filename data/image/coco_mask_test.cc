#include "data/image/coco_mask.h"

#include <vector>

#include "data/test_files.h"
#include "graph/base/random.h"

namespace millrace {
namespace {

using Mask = std::vector<uint8_t>;

TEST(CocoMask, RunsGoDownTheColumns) {
  const auto rle = RleFromCounts({1, 2, 3}, 3, 2);  // column 0: 0 1 1, column 1: 0 0 0
  ASSERT_TRUE(rle.ok()) << rle.status();
  EXPECT_EQ(MaskOf(*rle), (Mask{0, 0, 1, 0, 1, 0}));
  EXPECT_EQ(AreaOf(*rle), 2);
  EXPECT_EQ(BoxOf(*rle), (PixelBox{0, 1, 1, 2}));
}

// By hand from the format: 6 -> '6'; 1 -> '1'; 40 = 8 + 1 * 32 -> 'X' (48 + 8 + 32), '1'; then each
// as the difference to the run two before: 5 - 1 = 4 -> '4'; 12 - 40 = -28 = 0b00100 with more and
// a sign -> 'T', 'O'.
TEST(CocoMask, TheCompressedFormIsReadAndWritten) {
  const auto rle = RleFromString("61X14TO", 8, 8);
  ASSERT_TRUE(rle.ok()) << rle.status();
  EXPECT_EQ(rle->counts, (std::vector<int64_t>{6, 1, 40, 5, 12}));
  EXPECT_EQ(RleToString(*rle), "61X14TO");
}

TEST(CocoMask, RandomMasksSurviveEveryForm) {
  for (int round = 0; round < 60; ++round) {
    const CounterRng rng(1, round);
    const int height = 1 + static_cast<int>(rng.Below(0, 40));
    const int width = 1 + static_cast<int>(rng.Below(1, 40));
    Mask mask(height * width);
    // Long and short runs: the share of inside pixels differs from round to round.
    const double share = rng.Uniform(2) * rng.Uniform(3);
    int left = width, right = -1, top = height, bottom = -1;
    int64_t area = 0;
    for (int y = 0; y < height; ++y) {
      for (int x = 0; x < width; ++x) {
        if (rng.Uniform(100 + y * width + x) >= share) continue;
        mask[y * width + x] = 1;
        ++area;
        left = std::min(left, x), right = std::max(right, x);
        top = std::min(top, y), bottom = std::max(bottom, y);
      }
    }
    const Rle rle = RleOf(mask, height, width);
    EXPECT_EQ(MaskOf(rle), mask);
    EXPECT_EQ(AreaOf(rle), area);
    if (area > 0) {
      EXPECT_EQ(BoxOf(rle),
                (PixelBox{1.0 * left, 1.0 * top, right - left + 1.0, bottom - top + 1.0}));
    } else {
      EXPECT_EQ(BoxOf(rle), PixelBox{});
    }
    const auto again = RleFromString(RleToString(rle), height, width);
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ(again->counts, rle.counts);
  }
}

TEST(CocoMask, RunsThatDoNotMakeUpTheImageAreErrors) {
  ExpectError(RleFromCounts({1, 2}, 3, 2).status(), absl::StatusCode::kInvalidArgument,
              {"are 3 pixels, expected 3 x 2 = 6"});
  ExpectError(RleFromCounts({7, -1}, 3, 2).status(), absl::StatusCode::kInvalidArgument,
              {"run 0 of the RLE is 7"});
  ExpectError(RleFromString("6 1", 3, 2).status(), absl::StatusCode::kInvalidArgument,
              {"character 1 of 3"});
  ExpectError(RleFromString("X", 3, 2).status(), absl::StatusCode::kInvalidArgument,
              {"character 1 of 1"});
}

TEST(CocoMask, PolygonsCoverThePixelsWhoseCentresAreInside) {
  EXPECT_EQ(FillPolygons({{1, 0, 3, 0, 3, 2, 1, 2}}, 3, 4),
            (Mask{0, 1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0}));
  // Beyond the image on all sides, and two parts of one object.
  EXPECT_EQ(FillPolygons({{-5, -5, 9, -5, 9, 9, -5, 9}}, 2, 2), (Mask{1, 1, 1, 1}));
  EXPECT_EQ(FillPolygons({{0, 0, 1, 0, 1, 1, 0, 1}, {1, 1, 2, 1, 2, 2, 1, 2}}, 2, 2),
            (Mask{1, 0, 0, 1}));
  EXPECT_EQ(FillPolygons({{0, 0, 1, 1}}, 2, 2), (Mask{0, 0, 0, 0}));
  // Two triangles that share an edge cover each pixel once.
  int64_t sum = 0;
  for (const Mask& m : {FillPolygons({{0, 0, 10, 0, 0, 10}}, 10, 10),
                        FillPolygons({{10, 0, 10, 10, 0, 10}}, 10, 10)}) {
    for (const uint8_t v : m) sum += v;
  }
  EXPECT_EQ(sum, 100);
}

}  // namespace
}  // namespace millrace
