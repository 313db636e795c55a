// The gradient norm, the clip coefficient and the loss scale on the device: the words, factors and states of
// ops/exact_norm.h, ops/gradient_norm.cc and graph/base/loss_scale.h, bit for bit. Sums are integers, so the order in
// which blocks add theirs does not matter.
//
//   NormLaunch norm{.type = DType::kBF16, .ranges = ..., .chunks = ..., .chunk_count = n, .words = out};
//   if (const char* error = LaunchNorm(norm, stream)) ...                                       // grad_norm
//   LaunchNormSum(inputs, count, words, stream);                                                // norm_sum
//   LaunchClipCoefficient(inputs, count, max_norm, scale, out, stream);                         // clip_coefficient
//   LaunchLossScaleUpdate(options, coefficient, state, stream);                                 // update_loss_scale
//
// All pointers but those of the launch structure itself are to device memory. Null: issued; otherwise why not.
#ifndef MILLRACE_OPS_CUDA_NORM_H_
#define MILLRACE_OPS_CUDA_NORM_H_

#include <cstdint>

#include "graph/base/dtype.h"
#include "graph/base/loss_scale.h"
#include "ops/cuda/chunks.h"

namespace millrace {
namespace cuda {

// Gradients that are no running statistics.
struct NormRange {
  const void* x = nullptr;
  int64_t count = 0;
};

struct NormLaunch {
  DType type = DType::kF32;  // f32, bf16, f16
  const NormRange* ranges = nullptr;
  const Chunk* chunks = nullptr;
  int64_t chunk_count = 0;
  int64_t* words = nullptr;  // NormPartial::kWords; need not be zero
  // By range, elements that are infinite or NaN, found in the same pass: whose gradient overflowed. Null: not wanted.
  int32_t* non_finite = nullptr;
  int64_t range_count = 0;  // of non_finite
};
const char* LaunchNorm(const NormLaunch& launch, void* stream);

// `count` partials one after another: one, or a gathered run of one per rank.
struct NormInput {
  const int64_t* words = nullptr;
  int64_t count = 0;
};
const char* LaunchNormSum(const NormInput* inputs, int64_t count, int64_t* words, void* stream);

// out: the factor, the norm, and with a loss scale 1 when the step overflowed, else 0.
const char* LaunchClipCoefficient(const NormInput* inputs, int64_t count, double max_norm,
                                  const LossScaleState* scale, float* out, void* stream);

// coefficient: clip_coefficient's out. Who gives up is the runner, as on the CPU.
const char* LaunchLossScaleUpdate(const LossScaleOptions& options, const float* coefficient,
                                  LossScaleState* state, void* stream);

}  // namespace cuda
}  // namespace millrace

#endif  // MILLRACE_OPS_CUDA_NORM_H_
