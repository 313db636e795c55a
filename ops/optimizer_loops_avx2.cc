// The optimizers' loops in AVX2 and F16C: eight elements at a time. Compiled with -mavx2 -mf16c.
#include "ops/optimizer_loops-inl.h"

#if defined(__AVX2__) && defined(__F16C__)
#include <immintrin.h>

namespace millrace {
namespace {

struct Avx2 {
  using Float = __m256;
  static constexpr int kWidth = 8;
  MILLRACE_INLINE Float Set(float x) { return _mm256_set1_ps(x); }
  MILLRACE_INLINE Float Load(const float* x) { return _mm256_loadu_ps(x); }
  MILLRACE_INLINE void Store(float* x, Float y) { _mm256_storeu_ps(x, y); }
  MILLRACE_INLINE __m128i Load16(const uint16_t* x) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(x));
  }
  MILLRACE_INLINE void Store16(uint16_t* x, __m128i y) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(x), y);
  }
  MILLRACE_INLINE Float LoadBF16(const uint16_t* x) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(Load16(x)), 16));
  }
  MILLRACE_INLINE Float LoadF16(const uint16_t* x) { return _mm256_cvtph_ps(Load16(x)); }
  MILLRACE_INLINE void StoreBF16(uint16_t* x, Float y) {
    const __m256i bits = _mm256_castps_si256(y);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i bias = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
    const __m256i high = _mm256_srli_epi32(_mm256_add_epi32(bits, bias), 16);
    Store16(x, _mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1)));
  }
  MILLRACE_INLINE void StoreF16(uint16_t* x, Float y) {
    Store16(x, _mm256_cvtps_ph(y, _MM_FROUND_TO_NEAREST_INT));
  }
  MILLRACE_INLINE Float Sqrt(Float x) { return _mm256_sqrt_ps(x); }
  MILLRACE_INLINE bool AnyNan(Float x) {
    return _mm256_movemask_ps(_mm256_cmp_ps(x, x, _CMP_UNORD_Q)) != 0;
  }
  MILLRACE_INLINE Float OneNan(Float x) {
    return _mm256_blendv_ps(x, Set(__builtin_nanf("")), _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  }
};

}  // namespace

UpdateFn Avx2Update(Rule rule, Format grad, Format copy) {
  return PickUpdate<Avx2>(rule, grad, copy);
}

}  // namespace millrace

#else

namespace millrace {
UpdateFn Avx2Update(Rule, Format, Format) { return nullptr; }
}  // namespace millrace

#endif
