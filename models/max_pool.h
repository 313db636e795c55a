// The largest of each 2 x 2 places, over tokens. Backward needs one byte per result: which place it was.
//
//   at::Tensor y = MaxPool2x2(x, rows, columns);     // [B, rows * columns, C] -> [B, rows/2 * columns/2, C]
//
// Of equal places the first counts, as in LibTorch. An odd last row or column is left out. bf16 and f16 pass as
// they are. (On CUDA backward keeps LibTorch's eight bytes per result.)
#ifndef MILLRACE_MODELS_MAX_POOL_H_
#define MILLRACE_MODELS_MAX_POOL_H_

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace millrace {

at::Tensor MaxPool2x2(const at::Tensor& x, int64_t rows, int64_t columns);

}  // namespace millrace

#endif  // MILLRACE_MODELS_MAX_POOL_H_
