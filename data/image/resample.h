// Pictures to the size a network takes: one affine map from the output back to the picture, read with
// antialiasing where the picture is larger. Masks and boxes go through the same map, so they move
// with the pixels.
//
//   PictureMap map = WholePicture(image.height, image.width);         // stretch to the output
//   Resample(image, stored, map, 256, 256, &scratch);                 // scratch.packed: 256 x 256 x 4
//   ToPlanes(scratch.packed.data(), 256 * 256, colour, 3, out);       // 3 planes of floats
//   ResampleMask(mask, stored, map, 256, 256, mask_out);
#ifndef MILLRACE_DATA_IMAGE_RESAMPLE_H_
#define MILLRACE_DATA_IMAGE_RESAMPLE_H_

#include <cstdint>
#include <vector>

#include "data/image/byte_image.h"
#include "data/image/coco_mask.h"
#include "data/image/codec.h"

namespace millrace {

// Where a point of the output lies in the stored picture. (u, v) is a share of the output, (0, 0) its
// upper left corner and (1, 1) its lower right one; x and y are in pixels of the picture as stored:
// x = xu u + xv v + x0. So one map serves every output size and every decoded size.
struct PictureMap {
  double xu = 0, xv = 0, x0 = 0;
  double yu = 0, yv = 0, y0 = 0;
};
PictureMap WholePicture(int height, int width);

// Size of an output pixel in pixels of the picture, along the output's axes.
double PixelHeight(const PictureMap& map, int height);
double PixelWidth(const PictureMap& map, int width);
// Rows and columns that a decoded picture needs so that an output of this size loses nothing.
StoredSize NeededSize(const PictureMap& map, const StoredSize& stored, int height, int width);

// Output samples as weighted sums of `taps` neighbouring inputs from start[i] on.
struct Taps {
  int taps = 0;
  std::vector<int> start;
  std::vector<float> weight;
};
// Sample o lies at `offset + (o + 0.5) * step` of the input, whose samples lie at 0.5, 1.5, ...; a
// triangle filter, as wide as the step (antialias) and at least one sample to each side. Outside of
// the input the weights are 0. `taps` keeps its memory.
void MakeTaps(int input, int output, double offset, double step, Taps* taps);

// Buffers that grow once; one object for each thread.
struct ResampleScratch {
  std::vector<float>
      packed;  // the result: red, green, blue and one more float of each pixel, 0..255
  std::vector<float> shrunk, row;
  Taps rows, columns;
};

// `image` has 4 channels and shows a picture of size `stored`, perhaps decoded smaller. What lies
// outside of the picture is 0.
void Resample(const ByteImage& image, const StoredSize& stored, const PictureMap& map, int height,
              int width, ResampleScratch* scratch);

// Nearest pixel; `mask` has 1 channel and may be of another size than the picture, whose area it
// covers. 0 outside.
void ResampleMask(const ByteImage& mask, const StoredSize& stored, const PictureMap& map,
                  int height, int width, uint8_t* out);

// Centre and size as shares of the output; `visible` is the share of the box's (moved) area that is
// left inside. A turned box becomes the upright box around its corners.
struct MovedBox {
  double cx = 0, cy = 0, width = 0, height = 0;
  double visible = 0;
};
MovedBox MoveBox(const PixelBox& box, const PictureMap& map);

// Colour as a matrix: out[c] = clamp(sum of matrix[c][k] in[k] + matrix[c][3], 0, 1) for in = packed / 255,
// then (out - mean) / deviation.
struct Colour {
  float matrix[3][4] = {{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}};
  bool changed = false;  // false: the matrix is 1
  float mean[3] = {0, 0, 0}, deviation[3] = {1, 1, 1};
};
// `channels` 3, or 1: grey of the three.
void ToPlanes(const float* packed, int64_t pixels, const Colour& colour, int channels, float* out);
// Mean grey (0..1) of a packed picture.
double MeanGrey(const float* packed, int64_t pixels);

}  // namespace millrace

#endif  // MILLRACE_DATA_IMAGE_RESAMPLE_H_
