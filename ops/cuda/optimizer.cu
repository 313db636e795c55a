// The arithmetic is that of ops/optimizer_loops-inl.h, operation by operation: __fmul_rn and its like are never
// contracted, and division and square root are correctly rounded.
#include "ops/cuda/elements.cuh"
#include "ops/cuda/emulation/cuda_on_cpu.h"
#include "ops/cuda/optimizer.h"

namespace millrace {
namespace cuda {
namespace {

constexpr int kThreads = 256;

__device__ __forceinline__ float Mul(float a, float b) { return __fmul_rn(a, b); }
__device__ __forceinline__ float Add(float a, float b) { return __fadd_rn(a, b); }
__device__ __forceinline__ float Sub(float a, float b) { return __fsub_rn(a, b); }
__device__ __forceinline__ float OneNan(float x) {
  return x != x ? BitsAs<float>(uint32_t{0x7fc00000}) : x;
}

template <Rule kRule>
struct Has {
  static constexpr bool kMoments = kRule == Rule::kAdamW || kRule == Rule::kAdam;
  static constexpr bool kBuffer = kRule == Rule::kSgdMomentum || kRule == Rule::kSgdNesterov;
};

template <Rule kRule>
__device__ __forceinline__ void Update(const UpdateConstants& c, float grad, float* p, float* m,
                                       float* v) {
  float param = *p, first = *m, second = *v, update;
  grad = Mul(grad, c.scale);
  if constexpr (kRule == Rule::kAdamW) param = Mul(param, c.decay);
  if constexpr (kRule == Rule::kAdam) grad = Add(grad, Mul(c.decay, param));
  if constexpr (Has<kRule>::kMoments) {
    first = Add(first, Mul(Sub(grad, first), c.one_minus_beta1));
    second = Add(Mul(second, c.beta2), Mul(Mul(c.one_minus_beta2, grad), grad));
    update = __fdiv_rn(first, Add(__fdiv_rn(__fsqrt_rn(second), c.bias2_sqrt), c.eps));
  } else {
    grad = Add(grad, Mul(c.decay, param));
    update = grad;
    if constexpr (Has<kRule>::kBuffer) {
      first = Add(Mul(c.momentum, first), grad);
      update = kRule == Rule::kSgdNesterov ? Add(grad, Mul(c.momentum, first)) : first;
    }
  }
  float result = Sub(param, Mul(c.step_size, update));
  if (result != result) {
    first = OneNan(first);
    second = OneNan(second);
    result = OneNan(result);
  }
  *p = result, *m = first, *v = second;
}

__device__ __forceinline__ void Copy1(DType type, void* copy, int64_t i, float p) {
  if (copy == nullptr) return;
  if (type == DType::kBF16) {
    Store1<DType::kBF16>(copy, i, p);
  } else {
    Store1<DType::kF16>(copy, i, p);
  }
}
__device__ __forceinline__ void Copy4(DType type, void* copy, int64_t i, float4 p) {
  if (copy == nullptr) return;
  if (type == DType::kBF16) {
    Store4<DType::kBF16>(copy, i, p);
  } else {
    Store4<DType::kF16>(copy, i, p);
  }
}

// Elements [begin, end) of a run, by the block. Two vectors of each thread are on their way at a time.
template <Rule kRule, DType kGrad>
__device__ __forceinline__ void UpdateRange(const OptimizerRun& r, int64_t begin, int64_t end,
                                            DType copy, const UpdateConstants& c) {
  using H = Has<kRule>;
  constexpr int kVectors = 2;
  const int32_t head = ToAligned4(r.p + begin, sizeof(float));
  int64_t first = begin + head;
  if (first > end) first = end;
  const bool aligned = (!(H::kMoments || H::kBuffer) || IsAligned4(r.m, first, 4)) &&
                       (!H::kMoments || IsAligned4(r.v, first, 4)) &&
                       IsAligned4(r.g, first, kElementBytes<kGrad>) &&
                       (r.copy == nullptr || IsAligned4(r.copy, first, 2));
  const int64_t vectors = aligned ? (end - first) / 4 : 0;
  for (int64_t at = threadIdx.x; at < vectors; at += kVectors * kThreads) {
    float4 p[kVectors], m[kVectors] = {}, v[kVectors] = {}, g[kVectors];
#pragma unroll
    for (int k = 0; k < kVectors; ++k) {
      const int64_t i = first + 4 * (at + k * kThreads);
      if (i + 4 > end) continue;
      p[k] = Load4<DType::kF32>(r.p, i);
      g[k] = Load4<kGrad>(r.g, i);
      if constexpr (H::kMoments || H::kBuffer) m[k] = Load4<DType::kF32>(r.m, i);
      if constexpr (H::kMoments) v[k] = Load4<DType::kF32>(r.v, i);
    }
#pragma unroll
    for (int k = 0; k < kVectors; ++k) {
      const int64_t i = first + 4 * (at + k * kThreads);
      if (i + 4 > end) continue;
      Update<kRule>(c, g[k].x, &p[k].x, &m[k].x, &v[k].x);
      Update<kRule>(c, g[k].y, &p[k].y, &m[k].y, &v[k].y);
      Update<kRule>(c, g[k].z, &p[k].z, &m[k].z, &v[k].z);
      Update<kRule>(c, g[k].w, &p[k].w, &m[k].w, &v[k].w);
      Store4<DType::kF32>(r.p, i, p[k]);
      if constexpr (H::kMoments || H::kBuffer) Store4<DType::kF32>(r.m, i, m[k]);
      if constexpr (H::kMoments) Store4<DType::kF32>(r.v, i, v[k]);
      Copy4(copy, r.copy, i, p[k]);
    }
  }
  // What lies before the first vector and after the last.
  const int64_t before = vectors > 0 ? first - begin : 0;
  const int64_t rest = end - begin - 4 * vectors;
  for (int64_t at = threadIdx.x; at < rest; at += kThreads) {
    const int64_t i = begin + at + (at < before ? 0 : 4 * vectors);
    float p = Load1<DType::kF32>(r.p, i), m = 0, v = 0;
    if constexpr (H::kMoments || H::kBuffer) m = Load1<DType::kF32>(r.m, i);
    if constexpr (H::kMoments) v = Load1<DType::kF32>(r.v, i);
    Update<kRule>(c, Load1<kGrad>(r.g, i), &p, &m, &v);
    Store1<DType::kF32>(r.p, i, p);
    if constexpr (H::kMoments || H::kBuffer) Store1<DType::kF32>(r.m, i, m);
    if constexpr (H::kMoments) Store1<DType::kF32>(r.v, i, v);
    Copy1(copy, r.copy, i, p);
  }
}

template <Rule kRule, DType kGrad>
__global__ void __launch_bounds__(kThreads, 3) UpdateKernel(OptimizerLaunch a) {
  const Chunk chunk = a.chunks[blockIdx.x];
  const OptimizerRun run = a.runs[chunk.item];
  const int64_t end = chunk.begin + chunk.count;
  const bool skip = a.may_skip && a.coefficient[2] != 0;
  if (skip || a.scalars->apply == 0) {
    if (run.copy == nullptr) return;
    for (int64_t i = chunk.begin + threadIdx.x; i < end; i += kThreads)
      Copy1(a.copy, run.copy, i, Load1<DType::kF32>(run.p, i));
    return;
  }
  UpdateConstants c;
  if (run.statistic) {
    c.step_size = run.momentum;
    UpdateRange<Rule::kSgd, kGrad>(run, chunk.begin, end, a.copy, c);
    return;
  }
  c = a.scalars->constants;
  c.scale = a.coefficient == nullptr ? 1.0f : a.coefficient[0];
  if (!run.decay) c.decay = a.scalars->no_decay;
  UpdateRange<kRule, kGrad>(run, chunk.begin, end, a.copy, c);
}

template <Rule kRule>
const char* LaunchRule(const OptimizerLaunch& a, void* stream) {
  auto* kernel = a.grad == DType::kF32    ? &UpdateKernel<kRule, DType::kF32>
                 : a.grad == DType::kBF16 ? &UpdateKernel<kRule, DType::kBF16>
                                          : &UpdateKernel<kRule, DType::kF16>;
  const auto blocks = static_cast<unsigned>(a.chunk_count);
  MR_LAUNCH(kernel, blocks, kThreads, 0, stream, a);
  return LaunchError();
}

}  // namespace

const char* Launch(const OptimizerLaunch& a, void* stream) {
  if (a.grad != DType::kF32 && a.grad != DType::kBF16 && a.grad != DType::kF16) {
    return "an optimizer takes gradients of f32, bf16 or f16";
  }
  if (a.copy != DType::kBF16 && a.copy != DType::kF16) {
    return "an optimizer's copy is bf16 or f16";
  }
  if (a.may_skip && a.coefficient == nullptr) return "who may skip needs the coefficient";
  if (a.chunk_count == 0) return nullptr;
  switch (a.rule) {
    case Rule::kAdamW:
      return LaunchRule<Rule::kAdamW>(a, stream);
    case Rule::kAdam:
      return LaunchRule<Rule::kAdam>(a, stream);
    case Rule::kSgd:
      return LaunchRule<Rule::kSgd>(a, stream);
    case Rule::kSgdMomentum:
      return LaunchRule<Rule::kSgdMomentum>(a, stream);
    case Rule::kSgdNesterov:
      return LaunchRule<Rule::kSgdNesterov>(a, stream);
    default:
      return "LAMB has no kernel for devices";
  }
}

}  // namespace cuda
}  // namespace millrace
