// The optimizers' loops in AVX-512 (foundation): sixteen elements at a time. Compiled with -mavx512f. The same
// steps as optimizer_loops_avx2.cc, instruction by instruction.
#include "ops/optimizer_loops-inl.h"

#if defined(__AVX512F__)
#include <immintrin.h>

namespace millrace {
namespace {

struct Avx512 {
  using Float = __m512;
  static constexpr int kWidth = 16;
  MILLRACE_INLINE Float Set(float x) { return _mm512_set1_ps(x); }
  MILLRACE_INLINE Float Load(const float* x) { return _mm512_loadu_ps(x); }
  MILLRACE_INLINE void Store(float* x, Float y) { _mm512_storeu_ps(x, y); }
  MILLRACE_INLINE __m256i Load16(const uint16_t* x) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
  }
  MILLRACE_INLINE void Store16(uint16_t* x, __m256i y) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(x), y);
  }
  MILLRACE_INLINE Float LoadBF16(const uint16_t* x) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(Load16(x)), 16));
  }
  MILLRACE_INLINE Float LoadF16(const uint16_t* x) { return _mm512_cvtph_ps(Load16(x)); }
  MILLRACE_INLINE void StoreBF16(uint16_t* x, Float y) {
    const __m512i bits = _mm512_castps_si512(y);
    const __m512i odd = _mm512_and_epi32(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i bias = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
    const __m512i high = _mm512_srli_epi32(_mm512_add_epi32(bits, bias), 16);
    Store16(x, _mm512_cvtepi32_epi16(high));  // keeps the lower halves
  }
  MILLRACE_INLINE void StoreF16(uint16_t* x, Float y) {
    Store16(x, _mm512_cvtps_ph(y, _MM_FROUND_TO_NEAREST_INT));
  }
  MILLRACE_INLINE Float Sqrt(Float x) { return _mm512_sqrt_ps(x); }
  MILLRACE_INLINE bool AnyNan(Float x) { return _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q) != 0; }
  MILLRACE_INLINE Float OneNan(Float x) {
    return _mm512_mask_mov_ps(x, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), Set(__builtin_nanf("")));
  }
};

}  // namespace

UpdateFn Avx512Update(Rule rule, Format grad, Format copy) {
  return PickUpdate<Avx512>(rule, grad, copy);
}

}  // namespace millrace

#else

namespace millrace {
UpdateFn Avx512Update(Rule, Format, Format) { return nullptr; }
}  // namespace millrace

#endif
