// See kernels.h. Work goes in blocks that stay in the first-level cache's neighbourhood: every
// source is read once, every result written once, sums in between never leave the core.
#include "dist/kernels.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

// GCC vectorises loops of unknown length only at -O3. Thread sanitizer starts too late for the
// resolvers that function clones need.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("O3")
#endif
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_THREAD__)
#define MILLRACE_CLONES __attribute__((target_clones("avx2", "default")))
#else
#define MILLRACE_CLONES
#endif
#define MILLRACE_INLINE inline __attribute__((always_inline))

namespace millrace {
namespace {

constexpr int64_t kBlock = 4096;  // elements: 16 KiB of f32, 32 KiB of f64

template <typename To, typename From>
MILLRACE_INLINE To Bits(From x) {
  static_assert(sizeof(To) == sizeof(From), "");
  To y;
  std::memcpy(&y, &x, sizeof(y));
  return y;
}

MILLRACE_INLINE float WidenBF16(uint16_t x) { return Bits<float>(static_cast<uint32_t>(x) << 16); }

MILLRACE_INLINE uint16_t NarrowBF16(float f) {
  const uint32_t x = Bits<uint32_t>(f);
  const uint32_t rounded = (x + 0x7fff + ((x >> 16) & 1)) >> 16;
  const uint32_t nan = (x >> 16) | 0x40;
  return static_cast<uint16_t>((x & 0x7fffffff) > 0x7f800000 ? nan : rounded);
}

// Both without branches, so that they vectorise. Subnormals: the float unit shifts for us, exactly.
MILLRACE_INLINE float WidenF16(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000) << 16;
  const uint32_t rest = static_cast<uint32_t>(h & 0x7fff) << 13;
  const uint32_t normal = rest + (112u << 23);
  const uint32_t special = rest | 0x7f800000u | (rest > 0x0f800000u ? 0x400000u : 0u);
  const uint32_t tiny = Bits<uint32_t>(Bits<float>(rest + (113u << 23)) - Bits<float>(113u << 23));
  const uint32_t x = rest < 0x00800000u ? tiny : rest >= 0x0f800000u ? special : normal;
  return Bits<float>(x | sign);
}

MILLRACE_INLINE uint16_t NarrowF16(float f) {
  const uint32_t x = Bits<uint32_t>(f);
  const uint32_t sign = (x >> 16) & 0x8000;
  const uint32_t a = x & 0x7fffffff;
  const uint32_t nan = 0x7e00 | ((a >> 13) & 0x1ff);
  const uint32_t special = a > 0x7f800000 ? nan : 0x7c00;
  const uint32_t normal = (a - (112u << 23) + 0xfff + ((a >> 13) & 1)) >> 13;
  const uint32_t tiny = Bits<uint32_t>(Bits<float>(a < 0x38800000 ? a : 0u) + 0.5f) - 0x3f000000u;
  const uint32_t h = a < 0x38800000 ? tiny : a >= 0x47800000 ? special : normal;
  return static_cast<uint16_t>(h | sign);
}

struct Sum {
  template <typename T>
  static MILLRACE_INLINE T Of(T a, T b) {
    if constexpr (std::is_integral<T>::value) {
      using U = typename std::make_unsigned<T>::type;
      return static_cast<T>(static_cast<U>(a) + static_cast<U>(b));
    } else {
      return a + b;
    }
  }
};
struct Max {
  template <typename T>
  static MILLRACE_INLINE T Of(T a, T b) {
    return (a > b) | (a != a) ? a : b;  // b when it is a NaN: the comparison is false
  }
};

// acc = op(a, src). `a` is acc itself from the third source on.
template <typename T, typename Op>
MILLRACE_INLINE void Combine(T* acc, const T* a, const T* src, int64_t n) {
  if (a == acc) {
    T* __restrict out = acc;
    const T* __restrict in = src;
    for (int64_t i = 0; i < n; ++i) out[i] = Op::Of(out[i], in[i]);
  } else {
    T* __restrict out = acc;
    for (int64_t i = 0; i < n; ++i) out[i] = Op::Of(a[i], src[i]);
  }
}

// One block of one type: returns where the reduced elements are. `scratch` and `wide` hold kBlock
// elements.
template <typename T, typename Op>
MILLRACE_INLINE void ReduceBlock(const void* const* srcs, size_t ranks, int64_t at, int64_t n,
                                 void* scratch) {
  T* acc = static_cast<T*>(scratch);
  const T* first = static_cast<const T*>(srcs[0]) + at;
  Combine<T, Op>(acc, first, static_cast<const T*>(srcs[1]) + at, n);
  for (size_t r = 2; r < ranks; ++r) {
    Combine<T, Op>(acc, acc, static_cast<const T*>(srcs[r]) + at, n);
  }
}

// Halves are widened, reduced over all ranks in registers and rounded once.
template <float (*kWiden)(uint16_t), uint16_t (*kNarrow)(float), typename Op>
void ReduceHalves(const void* const* srcs, size_t ranks, int64_t at, int64_t n, void* scratch) {
  uint16_t* out = static_cast<uint16_t*>(scratch);
  for (int64_t i = 0; i < n; ++i) {
    float acc = kWiden(static_cast<const uint16_t*>(srcs[0])[at + i]);
    for (size_t r = 1; r < ranks; ++r) {
      acc = Op::Of(acc, kWiden(static_cast<const uint16_t*>(srcs[r])[at + i]));
    }
    out[i] = kNarrow(acc);
  }
}

#if defined(__x86_64__)
// The same with vectors, written out: GCC turns the loops above into scalar code. Gives the same
// bits.
#define MILLRACE_AVX2 __attribute__((target("avx2,f16c")))
#define MILLRACE_AVX2_INLINE MILLRACE_AVX2 MILLRACE_INLINE

struct VectorBF16 {
  static MILLRACE_AVX2_INLINE __m256 Widen(__m128i x) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16));
  }
  static MILLRACE_AVX2_INLINE __m128i Narrow(__m256 f) {
    const __m256i x = _mm256_castps_si256(f), high = _mm256_srli_epi32(x, 16);
    const __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
    const __m256i bias = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
    const __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(x, bias), 16);
    const __m256i nan = _mm256_or_si256(high, _mm256_set1_epi32(0x40));
    const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(f, f, _CMP_UNORD_Q));
    const __m256i y = _mm256_blendv_epi8(rounded, nan, is_nan);
    return _mm_packus_epi32(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1));
  }
};
struct VectorF16 {
  static MILLRACE_AVX2_INLINE __m256 Widen(__m128i x) { return _mm256_cvtph_ps(x); }
  static MILLRACE_AVX2_INLINE __m128i Narrow(__m256 f) {
    return _mm256_cvtps_ph(f, _MM_FROUND_TO_NEAREST_INT);
  }
};

MILLRACE_AVX2_INLINE __m256 VectorOf(Sum, __m256 a, __m256 b) { return _mm256_add_ps(a, b); }
MILLRACE_AVX2_INLINE __m256 VectorOf(Max, __m256 a, __m256 b) {
  return _mm256_blendv_ps(_mm256_max_ps(a, b), a, _mm256_cmp_ps(a, a, _CMP_UNORD_Q));
}

template <typename Half, typename Op>
MILLRACE_AVX2 int64_t ReduceHalvesAvx2(const void* const* srcs, size_t ranks, int64_t at, int64_t n,
                                       void* scratch) {
  const auto load = [&](size_t r, int64_t i) MILLRACE_AVX2 {
    return reinterpret_cast<const __m128i*>(static_cast<const uint16_t*>(srcs[r]) + at + i);
  };
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    __m256 a = Half::Widen(_mm_loadu_si128(load(0, i)));
    __m256 b = Half::Widen(_mm_loadu_si128(load(0, i) + 1));
    for (size_t r = 1; r < ranks; ++r) {
      a = VectorOf(Op(), a, Half::Widen(_mm_loadu_si128(load(r, i))));
      b = VectorOf(Op(), b, Half::Widen(_mm_loadu_si128(load(r, i) + 1)));
    }
    __m128i* out = reinterpret_cast<__m128i*>(static_cast<uint16_t*>(scratch) + i);
    _mm_storeu_si128(out, Half::Narrow(a));
    _mm_storeu_si128(out + 1, Half::Narrow(b));
  }
  return i;
}

bool HasAvx2() {
  static const bool has = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c");
  return has;
}
#define MILLRACE_HALVES(name, half, op)                                                    \
  void name(const void* const* srcs, size_t ranks, int64_t at, int64_t n, void* scratch) { \
    const int64_t i =                                                                      \
        HasAvx2() ? ReduceHalvesAvx2<Vector##half, op>(srcs, ranks, at, n, scratch) : 0;   \
    ReduceHalves<Widen##half, Narrow##half, op>(srcs, ranks, at + i, n - i,                \
                                                static_cast<uint16_t*>(scratch) + i);      \
  }
#else
#define MILLRACE_HALVES(name, half, op)                                                    \
  void name(const void* const* srcs, size_t ranks, int64_t at, int64_t n, void* scratch) { \
    ReduceHalves<Widen##half, Narrow##half, op>(srcs, ranks, at, n, scratch);              \
  }
#endif
#if defined(__x86_64__)
template <typename Half>
MILLRACE_AVX2 int64_t WidenAvx2(const uint16_t* x, float* y, int64_t n) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    _mm256_storeu_ps(y + i, Half::Widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x + i))));
  }
  return i;
}
template <typename Half>
MILLRACE_AVX2 int64_t NarrowAvx2(const float* x, uint16_t* y, int64_t n) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(y + i), Half::Narrow(_mm256_loadu_ps(x + i)));
  }
  return i;
}
#endif
MILLRACE_HALVES(SumBF16, BF16, Sum)
MILLRACE_HALVES(MaxBF16, BF16, Max)
MILLRACE_HALVES(SumF16, F16, Sum)
MILLRACE_HALVES(MaxF16, F16, Max)
#undef MILLRACE_HALVES

using BlockFn = void (*)(const void* const*, size_t, int64_t, int64_t, void*);

// A clone must be an ordinary function: one pair of lines per type.
#define MILLRACE_BLOCK(name, ...)                                                         \
  MILLRACE_CLONES void name(const void* const* srcs, size_t ranks, int64_t at, int64_t n, \
                            void* scratch) {                                              \
    __VA_ARGS__(srcs, ranks, at, n, scratch);                                             \
  }
MILLRACE_BLOCK(SumF32, ReduceBlock<float, Sum>)
MILLRACE_BLOCK(MaxF32, ReduceBlock<float, Max>)
MILLRACE_BLOCK(SumF64, ReduceBlock<double, Sum>)
MILLRACE_BLOCK(MaxF64, ReduceBlock<double, Max>)
MILLRACE_BLOCK(SumI32, ReduceBlock<int32_t, Sum>)
MILLRACE_BLOCK(MaxI32, ReduceBlock<int32_t, Max>)
MILLRACE_BLOCK(SumI64, ReduceBlock<int64_t, Sum>)
MILLRACE_BLOCK(MaxI64, ReduceBlock<int64_t, Max>)
MILLRACE_BLOCK(MaxI8, ReduceBlock<int8_t, Max>)
MILLRACE_BLOCK(MaxU8, ReduceBlock<uint8_t, Max>)
#undef MILLRACE_BLOCK

BlockFn BlockFor(DType dtype, ReduceOp op) {
  const bool sum = op == ReduceOp::kSum;
  switch (dtype) {
    case DType::kF32:
      return sum ? SumF32 : MaxF32;
    case DType::kF64:
      return sum ? SumF64 : MaxF64;
    case DType::kI32:
      return sum ? SumI32 : MaxI32;
    case DType::kI64:
      return sum ? SumI64 : MaxI64;
    case DType::kBF16:
      return sum ? SumBF16 : MaxBF16;
    case DType::kF16:
      return sum ? SumF16 : MaxF16;
    case DType::kI8:
      return MaxI8;
    case DType::kU8:
    case DType::kBool:
      return MaxU8;
  }
  return MaxU8;
}

// Streaming stores of whole lines; the edges go the usual way. The caller fences once at the end.
void StreamBytes(char* dst, const char* src, int64_t bytes) {
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
  const int64_t head = std::min<int64_t>(bytes, -reinterpret_cast<intptr_t>(dst) & 63);
  std::memcpy(dst, src, head);
  int64_t i = head;
  for (; i + 64 <= bytes; i += 64) {
    const __m128i* s = reinterpret_cast<const __m128i*>(src + i);
    __m128i* d = reinterpret_cast<__m128i*>(dst + i);
    const __m128i a = _mm_loadu_si128(s), b = _mm_loadu_si128(s + 1);
    const __m128i c = _mm_loadu_si128(s + 2), e = _mm_loadu_si128(s + 3);
    _mm_stream_si128(d, a);
    _mm_stream_si128(d + 1, b);
    _mm_stream_si128(d + 2, c);
    _mm_stream_si128(d + 3, e);
  }
  std::memcpy(dst + i, src + i, bytes - i);
#else
  std::memcpy(dst, src, bytes);
#endif
}

// Streaming stores are not ordered with the later store that tells a peer that the work is done.
void FenceStreams() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

}  // namespace

void ReduceInRankOrder(DType dtype, ReduceOp op, absl::Span<const void* const> srcs,
                       absl::Span<void* const> dsts, int64_t count, Store store) {
  const int64_t size = SizeOf(dtype);
  if (srcs.size() == 1) {
    for (void* dst : dsts) CopyBytes(dst, srcs[0], count * size, store);
    return;
  }
  alignas(64) char scratch[kBlock * 8];
  const BlockFn block = BlockFor(dtype, op);
  for (int64_t at = 0; at < count; at += kBlock) {
    const int64_t n = std::min(kBlock, count - at);
    block(srcs.data(), srcs.size(), at, n, scratch);
    for (void* dst : dsts) {
      char* to = static_cast<char*>(dst) + at * size;
      // In place the lines are in the cache already, having just been read.
      const bool in_place = std::find(srcs.begin(), srcs.end(), dst) != srcs.end();
      if (store == Store::kStream && !in_place) {
        StreamBytes(to, scratch, n * size);
      } else {
        std::memcpy(to, scratch, n * size);
      }
    }
  }
  if (store == Store::kStream) FenceStreams();
}

void CopyBytes(void* dst, const void* src, int64_t bytes, Store store) {
  if (dst == src || bytes == 0) return;
  if (store == Store::kStream) {
    StreamBytes(static_cast<char*>(dst), static_cast<const char*>(src), bytes);
    FenceStreams();
  } else {
    std::memcpy(dst, src, bytes);
  }
}

void Widen(DType from, const uint16_t* x, float* y, int64_t n) {
  const bool bf16 = from == DType::kBF16;
  int64_t i = 0;
#if defined(__x86_64__)
  if (HasAvx2()) i = bf16 ? WidenAvx2<VectorBF16>(x, y, n) : WidenAvx2<VectorF16>(x, y, n);
#endif
  for (; i < n; ++i) y[i] = bf16 ? WidenBF16(x[i]) : WidenF16(x[i]);
}

void Narrow(DType to, const float* x, uint16_t* y, int64_t n) {
  const bool bf16 = to == DType::kBF16;
  int64_t i = 0;
#if defined(__x86_64__)
  if (HasAvx2()) i = bf16 ? NarrowAvx2<VectorBF16>(x, y, n) : NarrowAvx2<VectorF16>(x, y, n);
#endif
  for (; i < n; ++i) y[i] = bf16 ? NarrowBF16(x[i]) : NarrowF16(x[i]);
}

float FromBF16(uint16_t x) { return WidenBF16(x); }
uint16_t ToBF16(float x) { return NarrowBF16(x); }
float FromF16(uint16_t x) { return WidenF16(x); }
uint16_t ToF16(float x) { return NarrowF16(x); }

}  // namespace millrace
