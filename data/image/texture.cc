#include "data/image/texture.h"

#include <algorithm>
#include <cmath>

namespace millrace {

Texture::Texture(int height, int width, double cell, const CounterRng& rng)
    : coarse_(MakeGrid(height, width, std::max(2.0, cell), rng, 0)),
      fine_(MakeGrid(height, width, std::max(2.0, cell / 3), rng, uint64_t{1} << 40)) {}

Texture::Grid Texture::MakeGrid(int height, int width, double cell, const CounterRng& rng,
                                uint64_t from) {
  const int rows = static_cast<int>(height / cell) + 2;
  Grid grid{cell, static_cast<int>(width / cell) + 2, {}};
  grid.values.resize(static_cast<size_t>(rows) * grid.columns);
  for (size_t i = 0; i < grid.values.size(); ++i) {
    grid.values[i] = static_cast<float>(rng.Uniform(from + i));
  }
  return grid;
}

float Texture::Grid::at(int y, int x) const {
  const double gy = y / cell, gx = x / cell;
  const int iy = static_cast<int>(gy), ix = static_cast<int>(gx);
  const float fy = static_cast<float>(gy - iy), fx = static_cast<float>(gx - ix);
  const float sy = fy * fy * (3 - 2 * fy), sx = fx * fx * (3 - 2 * fx);
  const float* p = values.data() + static_cast<size_t>(iy) * columns + ix;
  const float top = p[0] + (p[1] - p[0]) * sx;
  const float bottom = p[columns] + (p[columns + 1] - p[columns]) * sx;
  return top + (bottom - top) * sy;
}

float Texture::at(int y, int x) const { return 0.7f * coarse_.at(y, x) + 0.3f * fine_.at(y, x); }

void PixelNoise(const CounterRng& rng, uint64_t pixel, float out[3]) {
  // The sum of a word's four bytes is near enough to normal: mean 510, deviation 147.8.
  const auto block = rng.Block(pixel);
  for (int c = 0; c < 3; ++c) {
    const uint32_t w = block[c];
    const int sum = static_cast<int>((w & 255) + (w >> 8 & 255) + (w >> 16 & 255) + (w >> 24));
    out[c] = static_cast<float>(sum - 510) * (1.0f / 147.8f);
  }
}

double SmoothStep(double low, double high, double x) {
  const double t = std::clamp((x - low) / (high - low), 0.0, 1.0);
  return t * t * (3 - 2 * t);
}

void StoreColour(const double colour[3], uint8_t* pixel) {
  for (int c = 0; c < 3; ++c) {
    pixel[c] = static_cast<uint8_t>(std::lround(std::clamp(colour[c], 0.0, 1.0) * 255));
  }
}

}  // namespace millrace
