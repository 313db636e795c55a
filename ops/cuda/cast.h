// Many small pieces of work on flat memory in one launch: conversions between f32, bf16 and f16 into buckets, gaps made
// zero, ranges scaled, gradients accumulated. The bits of dist/kernels.h, ops/stages.cc and ops/optimizers.cc.
//
//   std::vector<Piece> pieces = {Piece::Cast(src, DType::kF32, bucket, DType::kBF16, n),      // once
//                                Piece::Zero(bucket + 2 * n, gap_bytes), Piece::Scale(statistic, DType::kF32, m, 0.5)};
//   const char* error = LaunchPieces(pieces_on_device, chunks_on_device, chunk_count, stream);   // chunks: Chunks(pieces)
//
// Pieces of one launch run in any order: none may write what another reads or writes. Of two NaNs that are added the
// first survives, as on x86-64.
#ifndef MILLRACE_OPS_CUDA_CAST_H_
#define MILLRACE_OPS_CUDA_CAST_H_

#include <cstdint>
#include <vector>

#include "graph/base/dtype.h"
#include "ops/cuda/chunks.h"

namespace millrace {
namespace cuda {

struct Piece {
  enum class Kind : uint8_t { kCast, kBytes, kZero, kScale, kAdd };

  // to = from, rounded to nearest even; the same type on both sides, of any size: a copy.
  static Piece Cast(const void* from, DType from_type, void* to, DType to_type, int64_t count) {
    Piece p{from, to, count, 0, Kind::kCast, from_type, to_type};
    if (from_type != to_type) return p;
    p.kind = Kind::kBytes;
    p.count *= SizeOf(to_type);
    return p;
  }
  // Bytes: a gap.
  static Piece Zero(void* to, int64_t bytes) {
    return {nullptr, to, bytes, 0, Kind::kZero, DType::kU8, DType::kU8};
  }
  // x *= factor in double, rounded to float, then to the type.
  static Piece Scale(void* x, DType type, int64_t count, double factor) {
    return {x, x, count, factor, Kind::kScale, type, type};
  }
  // total += addend; 16 bits are added as f32 and rounded once.
  static Piece Add(void* total, const void* addend, DType type, int64_t count) {
    return {addend, total, count, 0, Kind::kAdd, type, type};
  }

  const void* from = nullptr;
  void* to = nullptr;
  int64_t count = 0;  // elements; kBytes and kZero: bytes
  double factor = 0;
  Kind kind = Kind::kBytes;
  DType from_type = DType::kU8, to_type = DType::kU8;
};

// Null when all pieces have types that a kernel knows; otherwise which rule is broken. Host memory, once.
const char* CheckPieces(const std::vector<Piece>& pieces);

// Null: issued. `pieces` and `chunks` lie on the device.
const char* LaunchPieces(const Piece* pieces, const Chunk* chunks, int64_t chunk_count,
                         void* stream);

}  // namespace cuda
}  // namespace millrace

#endif  // MILLRACE_OPS_CUDA_CAST_H_
