// The optimizers' arithmetic, once for all instruction sets. Included by optimizer_loops_*.cc only, each of which is
// compiled for another processor: everything here is in an unnamed namespace, so that the linker cannot take one
// file's copy for another's.
//
//   struct Avx2 { ... };                                            // in the .cc: eight floats and what they can do
//   UpdateFn f = PickUpdate<Avx2>(rule, grad, copy);
//
// Equal bits on every processor: + - * / sqrt are rounded correctly everywhere and stand in one order; nothing is
// contracted (.bazelrc); a NaN is replaced by the one of 0x7fc00000 before it is stored, because which of two
// NaNs survives an addition is the compiler's choice. The last elements that fill no vector take the same code at
// width one.
#ifndef MILLRACE_OPS_OPTIMIZER_LOOPS_INL_H_
#define MILLRACE_OPS_OPTIMIZER_LOOPS_INL_H_

#include <type_traits>

#include "dist/kernels.h"
#include "ops/optimizer_loops.h"

namespace millrace {
namespace {

#define MILLRACE_INLINE static inline __attribute__((always_inline))

// A vector type: Float with + - * /, and these functions.
struct Scalar {
  using Float = float;
  static constexpr int kWidth = 1;
  MILLRACE_INLINE Float Set(float x) { return x; }
  MILLRACE_INLINE Float Load(const float* x) { return *x; }
  MILLRACE_INLINE void Store(float* x, Float y) { *x = y; }
  MILLRACE_INLINE Float LoadBF16(const uint16_t* x) { return FromBF16(*x); }
  MILLRACE_INLINE Float LoadF16(const uint16_t* x) { return FromF16(*x); }
  // Rounded to nearest even. Only ever sees the NaN that OneNan gives.
  MILLRACE_INLINE void StoreBF16(uint16_t* x, Float y) { *x = ToBF16(y); }
  MILLRACE_INLINE void StoreF16(uint16_t* x, Float y) { *x = ToF16(y); }
  MILLRACE_INLINE Float Sqrt(Float x) { return __builtin_sqrtf(x); }
  MILLRACE_INLINE bool AnyNan(Float x) { return x != x; }
  MILLRACE_INLINE Float OneNan(Float x) { return x != x ? __builtin_nanf("") : x; }
};

template <class V, Format kFormat>
MILLRACE_INLINE typename V::Float LoadAs(const void* x, int64_t i) {
  if constexpr (kFormat == Format::kBF16) return V::LoadBF16(static_cast<const uint16_t*>(x) + i);
  if constexpr (kFormat == Format::kF16) return V::LoadF16(static_cast<const uint16_t*>(x) + i);
  return V::Load(static_cast<const float*>(x) + i);
}

template <class V, Format kFormat>
MILLRACE_INLINE void StoreAs(void* x, int64_t i, typename V::Float y) {
  if constexpr (kFormat == Format::kF32) V::Store(static_cast<float*>(x) + i, y);
  if constexpr (kFormat == Format::kBF16) V::StoreBF16(static_cast<uint16_t*>(x) + i, y);
  if constexpr (kFormat == Format::kF16) V::StoreF16(static_cast<uint16_t*>(x) + i, y);
}

template <Format kGrad>
using GradElement = std::conditional_t<kGrad == Format::kF32, float, uint16_t>;

// The line of 256 elements later: worth 1-3 % of AdamW on arrays beyond the caches. The copy gains nothing by it,
// nor by stores around the caches.
template <typename T>
MILLRACE_INLINE void Prefetch(const T* x, int64_t i) {
  __builtin_prefetch(x + i + 256);
}

// Updates elements [i, n), as long as they fill a vector; returns the first that does not.
template <class V, Rule kRule, Format kGrad>
MILLRACE_INLINE int64_t UpdateFrom(int64_t i, int64_t n, const UpdateSpan& a,
                                   const UpdateConstants& c) {
  using F = typename V::Float;
  constexpr bool kLamb = kRule == Rule::kLambMoments || kRule == Rule::kLambApply;
  constexpr bool kMoments = kLamb || kRule == Rule::kAdamW || kRule == Rule::kAdam;
  constexpr bool kHasBuffer = kRule == Rule::kSgdMomentum || kRule == Rule::kSgdNesterov;
  // Local copies: the compiler cannot know that the stores below leave `a` and `c` alone.
  float *const p_at = a.p, *const m_at = a.m, *const v_at = a.v;
  const void* const g_at = a.g;
  float* const result_at = kRule == Rule::kLambMoments ? static_cast<float*>(a.out) : p_at;
  const F scale = V::Set(c.scale), decay = V::Set(c.decay), step_size = V::Set(c.step_size);
  const F one_minus_beta1 = V::Set(c.one_minus_beta1), beta2 = V::Set(c.beta2);
  const F one_minus_beta2 = V::Set(c.one_minus_beta2), bias2_sqrt = V::Set(c.bias2_sqrt);
  const F eps = V::Set(c.eps), inverse_bias1 = V::Set(c.inverse_bias1);
  const F momentum = V::Set(c.momentum);
  for (; i + V::kWidth <= n; i += V::kWidth) {
    if constexpr (V::kWidth > 1) {
      Prefetch(p_at, i);
      if constexpr (kGrad != Format::kNone)
        Prefetch(static_cast<const GradElement<kGrad>*>(g_at), i);
      if constexpr (kMoments || kHasBuffer) Prefetch(m_at, i);
      if constexpr (kMoments) Prefetch(v_at, i);
    }
    F param = V::Load(p_at + i), grad{}, first{}, second{}, update{};
    if constexpr (kGrad != Format::kNone) grad = LoadAs<V, kGrad>(g_at, i) * scale;
    if constexpr (kRule == Rule::kAdamW) param = param * decay;
    if constexpr (kRule == Rule::kAdam) grad = grad + decay * param;
    if constexpr (kMoments) {
      first = V::Load(m_at + i);
      second = V::Load(v_at + i);
      if constexpr (kRule != Rule::kLambApply) {
        first = first + (grad - first) * one_minus_beta1;
        second = second * beta2 + one_minus_beta2 * grad * grad;
      }
      const F denominator = V::Sqrt(second) / bias2_sqrt + eps;
      if constexpr (kLamb) {
        update = (first * inverse_bias1) / denominator + decay * param;
      } else {
        update = first / denominator;
      }
    } else {
      grad = grad + decay * param;
      update = grad;
      if constexpr (kHasBuffer) {
        first = momentum * V::Load(m_at + i) + grad;
        update = kRule == Rule::kSgdNesterov ? grad + momentum * first : first;
      }
    }
    F result = kRule == Rule::kLambMoments ? update : param - step_size * update;
    // A NaN in either moment is one in the result, so that one test is enough.
    if (__builtin_expect(V::AnyNan(result), false)) {
      first = V::OneNan(first);
      second = V::OneNan(second);
      result = V::OneNan(result);
    }
    if constexpr (kHasBuffer || (kMoments && kRule != Rule::kLambApply)) V::Store(m_at + i, first);
    if constexpr (kMoments && kRule != Rule::kLambApply) V::Store(v_at + i, second);
    V::Store(result_at + i, result);
  }
  return i;
}

template <class V, Format kCopy>
MILLRACE_INLINE int64_t CopyFrom(int64_t i, int64_t n, const float* p, void* copy) {
  for (; i + V::kWidth <= n; i += V::kWidth) StoreAs<V, kCopy>(copy, i, V::Load(p + i));
  return i;
}

// Block by block: the copy is made of parameters that are still in the first cache. Inside the loop above its few
// instructions cost twice as much (bf16, Zen 3): they fill the queues in which the next elements' divisions start.
template <class V, Rule kRule, Format kGrad, Format kCopy>
void UpdateAll(const UpdateSpan& a, const UpdateConstants& c) {
  constexpr int64_t kBlock = 512;
  for (int64_t begin = 0, end; begin < a.n; begin = end) {
    end = kCopy != Format::kNone && a.n - begin > kBlock ? begin + kBlock : a.n;
    const int64_t tail = UpdateFrom<V, kRule, kGrad>(begin, end, a, c);
    UpdateFrom<Scalar, kRule, kGrad>(tail, end, a, c);
    if constexpr (kCopy != Format::kNone) {
      const int64_t rest = CopyFrom<V, kCopy>(begin, end, a.p, a.out);
      CopyFrom<Scalar, kCopy>(rest, end, a.p, a.out);
    }
  }
}

template <class V, Rule kRule, Format kGrad>
UpdateFn PickCopy(Format copy) {
  if constexpr (kRule == Rule::kLambMoments) return &UpdateAll<V, kRule, kGrad, Format::kNone>;
  switch (copy) {
    case Format::kNone:
      return &UpdateAll<V, kRule, kGrad, Format::kNone>;
    case Format::kF32:
      return &UpdateAll<V, kRule, kGrad, Format::kF32>;
    case Format::kBF16:
      return &UpdateAll<V, kRule, kGrad, Format::kBF16>;
    case Format::kF16:
      return &UpdateAll<V, kRule, kGrad, Format::kF16>;
  }
  return nullptr;
}

template <class V, Rule kRule>
UpdateFn PickGrad(Format grad, Format copy) {
  if constexpr (kRule == Rule::kLambApply) {
    return PickCopy<V, kRule, Format::kNone>(copy);
  } else {
    switch (grad) {
      case Format::kNone:
        return nullptr;
      case Format::kF32:
        return PickCopy<V, kRule, Format::kF32>(copy);
      case Format::kBF16:
        return PickCopy<V, kRule, Format::kBF16>(copy);
      case Format::kF16:
        return PickCopy<V, kRule, Format::kF16>(copy);
    }
    return nullptr;
  }
}

template <class V>
UpdateFn PickUpdate(Rule rule, Format grad, Format copy) {
  switch (rule) {
    case Rule::kAdamW:
      return PickGrad<V, Rule::kAdamW>(grad, copy);
    case Rule::kAdam:
      return PickGrad<V, Rule::kAdam>(grad, copy);
    case Rule::kSgd:
      return PickGrad<V, Rule::kSgd>(grad, copy);
    case Rule::kSgdMomentum:
      return PickGrad<V, Rule::kSgdMomentum>(grad, copy);
    case Rule::kSgdNesterov:
      return PickGrad<V, Rule::kSgdNesterov>(grad, copy);
    case Rule::kLambMoments:
      return PickGrad<V, Rule::kLambMoments>(grad, copy);
    case Rule::kLambApply:
      return PickGrad<V, Rule::kLambApply>(grad, copy);
  }
  return nullptr;
}

}  // namespace
}  // namespace millrace

#endif  // MILLRACE_OPS_OPTIMIZER_LOOPS_INL_H_
