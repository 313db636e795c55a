#include "data/augment.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace millrace {
namespace {

using Image = std::vector<float>;
using testing::ElementsAre;
using testing::FloatNear;
using testing::HasSubstr;
using testing::Pointwise;

Image Noise(const ImageShape& shape, uint64_t stream = 0) {
  const CounterRng rng(5, stream);
  Image image(shape.elements());
  for (size_t i = 0; i < image.size(); ++i) image[i] = static_cast<float>(rng.Uniform(i));
  return image;
}

Augmenter Make(const AugmentOptions& options, const ImageShape& shape) {
  auto augmenter = Augmenter::Create(options, shape);
  EXPECT_TRUE(augmenter.ok()) << augmenter.status();
  return *augmenter;
}

Image Train(const AugmentOptions& options, const ImageShape& shape, const Image& in,
            const CounterRng& rng = CounterRng(1, 2)) {
  const Augmenter augmenter = Make(options, shape);
  Augmenter::Scratch scratch;
  Image out(augmenter.output().elements(), -99);
  augmenter.Train(in, rng, absl::MakeSpan(out), &scratch);
  return out;
}

Image Warp(const Image& in, const ImageShape& shape, const Affine& map) {
  Augmenter::Scratch scratch;
  Image out(in.size(), -99);
  WarpAffine(in.data(), shape, map, out.data(), &scratch);
  return out;
}

const ImageShape kColour = {3, 6, 9};

TEST(Augment, NoOptionsChangeNothing) {
  EXPECT_TRUE(Make({}, kColour).identity());
  EXPECT_EQ(Train({}, kColour, Noise(kColour)), Noise(kColour));
}

TEST(Augment, FlippingTwiceGivesTheImageBack) {
  AugmentOptions flip;
  flip.horizontal_flip_probability = 1;
  EXPECT_THAT(Train(flip, {1, 2, 3}, {1, 2, 3, 4, 5, 6}), ElementsAre(3, 2, 1, 6, 5, 4));
  const Image once = Train(flip, kColour, Noise(kColour));
  EXPECT_NE(once, Noise(kColour));
  EXPECT_EQ(Train(flip, kColour, once), Noise(kColour));
}

TEST(Augment, HalfOfTheImagesAreFlippedAtProbabilityOneHalf) {
  AugmentOptions flip;
  flip.horizontal_flip_probability = 0.5;
  int flipped = 0;
  for (uint64_t s = 0; s < 2000; ++s) {
    flipped += Train(flip, {1, 1, 2}, {1, 2}, CounterRng(1, s))[0] == 2;
  }
  EXPECT_NEAR(flipped, 1000, 120);
}

TEST(Augment, ACropMovesTheImageByAtMostThePaddingAndFillsWithZero) {
  AugmentOptions crop;
  crop.random_crop_padding = 2;
  const ImageShape shape{1, 5, 5};
  const Image in = Noise(shape);
  std::set<std::pair<int, int>> moves;
  for (uint64_t s = 0; s < 500; ++s) {
    const Image out = Train(crop, shape, in, CounterRng(1, s));
    for (int dy = -2; dy <= 2; ++dy) {
      for (int dx = -2; dx <= 2; ++dx) {
        Image expected(25, 0.0f);
        for (int y = 0; y < 5; ++y) {
          for (int x = 0; x < 5; ++x) {
            const int sy = y + dy, sx = x + dx;
            if (sy >= 0 && sy < 5 && sx >= 0 && sx < 5) expected[y * 5 + x] = in[sy * 5 + sx];
          }
        }
        if (out == expected) moves.insert({dy, dx});
      }
    }
  }
  EXPECT_EQ(moves.size(), 25u);
}

TEST(Augment, AShiftBeyondTheImageLeavesZeros) {
  Image out(4, -1);
  for (const int d : {-7, -2, 2, 7}) {
    for (const bool flip : {false, true}) {
      const Image in = {1, 2, 3, 4};
      CopyShifted(in.data(), {1, 2, 2}, flip, d, 0, out.data());
      EXPECT_THAT(out, ElementsAre(0, 0, 0, 0));
      CopyShifted(in.data(), {1, 2, 2}, flip, 0, d, out.data());
      EXPECT_THAT(out, ElementsAre(0, 0, 0, 0));
    }
  }
}

TEST(Augment, RotationByZeroIsExactlyTheImage) {
  EXPECT_EQ(Warp(Noise(kColour), kColour, RotateScaleShift(kColour, 0, 1, 0, 0)), Noise(kColour));
}

TEST(Augment, AQuarterTurnMovesPixelsCounterClockwiseExactly) {
  const ImageShape two{1, 2, 2};
  EXPECT_THAT(Warp({1, 2, 3, 4}, two, RotateScaleShift(two, 90, 1, 0, 0)), ElementsAre(2, 4, 1, 3));
  EXPECT_THAT(Warp({1, 2, 3, 4}, two, RotateScaleShift(two, -90, 1, 0, 0)),
              ElementsAre(3, 1, 4, 2));
  for (const int side : {7, 8}) {
    const ImageShape square{3, side, side};
    const Image in = Noise(square);
    const Image half = Warp(in, square, RotateScaleShift(square, 180, 1, 0, 0));
    Image reversed;
    const int plane = side * side;
    for (int c = 0; c < 3; ++c) {
      for (int i = 0; i < plane; ++i) reversed.push_back(in[c * plane + plane - 1 - i]);
    }
    EXPECT_EQ(half, reversed);
    Image turned = in;
    for (int i = 0; i < 4; ++i) {
      turned = Warp(turned, square, RotateScaleShift(square, 90, 1, 0, 0));
    }
    EXPECT_EQ(turned, in);
  }
}

TEST(Augment, AWholePixelShiftIsACopyAndAHalfPixelShiftTheMean) {
  const ImageShape row{1, 1, 4};
  EXPECT_THAT(Warp({1, 2, 3, 4}, row, RotateScaleShift(row, 0, 1, 1, 0)), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(Warp({1, 2, 3, 4}, row, RotateScaleShift(row, 0, 1, -2, 0)), ElementsAre(3, 4, 0, 0));
  EXPECT_THAT(Warp({1, 2, 3, 4}, row, RotateScaleShift(row, 0, 1, 0.5, 0)),
              ElementsAre(0.5, 1.5, 2.5, 3.5));
}

TEST(Augment, ScaleEnlargesAboutTheCentre) {
  const ImageShape row{1, 1, 5};
  // An output pixel one place from the centre shows what was half a place from it.
  EXPECT_THAT(Warp({0, 2, 4, 8, 0}, row, RotateScaleShift(row, 0, 2, 0, 0)),
              ElementsAre(2, 3, 4, 6, 8));
  EXPECT_THAT(Warp({1, 1, 1, 1, 1}, row, RotateScaleShift(row, 0, 0.25, 0, 0)),
              ElementsAre(0, 0, 1, 0, 0));
}

// The vectorised warp against four neighbours looked up one by one.
TEST(Augment, WarpEqualsTheReferenceForAnyMap) {
  const ImageShape shape{2, 9, 7};
  const Image in = Noise(shape);
  for (uint64_t trial = 0; trial < 200; ++trial) {
    const CounterRng rng(9, trial);
    const Affine map = RotateScaleShift(shape, 360 * rng.Uniform(0), 0.3 + 2 * rng.Uniform(1),
                                        20 * rng.Uniform(2) - 10, 20 * rng.Uniform(3) - 10);
    const Image out = Warp(in, shape, map);
    for (int c = 0; c < 2; ++c) {
      for (int y = 0; y < 9; ++y) {
        for (int x = 0; x < 7; ++x) {
          const double sx = map.xx * x + map.xy * y + map.x0;
          const double sy = map.yx * x + map.yy * y + map.y0;
          double expected = 0;
          for (int py = 0; py < 9; ++py) {
            for (int px = 0; px < 7; ++px) {
              expected += in[(c * 9 + py) * 7 + px] * std::max(0.0, 1 - std::abs(sx - px)) *
                          std::max(0.0, 1 - std::abs(sy - py));
            }
          }
          ASSERT_NEAR(out[(c * 9 + y) * 7 + x], expected, 2e-5);
        }
      }
    }
  }
}

TEST(Augment, FlipAndCropInsideAWarpMeanTheSameAsWithoutOne) {
  AugmentOptions plain, warp;
  plain.horizontal_flip_probability = warp.horizontal_flip_probability = 0.5;
  plain.random_crop_padding = warp.random_crop_padding = 3;
  warp.rotation_degrees = 1e-9;  // takes the other way through the code
  for (uint64_t s = 0; s < 50; ++s) {
    const CounterRng rng(3, s);
    EXPECT_THAT(Train(warp, kColour, Noise(kColour), rng),
                Pointwise(FloatNear(1e-5), Train(plain, kColour, Noise(kColour), rng)));
  }
}

TEST(Augment, TheSameGeneratorGivesTheSameImageAndAnotherOneAnother) {
  AugmentOptions all;
  all.horizontal_flip_probability = 0.5;
  all.random_crop_padding = 2;
  all.rotation_degrees = 15;
  all.scale_min = 0.8, all.scale_max = 1.2;
  all.shift_fraction = 0.1;
  all.resize_height = 8, all.resize_width = 8;
  const Image in = Noise(kColour);
  EXPECT_EQ(Train(all, kColour, in, CounterRng(1, 7)), Train(all, kColour, in, CounterRng(1, 7)));
  EXPECT_NE(Train(all, kColour, in, CounterRng(1, 7)), Train(all, kColour, in, CounterRng(1, 8)));
}

TEST(Augment, ResizingToTheSameSizeIsExactlyTheImage) {
  AugmentOptions same;
  same.resize_height = 6, same.resize_width = 9;
  EXPECT_TRUE(Make(same, kColour).identity());
  Augmenter::Scratch scratch;
  Image out(kColour.elements());
  const Image in = Noise(kColour);
  Resize(in.data(), kColour, MakeResizeAxis(6, 6), MakeResizeAxis(9, 9), out.data(), &scratch);
  EXPECT_EQ(out, in);
}

TEST(Augment, EnlargingInterpolatesAndShrinkingAverages) {
  AugmentOptions wide;
  wide.resize_width = 4;
  EXPECT_THAT(Train(wide, {1, 1, 2}, {0, 1}), ElementsAre(0, 0.25, 0.75, 1));
  // The weights of Pillow and of torch's antialias=True; the first is (0.75 * 1 + 0.25 * 2) / 1.75.
  EXPECT_THAT(Train(wide, {1, 1, 8}, {0, 1, 2, 3, 4, 5, 6, 7}),
              Pointwise(FloatNear(1e-6), {0.7142857f, 2.5f, 4.5f, 6.2857143f}));
  AugmentOptions small;
  small.resize_height = 3, small.resize_width = 5;
  const Image constant(kColour.elements(), 0.75f);
  EXPECT_THAT(Train(small, kColour, constant), testing::Each(FloatNear(0.75f, 1e-6f)));
}

TEST(Augment, ShrinkingACheckerboardGivesGreyNotAliases) {
  const ImageShape shape{1, 32, 32};
  Image board(shape.elements());
  for (int i = 0; i < 1024; ++i) board[i] = static_cast<float>((i / 32 + i % 32) % 2);
  AugmentOptions small;
  small.resize_height = small.resize_width = 8;
  EXPECT_THAT(Train(small, shape, board), testing::Each(FloatNear(0.5f, 0.02f)));
}

TEST(Augment, NormalisingIsUndoneByItsInverse) {
  AugmentOptions there, back;
  there.mean = {0.5f, 0.25f, 0.1f}, there.std = {0.2f, 0.5f, 2};
  back.mean = {-2.5f, -0.5f, -0.05f}, back.std = {5, 2, 0.5f};
  const Image in = Noise(kColour), out = Train(there, kColour, in);
  EXPECT_FLOAT_EQ(out[0], (in[0] - 0.5f) / 0.2f);
  EXPECT_THAT(Train(back, kColour, out), Pointwise(FloatNear(1e-6), in));
  AugmentOptions one_number;
  one_number.mean = {0.5f};
  EXPECT_FLOAT_EQ(Train(one_number, kColour, in).back(), in.back() - 0.5f);
}

TEST(Augment, EvaluationOnlyResizesAndNormalises) {
  AugmentOptions options;
  options.horizontal_flip_probability = 1;
  options.rotation_degrees = 90;
  options.mean = {1};
  const Augmenter augmenter = Make(options, {1, 1, 3});
  Augmenter::Scratch scratch;
  Image out(3);
  augmenter.Evaluate(Image{1, 2, 3}, absl::MakeSpan(out), &scratch);
  EXPECT_THAT(out, ElementsAre(0, 1, 2));
  EXPECT_FALSE(augmenter.identity());
  EXPECT_FALSE(augmenter.evaluation_identity());
}

TEST(Augment, AllMistakesOfTheOptionsAreReportedAtOnce) {
  AugmentOptions bad;
  bad.horizontal_flip_probability = 2;
  bad.random_crop_padding = -1;
  bad.scale_min = 0;
  bad.mean = {1, 2};
  bad.std = {0};
  const absl::Status status = Augmenter::Create(bad, kColour).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  for (const char* part : {"horizontal_flip_probability is 2", "random_crop_padding is -1",
                           "scale_min is 0", "mean has 2 values, expected 1 or 3", "std is 0"}) {
    EXPECT_THAT(std::string(status.message()), HasSubstr(part));
  }
}

}  // namespace
}  // namespace millrace
