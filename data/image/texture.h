// Smooth random fields for generated pictures: skin, cloth, ground.
//
//   const Texture ground(height, width, /*cell=*/24, CounterRng(seed, stream));
//   const float v = ground.at(y, x);                         // about 0..1, mean 0.5
#ifndef MILLRACE_DATA_IMAGE_TEXTURE_H_
#define MILLRACE_DATA_IMAGE_TEXTURE_H_

#include <vector>

#include "graph/base/random.h"

namespace millrace {

// Random values on a grid of `cell` pixels, smoothly interpolated, plus a second, finer and weaker
// grid (a third of the cell): value noise of two octaves. Only the grids are kept.
class Texture {
 public:
  Texture(int height, int width, double cell, const CounterRng& rng);
  float at(int y, int x) const;

 private:
  struct Grid {
    double cell;
    int columns;
    std::vector<float> values;
    float at(int y, int x) const;
  };
  static Grid MakeGrid(int height, int width, double cell, const CounterRng& rng, uint64_t from);
  Grid coarse_, fine_;
};

// Independent noise of a pixel's three channels, about normal with deviation 1.
void PixelNoise(const CounterRng& rng, uint64_t pixel, float out[3]);

// 0 below `low`, 1 above `high`, smooth between.
double SmoothStep(double low, double high, double x);

// A colour of [0, 1] values to bytes.
void StoreColour(const double colour[3], uint8_t* pixel);

}  // namespace millrace

#endif  // MILLRACE_DATA_IMAGE_TEXTURE_H_
