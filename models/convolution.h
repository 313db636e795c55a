// Convolutions of one to three axes over tokens, differentiable, with no memory but what a plan sees.
//
// Models here keep activations as rows: [batch, tokens, channels], tokens row-major over a grid. oneDNN's
// convolutions want images, and take scratch of their own whose size nobody is told. These take two small
// blocks through at::empty, of the same sizes on the meta device and on the CPU.
//
//   const ConvGeometry g{.kernel = {7, 7}, .stride = {3, 3}, .pad_low = {3, 3}, .pad_high = {3, 3}};
//   at::Tensor y = Convolution(x, weight, bias, {128, 128}, g);      // x [B, 16384, C], weight [out, C, 7, 7]
//   OutputGrid({128, 128}, g);                                       // {43, 43}: y is [B, 1849, out]
//
// An undefined bias means "without". bf16 and f16 are f32 inside and rounded once, as in models/layers.h. Bits do
// not depend on the number of threads. On CUDA they are LibTorch's own, on the operands' 16 bits. They throw c10::Error as LibTorch does.
#ifndef MILLRACE_MODELS_CONVOLUTION_H_
#define MILLRACE_MODELS_CONVOLUTION_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace millrace {

// One entry per axis; zeros are padded.
struct ConvGeometry {
  std::vector<int64_t> kernel, stride, pad_low, pad_high;
};

// Stride 1, and the output grid is the input grid: torch's "same", the odd one at the end.
ConvGeometry SamePadding(const std::vector<int64_t>& kernel);

std::vector<int64_t> OutputGrid(const std::vector<int64_t>& grid, const ConvGeometry& geometry);

// x [B, N, C] on `grid`, weight [out, C, kernel...] -> [B, N', out] on OutputGrid.
at::Tensor Convolution(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                       const std::vector<int64_t>& grid, const ConvGeometry& geometry);

// The transposed convolution of kernel = stride, no padding: every token becomes a patch of its own.
// x [B, N, C] on `grid`, weight [C, out, kernel...] -> [B, N * patch, out] on grid * kernel.
at::Tensor UpConvolution(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                         const std::vector<int64_t>& grid, const std::vector<int64_t>& kernel);

}  // namespace millrace

#endif  // MILLRACE_MODELS_CONVOLUTION_H_
