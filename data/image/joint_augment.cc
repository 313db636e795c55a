#include "data/image/joint_augment.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace millrace {
namespace {

// Which index of the sample's generator decides what. Part of what makes runs repeatable: append
// only.
enum Draw : uint64_t {
  kFlipX,
  kFlipY,
  kAngle,
  kScale,
  kShiftX,
  kShiftY,
  kCropArea,
  kCropAspect,
  kCropX,
  kCropY,
  kBrightness,
  kContrast,
  kSaturation
};

double Between(double low, double high, double unit) { return low + (high - low) * unit; }

}  // namespace

void CheckJointAugment(const JointAugmentOptions& o, int channels, Findings* findings) {
  const auto require = [findings](bool ok, std::string message) {
    if (!ok) findings->Add({.check = "augment", .message = std::move(message)});
  };
  const auto share = [&](absl::string_view name, double v) {
    require(v >= 0 && v <= 1, absl::StrCat(name, " is ", v, ", expected 0..1"));
  };
  share("horizontal_flip", o.horizontal_flip);
  share("vertical_flip", o.vertical_flip);
  share("brightness", o.brightness);
  share("contrast", o.contrast);
  share("saturation", o.saturation);
  share("box_visible_min", o.box_visible_min);
  require(o.rotation_degrees >= 0 && o.rotation_degrees <= 180,
          absl::StrCat("rotation_degrees is ", o.rotation_degrees, ", expected 0..180"));
  require(o.scale_min > 0 && o.scale_max >= o.scale_min && std::isfinite(o.scale_max),
          absl::StrCat("scale_min is ", o.scale_min, " and scale_max ", o.scale_max,
                       ", expected 0 < scale_min <= scale_max"));
  require(o.shift_pixels >= 0 && std::isfinite(o.shift_pixels),
          absl::StrCat("shift_pixels is ", o.shift_pixels, ", expected 0 or more"));
  require(o.crop_area_min > 0 && o.crop_area_min <= 1,
          absl::StrCat("crop_area_min is ", o.crop_area_min, ", expected more than 0, at most 1"));
  require(o.crop_aspect >= 1 && std::isfinite(o.crop_aspect),
          absl::StrCat("crop_aspect is ", o.crop_aspect, ", expected 1 or more"));
  const auto one_or_each = [&](absl::string_view name, const std::vector<float>& v) {
    require(v.empty() || v.size() == 1 || static_cast<int>(v.size()) == channels,
            absl::StrCat(name, " has ", v.size(), " values, expected 1 or ", channels,
                         " (one for each channel)"));
  };
  one_or_each("mean", o.mean);
  one_or_each("std", o.std);
  for (const float s : o.std) require(s > 0, absl::StrCat("std is ", s, ", expected above 0"));
}

PictureMap DrawGeometry(const JointAugmentOptions& o, const StoredSize& stored, int height,
                        int width, const CounterRng* rng) {
  PictureMap map = WholePicture(stored.height, stored.width);
  if (rng == nullptr) return map;
  if (o.crop_area_min < 1 || o.crop_aspect > 1) {
    const double area = Between(o.crop_area_min, 1, rng->Uniform(kCropArea));
    const double bend = std::log(o.crop_aspect);
    const double aspect = std::exp(Between(-bend, bend, rng->Uniform(kCropAspect)));
    const double w = std::min(1.0, std::sqrt(area * aspect));
    const double h = std::min(1.0, std::sqrt(area / aspect));
    map.x0 = (1 - w) * rng->Uniform(kCropX) * stored.width;
    map.y0 = (1 - h) * rng->Uniform(kCropY) * stored.height;
    map.xu *= w;
    map.yv *= h;
  }
  if (o.horizontal_flip > 0 && rng->Uniform(kFlipX) < o.horizontal_flip) {
    map.x0 += map.xu;
    map.xu = -map.xu;
  }
  if (o.vertical_flip > 0 && rng->Uniform(kFlipY) < o.vertical_flip) {
    map.y0 += map.yv;
    map.yv = -map.yv;
  }
  const bool turns = o.rotation_degrees > 0;
  if (!turns && o.scale_min == 1 && o.scale_max == 1 && o.shift_pixels == 0) return map;
  // Back from the turned, enlarged and moved picture to the stored one.
  const double degrees =
      turns ? Between(-o.rotation_degrees, o.rotation_degrees, rng->Uniform(kAngle)) : 0;
  const double angle = degrees * 3.14159265358979323846 / 180;
  const double scale = Between(o.scale_min, o.scale_max, rng->Uniform(kScale));
  const double c = turns ? std::cos(angle) / scale : 1 / scale;
  const double s = turns ? std::sin(angle) / scale : 0;
  const double cx = stored.width / 2.0, cy = stored.height / 2.0;
  const double dx =
      Between(-o.shift_pixels, o.shift_pixels, rng->Uniform(kShiftX)) * stored.width / width;
  const double dy =
      Between(-o.shift_pixels, o.shift_pixels, rng->Uniform(kShiftY)) * stored.height / height;
  PictureMap out;
  out.xu = c * map.xu - s * map.yu, out.xv = c * map.xv - s * map.yv;
  out.yu = s * map.xu + c * map.yu, out.yv = s * map.xv + c * map.yv;
  out.x0 = cx + c * (map.x0 - cx - dx) - s * (map.y0 - cy - dy);
  out.y0 = cy + s * (map.x0 - cx - dx) + c * (map.y0 - cy - dy);
  return out;
}

ColourJitter DrawColour(const JointAugmentOptions& o, const CounterRng* rng) {
  ColourJitter jitter;
  if (rng == nullptr) return jitter;
  const auto draw = [rng](double reach, Draw index) {
    return reach > 0 ? Between(1 - reach, 1 + reach, rng->Uniform(index)) : 1.0;
  };
  jitter.brightness = draw(o.brightness, kBrightness);
  jitter.contrast = draw(o.contrast, kContrast);
  jitter.saturation = draw(o.saturation, kSaturation);
  return jitter;
}

Colour ColourOf(const JointAugmentOptions& o, const ColourJitter& jitter, double mean_grey) {
  Colour colour;
  for (int c = 0; c < 3; ++c) {
    if (!o.mean.empty()) colour.mean[c] = o.mean[o.mean.size() == 1 ? 0 : c];
    if (!o.std.empty()) colour.deviation[c] = o.std[o.std.size() == 1 ? 0 : c];
  }
  const double b = jitter.brightness, k = jitter.contrast, s = jitter.saturation;
  colour.changed = b != 1 || k != 1 || s != 1;
  if (!colour.changed) return colour;
  const double grey[3] = {0.299, 0.587, 0.114};
  for (int c = 0; c < 3; ++c) {
    for (int i = 0; i < 3; ++i) {
      colour.matrix[c][i] = static_cast<float>(b * k * ((c == i ? s : 0) + (1 - s) * grey[i]));
    }
    colour.matrix[c][3] = static_cast<float>((1 - k) * b * mean_grey);
  }
  return colour;
}

}  // namespace millrace
