// The inner loops of the CPU back ends: reduction in rank order, and copies. Shared, so that
// in-process and MPI ranks give the same bits.
#ifndef MILLRACE_DIST_KERNELS_H_
#define MILLRACE_DIST_KERNELS_H_

#include <cstdint>

#include "absl/types/span.h"
#include "dist/communicator.h"
#include "graph/base/dtype.h"

namespace millrace {

// Whether to write around the caches: pays off when the result is larger than they are (no read for
// ownership, a third of the traffic of a copy); costs when the reader would have found it there.
enum class Store { kCached, kStream };

// dst[i] = ((src0[i] + src1[i]) + src2[i]) + ... (or max) for every dst. A dst may be one of the
// srcs; no other overlap. Reads all of a block (32 KiB at most) before it writes it. Needs a type
// that Validate allows.
void ReduceInRankOrder(DType dtype, ReduceOp op, absl::Span<const void* const> srcs,
                       absl::Span<void* const> dsts, int64_t count, Store store);

// memcpy; nothing when dst == src.
void CopyBytes(void* dst, const void* src, int64_t bytes, Store store);

// Round to nearest even, NaN stays NaN (quiet, its upper payload bits kept).
float FromBF16(uint16_t x);
uint16_t ToBF16(float x);
float FromF16(uint16_t x);
uint16_t ToF16(float x);

// Arrays of bf16 or f16, in the same way.
void Widen(DType from, const uint16_t* x, float* y, int64_t n);
void Narrow(DType to, const float* x, uint16_t* y, int64_t n);

}  // namespace millrace

#endif  // MILLRACE_DIST_KERNELS_H_
