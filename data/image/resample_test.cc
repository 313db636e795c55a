#include "data/image/resample.h"

#include <cmath>
#include <vector>

#include "data/image/joint_augment.h"
#include "data/test_files.h"
#include "graph/base/random.h"

namespace millrace {
namespace {

ByteImage Noise(int height, int width) {
  ByteImage image(height, width, 4);
  const CounterRng rng(3, 1);
  for (size_t i = 0; i < image.pixels.size(); ++i) {
    image.pixels[i] = static_cast<uint8_t>(rng.Below(i, 256));
  }
  return image;
}

// The definition, in double, one output pixel at a time: a triangle filter along each axis.
double Expected(const ByteImage& in, int c, int height, int width, int y, int x) {
  const auto weights = [](int input, int output, int o) {
    const double step = static_cast<double>(input) / output, reach = std::max(1.0, step);
    const double centre = (o + 0.5) * step - 0.5;
    std::vector<double> w(input);
    double sum = 0;
    for (int i = 0; i < input; ++i) sum += w[i] = std::max(0.0, 1 - std::abs(i - centre) / reach);
    for (double& v : w) v /= sum;
    return w;
  };
  const auto wy = weights(in.height, height, y), wx = weights(in.width, width, x);
  double sum = 0;
  for (int i = 0; i < in.height; ++i) {
    for (int j = 0; j < in.width; ++j) sum += wy[i] * wx[j] * in.at(i, j)[c];
  }
  return sum;
}

TEST(Resample, EqualsTheAntialiasedFilterUpAndDownForOddSizes) {
  const ByteImage in = Noise(23, 37);
  for (const auto& [h, w] : {std::pair(23, 37), {11, 16}, {7, 80}, {50, 5}, {1, 1}}) {
    ResampleScratch scratch;
    Resample(in, {23, 37}, WholePicture(23, 37), h, w, &scratch);
    for (int y = 0; y < h; ++y) {
      for (int x = 0; x < w; ++x) {
        for (int c = 0; c < 3; ++c) {
          ASSERT_NEAR(scratch.packed[(y * w + x) * 4 + c], Expected(in, c, h, w, y, x), 2e-3)
              << h << " x " << w << " at " << y << ", " << x;
        }
      }
    }
  }
}

TEST(Resample, ATurnByNothingIsNearlyTheStraightWay) {
  // A smooth picture: both ways read the same colours.
  ByteImage in(60, 80, 4);
  for (int y = 0; y < 60; ++y) {
    for (int x = 0; x < 80; ++x) {
      in.at(y, x)[0] = static_cast<uint8_t>(2 * x + y);
      in.at(y, x)[1] = static_cast<uint8_t>(128 + 100 * std::sin(x * 0.1) * std::cos(y * 0.08));
    }
  }
  ResampleScratch straight, turned;
  PictureMap map = WholePicture(60, 80);
  Resample(in, {60, 80}, map, 32, 32, &straight);
  map.xv = 1e-9;
  Resample(in, {60, 80}, map, 32, 32, &turned);
  for (int i = 4; i < 28; ++i) {
    for (int j = 4; j < 28; ++j) {
      for (int c = 0; c < 2; ++c) {
        const int at = (i * 32 + j) * 4 + c;
        EXPECT_NEAR(straight.packed[at], turned.packed[at], 2.5);
      }
    }
  }
}

TEST(Resample, OutsideIsBlackAndAHalfDecodedPictureIsTheSamePicture) {
  const ByteImage in = Noise(40, 40);
  PictureMap map = WholePicture(40, 40);
  map.x0 = -40, map.xu = 80;  // the picture is the right half
  ResampleScratch scratch;
  Resample(in, {40, 40}, map, 10, 10, &scratch);
  for (int y = 0; y < 10; ++y) {
    for (int x = 0; x < 10; ++x) {
      const float v = scratch.packed[(y * 10 + x) * 4];
      EXPECT_TRUE(x < 5 ? v == 0.0f : x > 5 ? v > 60.0f : true) << v << " in column " << x;
    }
  }
  ByteImage grey(40, 40, 4, 99), half(20, 20, 4, 99);
  Resample(half, {40, 40}, WholePicture(40, 40), 10, 10, &scratch);
  for (const float v : scratch.packed) EXPECT_NEAR(v, 99, 1e-3);
}

TEST(Resample, NeededSizeLeavesOnePixelForEachOutputPixel) {
  EXPECT_EQ(NeededSize(WholePicture(400, 600), {400, 600}, 100, 100).height, 100);
  EXPECT_EQ(NeededSize(WholePicture(400, 600), {400, 600}, 100, 100).width, 100);
  EXPECT_EQ(NeededSize(WholePicture(50, 60), {50, 60}, 100, 100).height, 50);
  PictureMap window = WholePicture(400, 600);
  window.xu = 300, window.yv = 200;
  EXPECT_EQ(NeededSize(window, {400, 600}, 100, 100).height, 200);
}

TEST(JointAugment, GeometryIsAFunctionOfTheGeneratorAndColourKeepsGreyInTheMiddle) {
  JointAugmentOptions options;
  options.rotation_degrees = 30;
  options.brightness = options.contrast = options.saturation = 0.4;
  const CounterRng rng(1, 2), other(1, 3);
  const PictureMap a = DrawGeometry(options, {50, 80}, 32, 32, &rng);
  const PictureMap b = DrawGeometry(options, {50, 80}, 32, 32, &rng);
  const PictureMap c = DrawGeometry(options, {50, 80}, 32, 32, &other);
  EXPECT_EQ(a.xu, b.xu);
  EXPECT_NE(a.xu, c.xu);
  // About the centre, without change of size.
  EXPECT_NEAR(a.xu / 2 + a.xv / 2 + a.x0, 40, 1e-9);
  EXPECT_NEAR(std::hypot(a.xu, a.yu), 80, 1e-9);
  const PictureMap still = DrawGeometry(options, {50, 80}, 32, 32, nullptr);
  EXPECT_EQ(still.xu, 80);
  EXPECT_EQ(still.xv, 0);

  // Contrast moves values away from the mean grey, saturation away from their own.
  const float packed[8] = {100, 100, 100, 0, 200, 50, 50, 0};
  float out[6];
  ToPlanes(packed, 2, ColourOf(options, {1, 2, 1}, 100 / 255.0), 3, out);
  EXPECT_NEAR(out[0] * 255, 100, 1e-3);
  EXPECT_NEAR(out[1] * 255, 255, 1e-3);
  EXPECT_NEAR(out[3] * 255, 0, 1e-3);
  ToPlanes(packed, 2, ColourOf(options, {1, 1, 0}, 0), 3, out);
  EXPECT_NEAR(out[1] * 255, 0.299 * 200 + 0.701 * 50, 1e-3);
  EXPECT_NEAR(out[1], out[5], 1e-6);
  ToPlanes(packed, 2, ColourOf(options, {0.5, 1, 1}, 0), 3, out);
  EXPECT_NEAR(out[0] * 255, 50, 1e-3);
}

TEST(JointAugment, AllMistakesAreReportedAtOnce) {
  JointAugmentOptions o;
  o.vertical_flip = 2;
  o.scale_min = 2;
  o.crop_area_min = 0;
  o.crop_aspect = 0.5;
  o.brightness = -1;
  o.mean = {1, 2};
  Findings findings;
  CheckJointAugment(o, 3, &findings);
  ExpectError(findings.ToStatus(), absl::StatusCode::kInvalidArgument,
              {"vertical_flip is 2", "scale_min is 2", "crop_area_min is 0", "crop_aspect is 0.5",
               "brightness is -1", "mean has 2"});
}

}  // namespace
}  // namespace millrace
