// Elements of f32, bf16 and f16 in kernels: four at a time where memory is aligned for it, and conversions that give
// the bits of dist/kernels.h, NaNs included (the device's own instructions make all NaNs one).
//
//   const float4 x = Load4<DType::kBF16>(src, i);           // elements i .. i + 3; one access of 8 bytes, f32: 16
//   Store4<DType::kF32>(dst, i, x);
#ifndef MILLRACE_OPS_CUDA_ELEMENTS_CUH_
#define MILLRACE_OPS_CUDA_ELEMENTS_CUH_

#include "graph/base/dtype.h"
#include "ops/cuda/emulation/cuda_on_cpu.h"

namespace millrace {
namespace cuda {

// SizeOf, where a kernel may use it.
template <DType kType>
constexpr int64_t kElementBytes = kType == DType::kF32 ? 4 : 2;

template <typename To, typename From>
__device__ __forceinline__ To BitsAs(From x) {
  static_assert(sizeof(To) == sizeof(From), "");
  To y;
  memcpy(&y, &x, sizeof(y));
  return y;
}

// p, known to be in device memory: addresses that come from a table in memory could be anything else to the compiler,
// whose accesses would then be slower ones.
template <typename T>
__device__ __forceinline__ T* Global(T* p) {
#if defined(__CUDA_ARCH__)
  __builtin_assume(__isGlobal(p));
#endif
  return p;
}

// a * b + c, rounded once on a device and twice here: for sums whose last bits do not matter.
__device__ __forceinline__ float FusedMultiplyAdd(float a, float b, float c) {
#if defined(__CUDA_ARCH__)
  return __fmaf_rn(a, b, c);
#else
  return a * b + c;
#endif
}

// p is aligned to the vector's size.
template <typename V>
__device__ __forceinline__ V LoadVector(const void* p) {
#if defined(__CUDACC__)
  return *static_cast<const V*>(Global(p));
#else
  if (reinterpret_cast<uintptr_t>(p) % alignof(V) != 0) emulation::Fail("misaligned address");
  V x;
  std::memcpy(&x, p, sizeof(x));
  return x;
#endif
}
template <typename V>
__device__ __forceinline__ void StoreVector(void* p, V x) {
#if defined(__CUDACC__)
  *static_cast<V*>(Global(p)) = x;
#else
  if (reinterpret_cast<uintptr_t>(p) % alignof(V) != 0) emulation::Fail("misaligned address");
  std::memcpy(p, &x, sizeof(x));
#endif
}

__device__ __forceinline__ float WidenBF16(uint32_t x) { return BitsAs<float>(x << 16); }

__device__ __forceinline__ uint32_t NarrowBF16(float f) {
  const auto x = BitsAs<uint32_t>(f);
  const uint32_t rounded = (x + 0x7fff + ((x >> 16) & 1)) >> 16;
  return (x & 0x7fffffff) > 0x7f800000 ? (x >> 16) | 0x40 : rounded;
}

// Subnormals: the float unit shifts, exactly.
__device__ __forceinline__ float WidenF16(uint32_t h) {
  const uint32_t sign = (h & 0x8000) << 16, rest = (h & 0x7fff) << 13;
  const uint32_t special = rest | 0x7f800000u | (rest > 0x0f800000u ? 0x400000u : 0u);
  const auto tiny =
      BitsAs<uint32_t>(__fsub_rn(BitsAs<float>(rest + (113u << 23)), BitsAs<float>(113u << 23)));
  const uint32_t x = rest < 0x00800000u    ? tiny
                     : rest >= 0x0f800000u ? special
                                           : rest + (112u << 23);
  return BitsAs<float>(x | sign);
}

__device__ __forceinline__ uint32_t NarrowF16(float f) {
  const auto x = BitsAs<uint32_t>(f);
  const uint32_t sign = (x >> 16) & 0x8000, a = x & 0x7fffffff;
  const uint32_t special = a > 0x7f800000 ? 0x7e00 | ((a >> 13) & 0x1ff) : 0x7c00;
  const uint32_t normal = (a - (112u << 23) + 0xfff + ((a >> 13) & 1)) >> 13;
  const uint32_t tiny =
      BitsAs<uint32_t>(__fadd_rn(BitsAs<float>(a < 0x38800000 ? a : 0u), 0.5f)) - 0x3f000000u;
  return (a < 0x38800000 ? tiny : a >= 0x47800000 ? special : normal) | sign;
}

template <DType kType>
__device__ __forceinline__ float WidenAs(uint32_t x) {
  return kType == DType::kBF16 ? WidenBF16(x) : WidenF16(x);
}
template <DType kType>
__device__ __forceinline__ uint32_t NarrowAs(float x) {
  return kType == DType::kBF16 ? NarrowBF16(x) : NarrowF16(x);
}

template <DType kType>
__device__ __forceinline__ float Load1(const void* p, int64_t i) {
  if constexpr (kType == DType::kF32) {
    return static_cast<const float*>(Global(p))[i];
  } else {
    return WidenAs<kType>(static_cast<const uint16_t*>(Global(p))[i]);
  }
}
template <DType kType>
__device__ __forceinline__ void Store1(void* p, int64_t i, float x) {
  if constexpr (kType == DType::kF32) {
    static_cast<float*>(Global(p))[i] = x;
  } else {
    static_cast<uint16_t*>(Global(p))[i] = static_cast<uint16_t>(NarrowAs<kType>(x));
  }
}

template <DType kType>
__device__ __forceinline__ float4 Load4(const void* p, int64_t i) {
  if constexpr (kType == DType::kF32) {
    return LoadVector<float4>(static_cast<const float*>(p) + i);
  } else {
    const auto x = LoadVector<uint2>(static_cast<const uint16_t*>(p) + i);
    return {WidenAs<kType>(x.x & 0xffff), WidenAs<kType>(x.x >> 16), WidenAs<kType>(x.y & 0xffff),
            WidenAs<kType>(x.y >> 16)};
  }
}
template <DType kType>
__device__ __forceinline__ void Store4(void* p, int64_t i, float4 x) {
  if constexpr (kType == DType::kF32) {
    StoreVector(static_cast<float*>(p) + i, x);
  } else {
    StoreVector(static_cast<uint16_t*>(p) + i,
                uint2{NarrowAs<kType>(x.x) | NarrowAs<kType>(x.y) << 16,
                      NarrowAs<kType>(x.z) | NarrowAs<kType>(x.w) << 16});
  }
}

// Whether Load4 may be used for every fourth element from i on.
__device__ __forceinline__ bool IsAligned4(const void* p, int64_t i, int64_t element_bytes) {
  return (reinterpret_cast<uintptr_t>(p) + static_cast<uintptr_t>(i * element_bytes)) %
             static_cast<uintptr_t>(4 * element_bytes) ==
         0;
}
// Elements from p on until Load4 may be used.
__device__ __forceinline__ int32_t ToAligned4(const void* p, int64_t element_bytes) {
  const auto bytes = static_cast<uintptr_t>(element_bytes);
  return static_cast<int32_t>((0 - reinterpret_cast<uintptr_t>(p) / bytes) % 4);
}

}  // namespace cuda
}  // namespace millrace

#endif  // MILLRACE_OPS_CUDA_ELEMENTS_CUH_
