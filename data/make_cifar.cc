#include "data/make_cifar.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "data/cifar.h"
#include "data/file.h"
#include "data/sample_order.h"
#include "graph/base/findings.h"
#include "graph/base/random.h"
#include "graph/base/status.h"

namespace millrace {
namespace {

constexpr double kPi = 3.14159265358979323846;
constexpr int kFinePerCoarse = kCifar100Fine / kCifar100Coarse;
constexpr int kRecord = 2 + kCifarPixels;

// Full colour of a hue in [0, 1): red, green and blue are cosines a third of a turn apart.
void Colour(double hue, double out[3]) {
  for (int c = 0; c < 3; ++c) out[c] = 0.5 + 0.35 * std::cos(2 * kPi * (hue - c / 3.0));
}

// What makes a class: fixed for the seed.
struct Texture {
  double ground[3], stripe[3];
  double step_x, step_y;  // radians a pixel
};

Texture TextureOf(int fine, uint64_t seed) {
  const int coarse = fine / kFinePerCoarse;
  const double turn = CounterRng(seed, HashString("make_cifar.turn")).Uniform(coarse);
  Texture t;
  // The golden ratio spreads the hues of neighbouring coarse classes; the two colours of one class
  // are between a quarter and three quarters of a turn apart.
  const double hue = std::fmod(coarse * 0.6180339887498949 + turn / kCifar100Coarse, 1.0);
  Colour(hue, t.ground);
  Colour(hue + 0.25 + 0.5 * ((coarse * 7) % kCifar100Coarse) / kCifar100Coarse, t.stripe);
  const int kind = fine % kFinePerCoarse;
  const double angle = kPi * (kind + turn) / kFinePerCoarse;
  const double period = 5.0 + 2.0 * kind;
  t.step_x = 2 * kPi / period * std::cos(angle);
  t.step_y = 2 * kPi / period * std::sin(angle);
  return t;
}

void Draw(const Texture& t, const CounterRng& rng, uint8_t* pixels) {
  constexpr int kArea = kCifarSide * kCifarSide;
  const double phase = (rng.Uniform(0) - 0.5) * kPi / 2;
  const double bright = (rng.Uniform(1) - 0.5) * 0.2;
  const double contrast = 0.6 + 0.4 * rng.Uniform(2);
  for (int y = 0; y < kCifarSide; ++y) {
    for (int x = 0; x < kCifarSide; ++x) {
      const int at = y * kCifarSide + x;
      const double mix = contrast * (0.5 + 0.5 * std::sin(t.step_x * x + t.step_y * y + phase));
      // Noise per channel: the sum of a word's four bytes is near enough to normal.
      const auto noise = rng.Block(static_cast<uint64_t>(16 + at));
      for (int c = 0; c < 3; ++c) {
        const uint32_t w = noise[c];
        const int sum = static_cast<int>((w & 255) + (w >> 8 & 255) + (w >> 16 & 255) + (w >> 24));
        const double value =
            t.ground[c] + (t.stripe[c] - t.ground[c]) * mix + bright + (sum - 510) * (0.08 / 147.8);
        pixels[c * kArea + at] =
            static_cast<uint8_t>(std::lround(std::clamp(value, 0.0, 1.0) * 255));
      }
    }
  }
}

std::vector<uint8_t> Records(const MakeCifarOptions& options, absl::string_view part, int64_t count,
                             const std::vector<Texture>& textures) {
  std::vector<uint8_t> bytes(static_cast<size_t>(count * kRecord));
  const uint64_t stream = HashString(absl::StrCat("make_cifar.", part));
  const uint64_t order_seed = HashCombine(stream, options.seed);
  const std::vector<int64_t> order = EpochOrder(count, order_seed, 0, true);
  for (int64_t i = 0; i < count; ++i) {
    const int fine = static_cast<int>(order[i] % options.classes);
    uint8_t* record = bytes.data() + i * kRecord;
    record[0] = static_cast<uint8_t>(fine / kFinePerCoarse);
    record[1] = static_cast<uint8_t>(fine);
    Draw(textures[fine], CounterRng(options.seed, HashCombine(stream, static_cast<uint64_t>(i))),
         record + 2);
  }
  return bytes;
}

}  // namespace

absl::Status MakeCifar(const MakeCifarOptions& options) {
  Findings findings;
  const auto require = [&findings](bool ok, std::string message) {
    if (!ok) findings.Add({.check = "make_cifar", .message = std::move(message)});
  };
  constexpr int64_t kLimit = 1000000;  // 3 GB: this is for small data
  require(!options.directory.empty(), "no directory given, expected where to write");
  require(options.train_images >= 1 && options.train_images <= kLimit,
          absl::StrCat("train_images is ", options.train_images, ", expected 1..", kLimit));
  require(options.test_images >= 1 && options.test_images <= kLimit,
          absl::StrCat("test_images is ", options.test_images, ", expected 1..", kLimit));
  require(options.classes >= 1 && options.classes <= kCifar100Fine,
          absl::StrCat("classes is ", options.classes, ", expected 1..", kCifar100Fine));
  RETURN_IF_ERROR(findings.ToStatus());

  std::vector<Texture> textures;
  for (int fine = 0; fine < options.classes; ++fine) {
    textures.push_back(TextureOf(fine, options.seed));
  }
  std::string fine_names, coarse_names;
  for (int fine = 0; fine < kCifar100Fine; ++fine) {
    absl::StrAppend(&fine_names, "texture_", absl::Dec(fine / kFinePerCoarse, absl::kZeroPad2), "_",
                    fine % kFinePerCoarse, "\n");
  }
  for (int coarse = 0; coarse < kCifar100Coarse; ++coarse) {
    absl::StrAppend(&coarse_names, "colours_", absl::Dec(coarse, absl::kZeroPad2), "\n");
  }
  RETURN_IF_ERROR(MakeDirectories(options.directory));
  const std::string& d = options.directory;
  RETURN_IF_ERROR(WriteFileAtomically(absl::StrCat(d, "/train.bin"),
                                      Records(options, "train", options.train_images, textures)));
  RETURN_IF_ERROR(WriteFileAtomically(absl::StrCat(d, "/test.bin"),
                                      Records(options, "test", options.test_images, textures)));
  RETURN_IF_ERROR(WriteFileAtomically(absl::StrCat(d, "/fine_label_names.txt"), fine_names));
  return WriteFileAtomically(absl::StrCat(d, "/coarse_label_names.txt"), coarse_names);
}

}  // namespace millrace
