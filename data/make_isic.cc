#include "data/make_isic.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "data/file.h"
#include "data/image/codec.h"
#include "data/image/texture.h"
#include "graph/base/findings.h"
#include "graph/base/random.h"
#include "graph/base/status.h"

namespace millrace {
namespace {

constexpr double kPi = 3.14159265358979323846;
constexpr int kHarmonics = 6;

// Random numbers of one picture, taken in the order of the code: part of what makes a seed's data.
class Draws {
 public:
  explicit Draws(const CounterRng& rng) : rng_(rng) {}
  double operator()(double low, double high) { return low + (high - low) * rng_.Uniform(next_++); }

 private:
  const CounterRng rng_;
  uint64_t next_ = 0;
};

// An ellipse whose border waves.
struct Lesion {
  double x, y, radius_x, radius_y, cosine, sine;
  double wave[kHarmonics], phase[kHarmonics];

  // 1 on the border, less inside.
  double Distance(double px, double py) const {
    const double dx = px - x, dy = py - y;
    const double u = (dx * cosine + dy * sine) / radius_x, v = (dy * cosine - dx * sine) / radius_y;
    const double angle = std::atan2(v, u);
    double border = 1;
    for (int k = 0; k < kHarmonics; ++k) border += wave[k] * std::cos((k + 2) * angle + phase[k]);
    return std::sqrt(u * u + v * v) / std::max(border, 0.3);
  }
};

Lesion DrawLesion(int height, int width, Draws& draw) {
  const double side = std::min(height, width);
  Lesion l;
  l.x = width * draw(0.35, 0.65);
  l.y = height * draw(0.35, 0.65);
  l.radius_x = side * draw(0.14, 0.38);
  l.radius_y = l.radius_x * draw(0.65, 1.0);
  const double angle = draw(0, kPi);
  l.cosine = std::cos(angle), l.sine = std::sin(angle);
  const double roughness = draw(0.03, 0.14);
  for (int k = 0; k < kHarmonics; ++k) {
    l.wave[k] = roughness * draw(-1, 1) / std::sqrt(k + 1.0);
    l.phase[k] = draw(0, 2 * kPi);
  }
  return l;
}

// A dark curve from one side to another, one or two pixels wide.
void DrawHair(ByteImage* image, Draws& draw) {
  const double w = image->width, h = image->height;
  const double x0 = w * draw(0, 1), y0 = h * draw(0, 1), angle = draw(0, 2 * kPi);
  const double length = std::max(w, h) * draw(0.3, 0.9), bend = length * draw(-0.25, 0.25);
  const double x2 = x0 + length * std::cos(angle), y2 = y0 + length * std::sin(angle);
  const double x1 = (x0 + x2) / 2 - bend * std::sin(angle);
  const double y1 = (y0 + y2) / 2 + bend * std::cos(angle);
  const double reach = std::max(0.7, std::max(w, h) * draw(0.0015, 0.0045));
  const double dark = draw(0.1, 0.45);
  const int steps = static_cast<int>(2 * length) + 2;
  for (int i = 0; i <= steps; ++i) {
    const double t = static_cast<double>(i) / steps;
    const double x = (1 - t) * (1 - t) * x0 + 2 * t * (1 - t) * x1 + t * t * x2;
    const double y = (1 - t) * (1 - t) * y0 + 2 * t * (1 - t) * y1 + t * t * y2;
    for (int py = static_cast<int>(y - reach); py <= static_cast<int>(y + reach); ++py) {
      for (int px = static_cast<int>(x - reach); px <= static_cast<int>(x + reach); ++px) {
        if (px < 0 || py < 0 || px >= image->width || py >= image->height) continue;
        uint8_t* p = image->at(py, px);
        for (int c = 0; c < 3; ++c) p[c] = std::min(p[c], static_cast<uint8_t>(dark * 140));
      }
    }
  }
}

std::string IdOf(int64_t index) { return absl::StrCat("ISIC_", absl::Dec(index, absl::kZeroPad7)); }

std::string JsonList(int64_t first, int64_t count) {
  std::vector<std::string> ids;
  for (int64_t i = first; i < first + count; ++i) ids.push_back(absl::StrCat("\"", IdOf(i), "\""));
  return absl::StrCat("[", absl::StrJoin(ids, ", "), "]");
}

}  // namespace

SkinImage DrawSkin(uint64_t seed, int64_t index, int64_t min_side, int64_t max_side) {
  const uint64_t stream = HashCombine(HashString("make_isic"), static_cast<uint64_t>(index));
  const CounterRng rng(seed, stream);
  Draws draw(rng);
  const int longer = static_cast<int>(draw(static_cast<double>(min_side), max_side + 0.999));
  const int shorter = std::max(8, static_cast<int>(longer * draw(0.6, 1.0)));
  const bool upright = draw(0, 1) < 0.2;
  const int height = upright ? longer : shorter, width = upright ? shorter : longer;

  const double tone = draw(0, 1);
  const double skin[3] = {0.93 - 0.25 * tone, 0.76 - 0.3 * tone, 0.66 - 0.32 * tone};
  const double depth = draw(0.3, 0.6), redness = draw(-0.03, 0.08);
  const double lesion[3] = {skin[0] * (1 - 0.75 * depth) + redness, skin[1] * (1 - depth),
                            skin[2] * (1 - depth)};
  const Lesion shape = DrawLesion(height, width, draw);
  const double blur = draw(0.03, 0.12), grain = draw(0.006, 0.02);
  const int hairs = draw(0, 1) < 0.45 ? static_cast<int>(draw(3, 14)) : 0;
  const double side = std::min(height, width);
  const Texture skin_texture(height, width, side * draw(0.1, 0.3),
                             CounterRng(seed, HashCombine(stream, 1)));
  const Texture lesion_texture(height, width, side * draw(0.03, 0.1),
                               CounterRng(seed, HashCombine(stream, 2)));
  const CounterRng noise(seed, HashCombine(stream, 3));
  const double lamp_x = width * draw(0.4, 0.6), lamp_y = height * draw(0.4, 0.6);

  SkinImage out{ByteImage(height, width, 3), ByteImage(height, width, 1)};
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      const double distance = shape.Distance(x + 0.5, y + 0.5);
      *out.mask.at(y, x) = distance < 1 ? 255 : 0;
      const double inside = 1 - SmoothStep(1 - blur, 1 + blur, distance);
      const double shade = 0.12 * (skin_texture.at(y, x) - 0.5);
      const double spots = 0.3 * (lesion_texture.at(y, x) - 0.5);
      const double fall = std::hypot(x - lamp_x, y - lamp_y) / std::hypot(width, height);
      float n[3];
      PixelNoise(noise, static_cast<uint64_t>(y) * width + x, n);
      double colour[3];
      for (int c = 0; c < 3; ++c) {
        const double ground = skin[c] + shade;
        const double mark = lesion[c] * (1 + spots);
        colour[c] = (ground + (mark - ground) * inside) * (1 - 0.35 * fall * fall) + grain * n[c];
      }
      StoreColour(colour, out.image.at(y, x));
    }
  }
  for (int i = 0; i < hairs; ++i) DrawHair(&out.image, draw);
  return out;
}

absl::Status MakeIsic(const MakeIsicOptions& options) {
  Findings findings;
  const auto require = [&findings](bool ok, std::string message) {
    if (!ok) findings.Add({.check = "make_isic", .message = std::move(message)});
  };
  constexpr int64_t kLimit = 100000;
  require(!options.directory.empty(), "no directory given, expected where to write");
  const auto count = [&](absl::string_view name, int64_t value, int64_t least) {
    require(value >= least && value <= kLimit,
            absl::StrCat(name, " is ", value, ", expected ", least, "..", kLimit));
  };
  count("train_images", options.train_images, 1);
  count("val_images", options.val_images, 0);
  count("test_images", options.test_images, 0);
  require(
      options.min_side >= 16 && options.max_side <= 8192 && options.min_side <= options.max_side,
      absl::StrCat("min_side is ", options.min_side, " and max_side ", options.max_side,
                   ", expected 16 <= min_side <= max_side <= 8192"));
  RETURN_IF_ERROR(findings.ToStatus());

  const std::string& d = options.directory;
  RETURN_IF_ERROR(MakeDirectories(d + "/images"));
  RETURN_IF_ERROR(MakeDirectories(d + "/masks"));
  RETURN_IF_ERROR(RemoveFile(d + "/splits.json"));
  const int64_t all = options.train_images + options.val_images + options.test_images;
  for (int64_t i = 0; i < all; ++i) {
    const SkinImage skin = DrawSkin(options.seed, i, options.min_side, options.max_side);
    ASSIGN_OR_RETURN(const std::vector<uint8_t> jpeg, EncodeJpeg(skin.image, 90));
    ASSIGN_OR_RETURN(const std::vector<uint8_t> png, EncodePng(skin.mask));
    RETURN_IF_ERROR(WriteFile(absl::StrCat(d, "/images/", IdOf(i), ".jpg"), jpeg));
    RETURN_IF_ERROR(WriteFile(absl::StrCat(d, "/masks/", IdOf(i), "_segmentation.png"), png));
  }
  const int64_t val = options.train_images, test = val + options.val_images;
  return WriteFileAtomically(
      absl::StrCat(d, "/splits.json"),
      absl::StrCat("{\n  \"train\": ", JsonList(0, val),
                   ",\n  \"val\": ", JsonList(val, options.val_images),
                   ",\n  \"test\": ", JsonList(test, options.test_images), "\n}\n"));
}

}  // namespace millrace
