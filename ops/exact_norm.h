// The 2-norm of a gradient that does not depend on how the gradient is cut: over buckets, shards or ranks.
//
// A float sum depends on its order, so the global norm - and with clipping every weight - would differ
// between ZeRO stages and bucket sizes. Here each square (exact in double) is split on four fixed grids
// 2^37, 2^-6, 2^-49, 2^-92 by adding and subtracting a large constant (the "binned" summation of Demmel and
// Nguyen, "Fast Reproducible Floating-Point Summation", 2013), and each grid's multiples are added up as
// 128-bit integers. Integer addition is associative: partial sums may be joined in any order and grouping,
// and the result is the same to the last bit. What lies below 2^-93 is dropped: less than 1e-28 per element,
// far below the rounding of any norm that clipping could act on.
//
//   NormPartial a = PartialNorm(x, n), b = PartialNorm(y, m);
//   a.Add(b);
//   double norm = a.Norm();         // == the norm of x and y in any other cut; inf or nan if any element is
//
// Devices compute the same words and the same norm: ops/exact_norm_value.h, ops/cuda/norm.h.
//
// Elements must be below 2^40 in magnitude, larger ones count as infinite.
#ifndef MILLRACE_OPS_EXACT_NORM_H_
#define MILLRACE_OPS_EXACT_NORM_H_

#include <array>
#include <cstdint>

namespace millrace {

struct NormPartial {
  static constexpr int kWords = 10;
  // Four little-endian 128-bit integers (two words each), the count of infinities (or elements >= 2^40), the
  // count of NaNs. Plain words, so that a partial travels through any collective.
  std::array<int64_t, kWords> words{};

  void Add(const NormPartial& other);
  double Norm() const;
};

NormPartial PartialNorm(const float* x, int64_t n);

}  // namespace millrace

#endif  // MILLRACE_OPS_EXACT_NORM_H_
