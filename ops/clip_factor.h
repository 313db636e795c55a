// The factor of clipping, once for the CPU and for devices: the same bits. Declared for the CPU in
// ops/optimizer_kernels.h, which says what it is.
//
//   ClipFactorOf(norm, max_norm);  UnscaleClipFactorOf(scaled_norm, scale, max_norm);
#ifndef MILLRACE_OPS_CLIP_FACTOR_H_
#define MILLRACE_OPS_CLIP_FACTOR_H_

#include "graph/base/host_device.h"

namespace millrace {

// A product that no compiler fuses with the sum it goes into. The CPU's are told so by .bazelrc.
MR_HOST_DEVICE inline float RoundedProduct(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fmul_rn(a, b);
#else
  return a * b;
#endif
}

// Neither infinite nor a NaN.
MR_HOST_DEVICE inline bool IsFinite(float x) { return x - x == 0; }

MR_HOST_DEVICE inline float ClipFactorOf(float norm, double max_norm) {
  if (!IsFinite(norm)) return __builtin_nanf("");
  const float factor = static_cast<float>(max_norm) / (norm + 1e-6f);
  return factor < 1.0f ? factor : 1.0f;
}

MR_HOST_DEVICE inline float UnscaleClipFactorOf(float scaled_norm, double scale, double max_norm) {
  const auto back = static_cast<float>(1 / scale);
  if (!IsFinite(scaled_norm)) return __builtin_nanf("");
  if (!(max_norm > 0)) return back;
  return RoundedProduct(back, ClipFactorOf(RoundedProduct(scaled_norm, back), max_norm));
}

}  // namespace millrace

#endif  // MILLRACE_OPS_CLIP_FACTOR_H_
