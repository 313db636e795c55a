#include "ops/cuda/cast.h"
#include "ops/cuda/elements.cuh"
#include "ops/cuda/emulation/cuda_on_cpu.h"

namespace millrace {
namespace cuda {
namespace {

constexpr int kThreads = 256;

// a + b. The device makes all NaNs one; x86-64 keeps the bits of the first.
__device__ __forceinline__ float Sum(float a, float b) {
  const float sum = __fadd_rn(a, b);
  if (sum == sum) return sum;
  const uint32_t quiet = 0x400000;
  if (a != a) return BitsAs<float>(BitsAs<uint32_t>(a) | quiet);
  if (b != b) return BitsAs<float>(BitsAs<uint32_t>(b) | quiet);
  return BitsAs<float>(uint32_t{0xffc00000});  // of two infinities
}

// In double and through float, as ops/stages.cc; 16-bit NaNs as LibTorch rounds them, whose types it uses.
template <DType kType>
__device__ __forceinline__ float Scaled(float x, double factor) {
  const auto y = static_cast<float>(__dmul_rn(factor, static_cast<double>(x)));
  if (y == y) return y;
  if (kType == DType::kBF16) return BitsAs<float>(uint32_t{0x7fc00000});
  const uint32_t bits = x != x ? BitsAs<uint32_t>(x) | 0x400000 : 0xffc00000;
  return BitsAs<float>(kType == DType::kF32 ? bits : (bits & 0x80000000) | 0x7fc00000);
}

// to[i] = f(from[i], to[i]) for the chunk's elements, by the block; `to` is read where kReads says so.
template <DType kFrom, DType kTo, bool kReads, typename F>
__device__ __forceinline__ void Map(const Piece& p, const Chunk& chunk, const F& f) {
  constexpr int64_t kFromBytes = kElementBytes<kFrom>, kToBytes = kElementBytes<kTo>;
  constexpr int kVectors = 2;  // on their way at a time
  const int64_t begin = chunk.begin, end = begin + chunk.count;
  int64_t first = begin + ToAligned4(static_cast<char*>(p.to) + begin * kToBytes, kToBytes);
  if (first > end) first = end;
  const bool aligned = IsAligned4(p.from, first, kFromBytes);
  const int64_t vectors = aligned ? (end - first) / 4 : 0;
  for (int64_t at = threadIdx.x; at < vectors; at += kVectors * kThreads) {
    float4 x[kVectors], y[kVectors] = {};
#pragma unroll
    for (int k = 0; k < kVectors; ++k) {
      const int64_t v = at + k * kThreads;
      if (v >= vectors) continue;
      x[k] = Load4<kFrom>(p.from, first + 4 * v);
      if constexpr (kReads) y[k] = Load4<kTo>(p.to, first + 4 * v);
    }
#pragma unroll
    for (int k = 0; k < kVectors; ++k) {
      const int64_t v = at + k * kThreads;
      if (v >= vectors) continue;
      Store4<kTo>(p.to, first + 4 * v,
                  {f(x[k].x, y[k].x), f(x[k].y, y[k].y), f(x[k].z, y[k].z), f(x[k].w, y[k].w)});
    }
  }
  const int64_t before = vectors > 0 ? first - begin : 0;
  for (int64_t at = threadIdx.x; at < end - begin - 4 * vectors; at += kThreads) {
    const int64_t i = begin + at + (at < before ? 0 : 4 * vectors);
    Store1<kTo>(p.to, i, f(Load1<kFrom>(p.from, i), kReads ? Load1<kTo>(p.to, i) : 0.0f));
  }
}

template <DType kFrom, DType kTo>
__device__ __forceinline__ void CastAs(const Piece& p, const Chunk& chunk) {
  Map<kFrom, kTo, false>(p, chunk, [](float x, float) { return x; });
}
template <DType kType>
__device__ __forceinline__ void ScaleAs(const Piece& p, const Chunk& chunk) {
  const double factor = p.factor;
  Map<kType, kType, false>(p, chunk, [factor](float x, float) { return Scaled<kType>(x, factor); });
}
template <DType kType>
__device__ __forceinline__ void AddAs(const Piece& p, const Chunk& chunk) {
  Map<kType, kType, true>(p, chunk, [](float x, float total) { return Sum(total, x); });
}

// Whole vectors of 16 bytes where both sides allow it. from null: zeros.
__device__ __forceinline__ void Bytes(const char* from, char* to, int64_t bytes) {
  int64_t first = static_cast<int64_t>((0 - reinterpret_cast<uintptr_t>(to)) % 16);
  if (first > bytes) first = bytes;
  const bool aligned = from == nullptr || reinterpret_cast<uintptr_t>(from + first) % 16 == 0;
  const int64_t vectors = aligned ? (bytes - first) / 16 : 0;
  for (int64_t v = threadIdx.x; v < vectors; v += kThreads) {
    const int64_t i = first + 16 * v;
    StoreVector(to + i, from == nullptr ? uint4{0, 0, 0, 0} : LoadVector<uint4>(from + i));
  }
  const int64_t before = vectors > 0 ? first : 0;
  for (int64_t at = threadIdx.x; at < bytes - 16 * vectors; at += kThreads) {
    const int64_t i = at + (at < before ? 0 : 16 * vectors);
    Global(to)[i] = from == nullptr ? 0 : Global(from)[i];
  }
}

__global__ void __launch_bounds__(kThreads, 4)
    PiecesKernel(const Piece* pieces, const Chunk* chunks) {
  constexpr DType kF32 = DType::kF32, kBF16 = DType::kBF16, kF16 = DType::kF16;
  const Chunk chunk = chunks[blockIdx.x];
  const Piece p = pieces[chunk.item];
  const DType to = p.to_type;
  switch (p.kind) {
    case Piece::Kind::kBytes:
      return Bytes(static_cast<const char*>(p.from) + chunk.begin,
                   static_cast<char*>(p.to) + chunk.begin, chunk.count);
    case Piece::Kind::kZero:
      return Bytes(nullptr, static_cast<char*>(p.to) + chunk.begin, chunk.count);
    case Piece::Kind::kScale:
      if (to == kF32) return ScaleAs<kF32>(p, chunk);
      return to == kBF16 ? ScaleAs<kBF16>(p, chunk) : ScaleAs<kF16>(p, chunk);
    case Piece::Kind::kAdd:
      if (to == kF32) return AddAs<kF32>(p, chunk);
      return to == kBF16 ? AddAs<kBF16>(p, chunk) : AddAs<kF16>(p, chunk);
    case Piece::Kind::kCast:
      if (p.from_type == kF32) {
        return to == kBF16 ? CastAs<kF32, kBF16>(p, chunk) : CastAs<kF32, kF16>(p, chunk);
      }
      if (p.from_type == kBF16) {
        return to == kF32 ? CastAs<kBF16, kF32>(p, chunk) : CastAs<kBF16, kF16>(p, chunk);
      }
      return to == kF32 ? CastAs<kF16, kF32>(p, chunk) : CastAs<kF16, kBF16>(p, chunk);
  }
}

bool IsFloat(DType t) { return t == DType::kF32 || t == DType::kBF16 || t == DType::kF16; }

}  // namespace

const char* CheckPieces(const std::vector<Piece>& pieces) {
  for (const Piece& p : pieces) {
    if (p.kind == Piece::Kind::kBytes || p.kind == Piece::Kind::kZero) continue;
    if (!IsFloat(p.from_type) || !IsFloat(p.to_type)) {
      return "a cast, a scale or a sum takes f32, bf16 or f16";
    }
    const auto begins_at_element = [](const void* x, DType t) {
      return reinterpret_cast<uintptr_t>(x) % static_cast<uintptr_t>(SizeOf(t)) == 0;
    };
    if (!begins_at_element(p.from, p.from_type) || !begins_at_element(p.to, p.to_type)) {
      return "a piece's memory is not aligned to its elements";
    }
  }
  return nullptr;
}

const char* LaunchPieces(const Piece* pieces, const Chunk* chunks, int64_t chunk_count,
                         void* stream) {
  if (chunk_count == 0) return nullptr;
  MR_LAUNCH(PiecesKernel, static_cast<unsigned>(chunk_count), kThreads, 0, stream, pieces, chunks);
  return LaunchError();
}

}  // namespace cuda
}  // namespace millrace
