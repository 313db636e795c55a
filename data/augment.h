// Random changes of training images - flip, crop, rotation, scale, shift - and the fixed ones that
// evaluation needs too: resize and normalise.
//
// A pure function of (image, rng): the loader gives each sample the generator of its (seed, epoch,
// index), so an image is augmented alike on any rank, thread and after any restart.
//
//   ASSIGN_OR_RETURN(Augmenter augmenter, Augmenter::Create(options, dataset->shape()));
//   Augmenter::Scratch scratch;                                  // one for each thread
//   augmenter.Train(pixels, rng, out, &scratch);                 // out: augmenter.output()
//   elements augmenter.Evaluate(pixels, out, &scratch);
//
// Order: flip, crop, rotation + scale + shift about the centre, resize, normalise. All geometry
// before the resize is one affine map, so a pixel is interpolated once (bilinear) and what a crop
// would have cut off can come back in by a rotation; without rotation, scale and shift, pixels are
// copied exactly. What comes from outside the image is 0 (before normalising).
#ifndef MILLRACE_DATA_AUGMENT_H_
#define MILLRACE_DATA_AUGMENT_H_

#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "data/dataset.h"
#include "graph/base/random.h"

namespace millrace {

struct AugmentOptions {
  double horizontal_flip_probability = 0;
  // The image is padded by this many zero pixels on each side and a window of its size cut out.
  int random_crop_padding = 0;
  // Angle drawn evenly from [-rotation_degrees, +rotation_degrees]; positive is counter-clockwise.
  double rotation_degrees = 0;
  // Size factor drawn evenly from [scale_min, scale_max]; above 1 enlarges.
  double scale_min = 1;
  double scale_max = 1;
  // Shift of each axis drawn evenly from +-(shift_pixels + shift_fraction * side).
  double shift_pixels = 0;
  double shift_fraction = 0;
  // 0: keep. Bilinear; shrinking averages over all covered pixels (antialias, as torchvision does).
  int resize_height = 0;
  int resize_width = 0;
  // (value - mean) / std, one number for all channels or one each; empty: leave the values alone.
  std::vector<float> mean;
  std::vector<float> std;
};

// Where an output pixel (x, y) takes its value from: source x = xx x + xy y + x0, source y
// likewise.
struct Affine {
  double xx = 1, xy = 0, x0 = 0;
  double yx = 0, yy = 1, y0 = 0;
};
// The map that turns an image by `degrees` counter-clockwise and enlarges it by `scale` about its
// centre, then moves it by (dx, dy) to the right and down. Quarter turns are exact.
Affine RotateScaleShift(const ImageShape& shape, double degrees, double scale, double dx,
                        double dy);

// Weights of a one-dimensional resize: output i is the weighted sum of `taps` inputs from start[i]
// on.
struct ResizeAxis {
  int taps = 1;
  std::vector<int> start;
  std::vector<float> weight;  // taps for each output
};
ResizeAxis MakeResizeAxis(int input, int output);

class Augmenter {
 public:
  // Buffers that grow to the image once; one object for each thread.
  struct Scratch {
    std::vector<float> padded, warped, rows;
    std::vector<int> offset;
    std::vector<float> fraction_x, fraction_y;
  };

  // All mistakes of the options at once, as kInvalidArgument.
  static absl::StatusOr<Augmenter> Create(const AugmentOptions& options, const ImageShape& input);

  ImageShape input() const { return input_; }
  ImageShape output() const { return output_; }
  // Train (Evaluate) would copy the image unchanged.
  bool identity() const { return !random_ && evaluation_identity(); }
  bool evaluation_identity() const { return !resize_ && scale_.empty(); }

  // `in` holds input().elements(), `out` output().elements(); they must not overlap.
  void Train(absl::Span<const float> in, const CounterRng& rng, absl::Span<float> out,
             Scratch* scratch) const;
  void Evaluate(absl::Span<const float> in, absl::Span<float> out, Scratch* scratch) const;

 private:
  Augmenter() = default;
  void Geometry(const float* in, const CounterRng& rng, float* out, Scratch* scratch) const;
  void Finish(const float* in, float* out, Scratch* scratch) const;

  AugmentOptions options_;
  ImageShape input_, output_;
  bool random_ = false, warp_ = false, resize_ = false;
  ResizeAxis rows_, columns_;
  std::vector<float> mean_, scale_;  // one for each channel: (value - mean) * scale
};

// The steps by themselves, for tests and for other users of images.

// out[y][x] = in[y + dy][x + dx], 0 outside; with `flip` the input is mirrored left to right first.
void CopyShifted(const float* in, const ImageShape& shape, bool flip, int dx, int dy, float* out);
// Bilinear, 0 outside.
void WarpAffine(const float* in, const ImageShape& shape, const Affine& map, float* out,
                Augmenter::Scratch* scratch);
// `rows` and `columns` from MakeResizeAxis of the heights and of the widths.
void Resize(const float* in, const ImageShape& shape, const ResizeAxis& rows,
            const ResizeAxis& columns, float* out, Augmenter::Scratch* scratch);

}  // namespace millrace

#endif  // MILLRACE_DATA_AUGMENT_H_
