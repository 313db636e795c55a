#include "data/augment.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "graph/base/findings.h"
#include "graph/base/status.h"

namespace millrace {
namespace {

// Which index of the sample's generator decides what. Part of what makes runs repeatable: append
// only.
enum Draw : uint64_t { kFlip, kCropX, kCropY, kAngle, kScale, kShiftX, kShiftY };

double Between(double low, double high, double unit) { return low + (high - low) * unit; }

}  // namespace

Affine RotateScaleShift(const ImageShape& shape, double degrees, double scale, double dx,
                        double dy) {
  const double angle = degrees * 3.14159265358979323846 / 180;
  // cos(90 degrees) is 6e-17 in floating point; as 0 it makes quarter turns move whole pixels.
  const auto snap = [](double v) {
    return std::abs(v - std::round(v)) < 1e-12 ? std::round(v) : v;
  };
  const double c = snap(std::cos(angle)) / scale, s = snap(std::sin(angle)) / scale;
  const double cx = (shape.width - 1) / 2.0, cy = (shape.height - 1) / 2.0;
  Affine map;
  map.xx = c, map.xy = -s, map.x0 = cx - c * (cx + dx) + s * (cy + dy);
  map.yx = s, map.yy = c, map.y0 = cy - s * (cx + dx) - c * (cy + dy);
  return map;
}

ResizeAxis MakeResizeAxis(int input, int output) {
  ResizeAxis axis;
  const double step = static_cast<double>(input) / output;
  // A triangle of half width 1 interpolates; stretched to the step it averages what is shrunk away.
  const double reach = std::max(1.0, step);
  axis.taps = std::min(input, static_cast<int>(std::ceil(reach)) * 2 + 1);
  axis.start.resize(output);
  axis.weight.assign(static_cast<size_t>(output) * axis.taps, 0.0f);
  for (int o = 0; o < output; ++o) {
    const double centre = (o + 0.5) * step - 0.5;
    const int first = std::clamp(static_cast<int>(std::ceil(centre - reach)), 0, input - axis.taps);
    double sum = 0;
    const auto at = [&](int t) { return std::max(0.0, 1 - std::abs(first + t - centre) / reach); };
    for (int t = 0; t < axis.taps; ++t) sum += at(t);
    for (int t = 0; t < axis.taps; ++t) {
      axis.weight[o * axis.taps + t] = static_cast<float>(at(t) / sum);
    }
    axis.start[o] = first;
  }
  return axis;
}

void CopyShifted(const float* in, const ImageShape& shape, bool flip, int dx, int dy, float* out) {
  const int w = shape.width, h = shape.height;
  // Columns first .. last of the output come from inside the input, the others are 0.
  const int first = std::clamp(-dx, 0, w), last = std::clamp(w - dx, first, w);
  for (int c = 0; c < shape.channels; ++c, in += h * w) {
    for (int y = 0; y < h; ++y, out += w) {
      if (y + dy < 0 || y + dy >= h) {
        std::fill(out, out + w, 0.0f);
        continue;
      }
      const float* row = in + (y + dy) * w;
      std::fill(out, out + first, 0.0f);
      if (flip) {
        for (int x = first; x < last; ++x) out[x] = row[w - 1 - (x + dx)];
      } else {
        std::copy(row + first + dx, row + last + dx, out + first);
      }
      std::fill(out + last, out + w, 0.0f);
    }
  }
}

void WarpAffine(const float* in, const ImageShape& shape, const Affine& map, float* out,
                Augmenter::Scratch* scratch) {
  const int w = shape.width, h = shape.height;
  // With a border of zeros (one pixel before, two after) every clamped position has four
  // neighbours, so the inner loops need no branch: the weights of the border give the fade to 0 by
  // themselves.
  const int stride = w + 3, plane = stride * (h + 3);
  scratch->padded.assign(static_cast<size_t>(plane) * shape.channels, 0.0f);
  for (int c = 0; c < shape.channels; ++c) {
    for (int y = 0; y < h; ++y) {
      std::memcpy(&scratch->padded[c * plane + (y + 1) * stride + 1], in + (c * h + y) * w,
                  w * sizeof(float));
    }
  }
  scratch->offset.resize(w);
  scratch->fraction_x.resize(w);
  scratch->fraction_y.resize(w);
  int* offset = scratch->offset.data();
  float* fraction_x = scratch->fraction_x.data();
  float* fraction_y = scratch->fraction_y.data();
  const float xx = static_cast<float>(map.xx), yx = static_cast<float>(map.yx);
  const float x_limit = static_cast<float>(w + 1), y_limit = static_cast<float>(h + 1);
  for (int y = 0; y < h; ++y) {
    // Positions in the padded image, where the first pixel is at (1, 1).
    const float x0 = static_cast<float>(map.xy * y + map.x0 + 1);
    const float y0 = static_cast<float>(map.yy * y + map.y0 + 1);
    for (int x = 0; x < w; ++x) {
      const float sx = std::min(std::max(xx * static_cast<float>(x) + x0, 0.0f), x_limit);
      const float sy = std::min(std::max(yx * static_cast<float>(x) + y0, 0.0f), y_limit);
      const int ix = static_cast<int>(sx), iy = static_cast<int>(sy);
      offset[x] = iy * stride + ix;
      fraction_x[x] = sx - static_cast<float>(ix);
      fraction_y[x] = sy - static_cast<float>(iy);
    }
    for (int c = 0; c < shape.channels; ++c) {
      const float* source = scratch->padded.data() + c * plane;
      float* row = out + (c * h + y) * w;
      for (int x = 0; x < w; ++x) {
        const float* p = source + offset[x];
        const float top = p[0] + (p[1] - p[0]) * fraction_x[x];
        const float bottom = p[stride] + (p[stride + 1] - p[stride]) * fraction_x[x];
        row[x] = top + (bottom - top) * fraction_y[x];
      }
    }
  }
}

void Resize(const float* in, const ImageShape& shape, const ResizeAxis& rows,
            const ResizeAxis& columns, float* out, Augmenter::Scratch* scratch) {
  const int w = shape.width, h = shape.height;
  const int out_h = static_cast<int>(rows.start.size());
  const int out_w = static_cast<int>(columns.start.size());
  scratch->rows.resize(w);
  float* sum = scratch->rows.data();
  for (int c = 0; c < shape.channels; ++c, in += h * w) {
    for (int y = 0; y < out_h; ++y, out += out_w) {
      std::fill(sum, sum + w, 0.0f);
      for (int t = 0; t < rows.taps; ++t) {
        const float weight = rows.weight[y * rows.taps + t];
        if (weight == 0.0f) continue;
        const float* row = in + (rows.start[y] + t) * w;
        for (int x = 0; x < w; ++x) sum[x] += weight * row[x];
      }
      const float* weight = columns.weight.data();
      for (int x = 0; x < out_w; ++x, weight += columns.taps) {
        const float* from = sum + columns.start[x];
        float value = 0;
        for (int t = 0; t < columns.taps; ++t) value += weight[t] * from[t];
        out[x] = value;
      }
    }
  }
}

absl::StatusOr<Augmenter> Augmenter::Create(const AugmentOptions& options,
                                            const ImageShape& input) {
  Findings findings;
  const auto require = [&findings](bool ok, std::string message) {
    if (!ok) findings.Add({.check = "augment", .message = std::move(message)});
  };
  const AugmentOptions& o = options;
  require(input.channels > 0 && input.height > 0 && input.width > 0,
          absl::StrCat("the image shape is ", input.channels, "x", input.height, "x", input.width,
                       ", expected channels, height and width above 0"));
  require(o.horizontal_flip_probability >= 0 && o.horizontal_flip_probability <= 1,
          absl::StrCat("horizontal_flip_probability is ", o.horizontal_flip_probability,
                       ", expected 0..1"));
  require(o.random_crop_padding >= 0,
          absl::StrCat("random_crop_padding is ", o.random_crop_padding, ", expected 0 or more"));
  require(o.rotation_degrees >= 0 && o.rotation_degrees <= 360,
          absl::StrCat("rotation_degrees is ", o.rotation_degrees, ", expected 0..360"));
  require(o.scale_min > 0 && o.scale_max >= o.scale_min && std::isfinite(o.scale_max),
          absl::StrCat("scale_min is ", o.scale_min, " and scale_max ", o.scale_max,
                       ", expected 0 < scale_min <= scale_max"));
  require(o.shift_pixels >= 0 && std::isfinite(o.shift_pixels),
          absl::StrCat("shift_pixels is ", o.shift_pixels, ", expected 0 or more"));
  require(o.shift_fraction >= 0 && std::isfinite(o.shift_fraction),
          absl::StrCat("shift_fraction is ", o.shift_fraction, ", expected 0 or more"));
  require(o.resize_height >= 0 && o.resize_width >= 0,
          absl::StrCat("resize_height is ", o.resize_height, " and resize_width ", o.resize_width,
                       ", expected 0 (keep) or more"));
  const auto one_or_each = [&input](size_t n) {
    return n == 1 || n == static_cast<size_t>(input.channels);
  };
  require(o.mean.empty() || one_or_each(o.mean.size()),
          absl::StrCat("mean has ", o.mean.size(), " values, expected 1 or ", input.channels,
                       " (one for each channel)"));
  require(o.std.empty() || one_or_each(o.std.size()),
          absl::StrCat("std has ", o.std.size(), " values, expected 1 or ", input.channels,
                       " (one for each channel)"));
  for (float s : o.std) require(s > 0, absl::StrCat("std is ", s, ", expected above 0"));
  RETURN_IF_ERROR(findings.ToStatus());

  Augmenter a;
  a.options_ = o;
  a.input_ = a.output_ = input;
  if (o.resize_height > 0) a.output_.height = o.resize_height;
  if (o.resize_width > 0) a.output_.width = o.resize_width;
  a.resize_ = a.output_ != input;
  if (a.resize_) {
    a.rows_ = MakeResizeAxis(input.height, a.output_.height);
    a.columns_ = MakeResizeAxis(input.width, a.output_.width);
  }
  a.warp_ = o.rotation_degrees > 0 || o.scale_min != 1 || o.scale_max != 1 || o.shift_pixels > 0 ||
            o.shift_fraction > 0;
  a.random_ = a.warp_ || o.horizontal_flip_probability > 0 || o.random_crop_padding > 0;
  if (!o.mean.empty() || !o.std.empty()) {
    for (int c = 0; c < input.channels; ++c) {
      a.mean_.push_back(o.mean.empty() ? 0.0f : o.mean[o.mean.size() == 1 ? 0 : c]);
      a.scale_.push_back(o.std.empty() ? 1.0f : 1.0f / o.std[o.std.size() == 1 ? 0 : c]);
    }
  }
  return a;
}

void Augmenter::Geometry(const float* in, const CounterRng& rng, float* out,
                         Scratch* scratch) const {
  const AugmentOptions& o = options_;
  const bool flip =
      o.horizontal_flip_probability > 0 && rng.Uniform(kFlip) < o.horizontal_flip_probability;
  int crop_x = 0, crop_y = 0;
  if (o.random_crop_padding > 0) {
    const int places = 2 * o.random_crop_padding + 1;
    crop_x = static_cast<int>(rng.Below(kCropX, places)) - o.random_crop_padding;
    crop_y = static_cast<int>(rng.Below(kCropY, places)) - o.random_crop_padding;
  }
  if (!warp_) return CopyShifted(in, input_, flip, crop_x, crop_y, out);

  const double reach_x = o.shift_pixels + o.shift_fraction * input_.width;
  const double reach_y = o.shift_pixels + o.shift_fraction * input_.height;
  Affine map = RotateScaleShift(
      input_, Between(-o.rotation_degrees, o.rotation_degrees, rng.Uniform(kAngle)),
      Between(o.scale_min, o.scale_max, rng.Uniform(kScale)),
      Between(-reach_x, reach_x, rng.Uniform(kShiftX)),
      Between(-reach_y, reach_y, rng.Uniform(kShiftY)));
  map.x0 += crop_x;
  map.y0 += crop_y;
  if (flip) {
    map.xx = -map.xx;
    map.xy = -map.xy;
    map.x0 = input_.width - 1 - map.x0;
  }
  WarpAffine(in, input_, map, out, scratch);
}

void Augmenter::Finish(const float* in, float* out, Scratch* scratch) const {
  if (resize_) {
    Resize(in, input_, rows_, columns_, out, scratch);
  } else if (in != out) {
    std::copy(in, in + input_.elements(), out);
  }
  if (scale_.empty()) return;
  const int64_t plane = int64_t{output_.height} * output_.width;
  for (int c = 0; c < output_.channels; ++c, out += plane) {
    const float mean = mean_[c], scale = scale_[c];
    for (int64_t i = 0; i < plane; ++i) out[i] = (out[i] - mean) * scale;
  }
}

void Augmenter::Train(absl::Span<const float> in, const CounterRng& rng, absl::Span<float> out,
                      Scratch* scratch) const {
  if (!random_) return Finish(in.data(), out.data(), scratch);
  float* geometry = out.data();
  if (resize_) {
    scratch->warped.resize(input_.elements());
    geometry = scratch->warped.data();
  }
  Geometry(in.data(), rng, geometry, scratch);
  Finish(geometry, out.data(), scratch);
}

void Augmenter::Evaluate(absl::Span<const float> in, absl::Span<float> out,
                         Scratch* scratch) const {
  Finish(in.data(), out.data(), scratch);
}

}  // namespace millrace
