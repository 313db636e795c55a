// The arithmetic of models/convolution.h over plain memory: the three sums that a convolution and its
// gradients - and a transposed convolution and its - are made of.
//
// Each walks over chunks of input channels, all kernel offsets of a chunk at a time, and over blocks of
// output places: a block's columns (what each place sees of the chunk) are copied side by side, and one
// matrix product takes them together with the chunk's weights.
//
//   block of places                weights of the chunk
//   [places, offsets x channels] x [offsets x channels, out] += y [places, out]
//
// Columns lie as (offset, channel), which makes them copies of whole runs of channels, and the chunk's
// weights are transposed to match. Where there are fewer places than output channels, as in deep blocks with
// tens of millions of weights and a handful of tokens, it is cheaper the other way round: weights stay where
// they are and columns are written as (channel, offset). A kernel of one place at stride 1 needs no columns.
//
// Work is cut by shapes alone and every sum has one order, so bits do not depend on the number of threads.
#ifndef MILLRACE_MODELS_CONVOLUTION_LOOPS_H_
#define MILLRACE_MODELS_CONVOLUTION_LOOPS_H_

#include <array>
#include <cstdint>

namespace millrace {

// A convolution from grid `in` to grid `out`. Always three axes; those that are absent have size 1.
struct ConvShape {
  using Axes = std::array<int64_t, 3>;
  int64_t batch = 1, in_channels = 1, out_channels = 1;
  Axes in{1, 1, 1}, out{1, 1, 1}, kernel{1, 1, 1}, stride{1, 1, 1}, pad{0, 0, 0};

  int64_t in_tokens() const { return in[0] * in[1] * in[2]; }
  int64_t out_tokens() const { return out[0] * out[1] * out[2]; }
  int64_t rows() const { return batch * out_tokens(); }
  int64_t offsets() const { return kernel[0] * kernel[1] * kernel[2]; }
  int64_t weights() const { return out_channels * in_channels * offsets(); }
  int64_t flops() const { return 2 * rows() * weights(); }

  bool pointwise() const;  // a token's output depends on this token alone
  bool transposes_weights() const;
  int64_t chunk_channels() const;  // the last chunk may have fewer

  // Floats of scratch on so many threads.
  int64_t column_floats(int threads) const;
  int64_t weight_floats() const;
};

struct ConvScratch {
  float* columns;
  float* weights;
  int threads;  // what column_floats was asked with
};

// x [batch, in, in_channels], w [out_channels, in_channels, kernel], y [batch, out, out_channels], bias may be null.
void ConvForward(const ConvShape& s, const float* x, const float* w, const float* bias, float* y,
                 const ConvScratch& scratch);

// dx = the sum over y of what each of its places had from x, plus bias [in_channels] unless null: the gradient of
// the input, and what a transposed convolution computes.
void ConvInputSum(const ConvShape& s, const float* dy, const float* w, const float* bias, float* dx,
                  const ConvScratch& scratch);

void ConvWeightSum(const ConvShape& s, const float* x, const float* dy, float* dw,
                   const ConvScratch& scratch);

// sums [columns] of data [rows, columns].
void ColumnSums(const float* data, int64_t rows, int64_t columns, float* sums);

}  // namespace millrace

#endif  // MILLRACE_MODELS_CONVOLUTION_LOOPS_H_
