#include "data/image/resample.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace millrace {
namespace {

// One pixel: four floats that x86-64 adds and multiplies at once. Unaligned loads cost nothing.
typedef float Pixel __attribute__((vector_size(16), aligned(4)));

Pixel Load(const float* p) {
  Pixel v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}
void Store(Pixel v, float* p) { std::memcpy(p, &v, sizeof(v)); }

// Sums `taps` rows of n bytes. Written once, compiled for the baseline and for AVX2 (a third of the
// time); products and sums are the same in both: nothing is fused.
inline __attribute__((always_inline)) void SumRowsBody(const uint8_t* const* rows,
                                                       const float* weight, int taps, int64_t n,
                                                       float* out) {
  constexpr int kBlock = 32;
  int64_t i = 0;
  for (; i + kBlock <= n; i += kBlock) {
    float sum[kBlock];
    for (int k = 0; k < kBlock; ++k) sum[k] = weight[0] * static_cast<float>(rows[0][i + k]);
    for (int t = 1; t < taps; ++t) {
      const uint8_t* row = rows[t] + i;
      for (int k = 0; k < kBlock; ++k) sum[k] += weight[t] * static_cast<float>(row[k]);
    }
    for (int k = 0; k < kBlock; ++k) out[i + k] = sum[k];
  }
  for (; i < n; ++i) {
    float sum = weight[0] * static_cast<float>(rows[0][i]);
    for (int t = 1; t < taps; ++t) sum += weight[t] * static_cast<float>(rows[t][i]);
    out[i] = sum;
  }
}

void SumRowsBaseline(const uint8_t* const* rows, const float* weight, int taps, int64_t n,
                     float* out) {
  SumRowsBody(rows, weight, taps, n, out);
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) void SumRowsAvx2(const uint8_t* const* rows, const float* weight,
                                                 int taps, int64_t n, float* out) {
  SumRowsBody(rows, weight, taps, n, out);
}
#endif

using SumRowsFunction = decltype(&SumRowsBaseline);
SumRowsFunction SumRows() {
#if defined(__x86_64__)
  static const SumRowsFunction best =
      __builtin_cpu_supports("avx2") ? SumRowsAvx2 : SumRowsBaseline;
  return best;
#else
  return SumRowsBaseline;
#endif
}

// Both axes by the taps in `scratch`: rows first, a whole row of bytes at a time, then columns, a
// pixel of four floats at a time.
void Separable(const ByteImage& image, int height, int width, ResampleScratch* scratch,
               std::vector<float>* out) {
  const Taps &rows = scratch->rows, &columns = scratch->columns;
  out->resize(static_cast<size_t>(height) * width * 4);
  scratch->row.resize(image.stride());
  const SumRowsFunction sum_rows = SumRows();
  std::vector<const uint8_t*> sources(rows.taps);
  std::vector<float> weights(rows.taps);
  float* to = out->data();
  for (int y = 0; y < height; ++y) {
    int used = 0;
    for (int t = 0; t < rows.taps; ++t) {
      const float w = rows.weight[static_cast<size_t>(y) * rows.taps + t];
      if (w == 0.0f) continue;
      sources[used] = image.row(rows.start[y] + t);
      weights[used++] = w;
    }
    if (used == 0) {
      std::fill(to, to + width * 4, 0.0f);
      to += width * 4;
      continue;
    }
    sum_rows(sources.data(), weights.data(), used, static_cast<int64_t>(image.stride()),
             scratch->row.data());
    const float* w = columns.weight.data();
    for (int x = 0; x < width; ++x, w += columns.taps, to += 4) {
      const float* from = scratch->row.data() + static_cast<size_t>(columns.start[x]) * 4;
      Pixel sum = w[0] * Load(from);
      for (int t = 1; t < columns.taps; ++t) sum += w[t] * Load(from + 4 * t);
      Store(sum, to);
    }
  }
}

// Bilinear from a packed picture of in_h x in_w; position = (fx0 + fxu (x + .5), ...), 0 outside.
void Warp(const float* in, int in_h, int in_w, const PictureMap& map, int height, int width,
          float* out) {
  for (int y = 0; y < height; ++y) {
    const double v = (y + 0.5) / height;
    for (int x = 0; x < width; ++x, out += 4) {
      const double u = (x + 0.5) / width;
      const float sx = static_cast<float>(map.xu * u + map.xv * v + map.x0 - 0.5);
      const float sy = static_cast<float>(map.yu * u + map.yv * v + map.y0 - 0.5);
      Pixel sum = {0, 0, 0, 0};
      if (sx > -1 && sy > -1 && sx < static_cast<float>(in_w) && sy < static_cast<float>(in_h)) {
        const int ix = static_cast<int>(sx + 1) - 1, iy = static_cast<int>(sy + 1) - 1;
        const float fx = sx - static_cast<float>(ix), fy = sy - static_cast<float>(iy);
        const float* p = in + (static_cast<int64_t>(iy) * in_w + ix) * 4;
        if (ix >= 0 && iy >= 0 && ix + 1 < in_w && iy + 1 < in_h) {
          const Pixel top = Load(p) + fx * (Load(p + 4) - Load(p));
          const float* q = p + static_cast<int64_t>(in_w) * 4;
          const Pixel bottom = Load(q) + fx * (Load(q + 4) - Load(q));
          sum = top + fy * (bottom - top);
        } else {
          for (int k = 0; k < 4; ++k) {
            const int px = ix + k % 2, py = iy + k / 2;
            if (px < 0 || py < 0 || px >= in_w || py >= in_h) continue;
            const float w = (k % 2 == 1 ? fx : 1 - fx) * (k / 2 == 1 ? fy : 1 - fy);
            sum += w * Load(in + (static_cast<int64_t>(py) * in_w + px) * 4);
          }
        }
      }
      Store(sum, out);
    }
  }
}

}  // namespace

PictureMap WholePicture(int height, int width) {
  PictureMap map;
  map.xu = width;
  map.yv = height;
  return map;
}

double PixelHeight(const PictureMap& map, int height) {
  return std::hypot(map.xv, map.yv) / height;
}
double PixelWidth(const PictureMap& map, int width) { return std::hypot(map.xu, map.yu) / width; }

StoredSize NeededSize(const PictureMap& map, const StoredSize& stored, int height, int width) {
  // How far one output pixel reaches along the picture's own axes.
  const double step_x = std::hypot(map.xu / width, map.xv / height);
  const double step_y = std::hypot(map.yu / width, map.yv / height);
  const auto size = [](int have, double step) {
    return std::clamp(static_cast<int>(std::ceil(have / std::max(step, 1e-6) - 1e-9)), 1, have);
  };
  return {size(stored.height, step_y), size(stored.width, step_x)};
}

void MakeTaps(int input, int output, double offset, double step, Taps* out) {
  const double reach = std::max(1.0, std::abs(step));
  out->taps = std::min(input, 2 * static_cast<int>(std::ceil(reach)) + 1);
  out->start.resize(output);
  out->weight.assign(static_cast<size_t>(output) * out->taps, 0.0f);
  for (int o = 0; o < output; ++o) {
    const double centre = offset + (o + 0.5) * step - 0.5;
    const double low = std::clamp(std::ceil(centre - reach), 0.0, 1.0 * input - out->taps);
    const int first = static_cast<int>(low);
    out->start[o] = first;
    if (centre < -0.5 - 1e-9 || centre > input - 0.5 + 1e-9) continue;
    double sum = 0;
    const auto at = [&](int t) { return std::max(0.0, 1 - std::abs(first + t - centre) / reach); };
    for (int t = 0; t < out->taps; ++t) sum += at(t);
    for (int t = 0; t < out->taps; ++t) {
      out->weight[static_cast<size_t>(o) * out->taps + t] = static_cast<float>(at(t) / sum);
    }
  }
}

void Resample(const ByteImage& image, const StoredSize& stored, const PictureMap& stored_map,
              int height, int width, ResampleScratch* scratch) {
  // From here on in pixels of the decoded picture.
  const double x_ratio = static_cast<double>(image.width) / stored.width;
  const double y_ratio = static_cast<double>(image.height) / stored.height;
  PictureMap map = stored_map;
  map.xu *= x_ratio, map.xv *= x_ratio, map.x0 *= x_ratio;
  map.yu *= y_ratio, map.yv *= y_ratio, map.y0 *= y_ratio;
  if (map.xv == 0 && map.yu == 0) {
    MakeTaps(image.height, height, map.y0, map.yv / height, &scratch->rows);
    MakeTaps(image.width, width, map.x0, map.xu / width, &scratch->columns);
    return Separable(image, height, width, scratch, &scratch->packed);
  }
  // A turned picture is first shrunk along its own axes to about one pixel per output pixel, then
  // read bilinearly.
  const StoredSize shrunk = NeededSize(map, {image.height, image.width}, height, width);
  const double x_step = static_cast<double>(image.width) / shrunk.width;
  const double y_step = static_cast<double>(image.height) / shrunk.height;
  MakeTaps(image.height, shrunk.height, 0, y_step, &scratch->rows);
  MakeTaps(image.width, shrunk.width, 0, x_step, &scratch->columns);
  Separable(image, shrunk.height, shrunk.width, scratch, &scratch->shrunk);
  map.xu /= x_step, map.xv /= x_step, map.x0 /= x_step;
  map.yu /= y_step, map.yv /= y_step, map.y0 /= y_step;
  scratch->packed.resize(static_cast<size_t>(height) * width * 4);
  Warp(scratch->shrunk.data(), shrunk.height, shrunk.width, map, height, width,
       scratch->packed.data());
}

void ResampleMask(const ByteImage& mask, const StoredSize& stored, const PictureMap& map,
                  int height, int width, uint8_t* out) {
  const double x_ratio = static_cast<double>(mask.width) / stored.width;
  const double y_ratio = static_cast<double>(mask.height) / stored.height;
  for (int y = 0; y < height; ++y) {
    const double v = (y + 0.5) / height;
    for (int x = 0; x < width; ++x) {
      const double u = (x + 0.5) / width;
      const double sx = (map.xu * u + map.xv * v + map.x0) * x_ratio;
      const double sy = (map.yu * u + map.yv * v + map.y0) * y_ratio;
      const bool inside = sx >= 0 && sy >= 0 && sx < mask.width && sy < mask.height;
      *out++ = inside ? *mask.at(static_cast<int>(sy), static_cast<int>(sx)) : 0;
    }
  }
}

MovedBox MoveBox(const PixelBox& box, const PictureMap& map) {
  const double determinant = map.xu * map.yv - map.xv * map.yu;
  double low_u = 1e30, low_v = 1e30, high_u = -1e30, high_v = -1e30;
  for (int corner = 0; corner < 4; ++corner) {
    const double x = box.x + (corner % 2) * box.width - map.x0;
    const double y = box.y + (corner / 2) * box.height - map.y0;
    const double u = (map.yv * x - map.xv * y) / determinant;
    const double v = (map.xu * y - map.yu * x) / determinant;
    low_u = std::min(low_u, u), high_u = std::max(high_u, u);
    low_v = std::min(low_v, v), high_v = std::max(high_v, v);
  }
  const double area = (high_u - low_u) * (high_v - low_v);
  const auto unit = [](double v) { return std::clamp(v, 0.0, 1.0); };
  low_u = unit(low_u), high_u = unit(high_u), low_v = unit(low_v), high_v = unit(high_v);
  MovedBox out;
  out.cx = (low_u + high_u) / 2, out.cy = (low_v + high_v) / 2;
  out.width = high_u - low_u, out.height = high_v - low_v;
  out.visible = area > 0 ? out.width * out.height / area : 0;
  return out;
}

void ToPlanes(const float* packed, int64_t pixels, const Colour& colour, int channels, float* out) {
  const auto unit = [](float v) {
    v = v < 0.0f ? 0.0f : v;
    return v > 1.0f ? 1.0f : v;
  };
  if (channels == 1) {
    const float mean = colour.mean[0], scale = 1.0f / colour.deviation[0];
    float m[4];
    for (int k = 0; k < 4; ++k) {
      m[k] = 0.299f * colour.matrix[0][k] + 0.587f * colour.matrix[1][k] +
             0.114f * colour.matrix[2][k];
    }
    for (int k = 0; k < 3; ++k) m[k] /= 255;
    for (int64_t i = 0; i < pixels; ++i, packed += 4) {
      out[i] = (unit(m[0] * packed[0] + m[1] * packed[1] + m[2] * packed[2] + m[3]) - mean) * scale;
    }
    return;
  }
  for (int c = 0; c < 3; ++c, out += pixels) {
    const float* m = colour.matrix[c];
    const float mean = colour.mean[c], scale = 1.0f / colour.deviation[c];
    if (!colour.changed) {
      const float slope = scale / 255, shift = -mean * scale;
      for (int64_t i = 0; i < pixels; ++i) out[i] = packed[4 * i + c] * slope + shift;
      continue;
    }
    const float m0 = m[0] / 255, m1 = m[1] / 255, m2 = m[2] / 255, m3 = m[3];
    for (int64_t i = 0; i < pixels; ++i) {
      const float* p = packed + 4 * i;
      out[i] = (unit(m0 * p[0] + m1 * p[1] + m2 * p[2] + m3) - mean) * scale;
    }
  }
}

double MeanGrey(const float* packed, int64_t pixels) {
  Pixel sum = {0, 0, 0, 0};
  double total[3] = {0, 0, 0};
  for (int64_t i = 0; i < pixels; ++i) {
    sum += Load(packed + 4 * i);
    if (i % 1024 == 1023 || i + 1 == pixels) {
      for (int c = 0; c < 3; ++c) total[c] += sum[c];
      sum = Pixel{0, 0, 0, 0};
    }
  }
  return (0.299 * total[0] + 0.587 * total[1] + 0.114 * total[2]) / (255.0 * pixels);
}

}  // namespace millrace
