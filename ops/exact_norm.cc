#include "ops/exact_norm.h"

#include <algorithm>
#include <cmath>

#include "ops/exact_norm_value.h"

namespace millrace {
namespace {

constexpr int kBins = kNormBins;
constexpr int kQuantum[kBins] = {37, -6, -49, -92};  // exponents of the grids
constexpr int kBlock = 1024;  // per-element multiples < 2^43, so block sums are exact
constexpr int kLanes = 8;

// One block: sums[b] = sum of each square's multiple of 2^kQuantum[b]. Bins above `first` are known to be 0.
template <int kFirst>
__attribute__((always_inline)) inline void SumBlock(const float* x, int64_t n, double* sums) {
  double lane[kBins][kLanes] = {};
  const int64_t whole = n / kLanes * kLanes;
  double magic[kBins], scale[kBins];
  for (int b = kFirst; b < kBins; ++b) {
    magic[b] = std::ldexp(1.5, 52 + kQuantum[b]);
    scale[b] = std::ldexp(1.0, -kQuantum[b]);
  }
  for (int64_t i = 0; i < whole; i += kLanes) {
    for (int l = 0; l < kLanes; ++l) {
      const double v = x[i + l];
      double rest = v * v;
      for (int b = kFirst; b < kBins; ++b) {
        const double multiple = (rest + magic[b]) - magic[b];
        rest -= multiple;
        lane[b][l] += multiple * scale[b];
      }
    }
  }
  for (int64_t i = whole; i < n; ++i) {
    const double v = x[i];
    double rest = v * v;
    for (int b = kFirst; b < kBins; ++b) {
      const double multiple = (rest + magic[b]) - magic[b];
      rest -= multiple;
      lane[b][0] += multiple * scale[b];
    }
  }
  for (int b = kFirst; b < kBins; ++b) {
    for (int l = 0; l < kLanes; ++l) sums[b] += lane[b][l];
  }
}

__attribute__((target_clones("avx2", "default"))) void SumBlockFrom(int first, const float* x,
                                                                    int64_t n, double* sums) {
  switch (first) {
    case 0:
      return SumBlock<0>(x, n, sums);
    case 1:
      return SumBlock<1>(x, n, sums);
    case 2:
      return SumBlock<2>(x, n, sums);
    default:
      return SumBlock<3>(x, n, sums);
  }
}

__attribute__((target_clones("avx2", "default"))) float MaxMagnitude(const float* x, int64_t n) {
  float lane[kLanes] = {};
  const int64_t whole = n / kLanes * kLanes;
  for (int64_t i = 0; i < whole; i += kLanes) {
    for (int l = 0; l < kLanes; ++l) {
      const float v = std::fabs(x[i + l]);
      lane[l] = v > lane[l] ? v : lane[l];  // a NaN is not larger: found by the sum below
    }
  }
  float top = 0;
  for (int64_t i = whole; i < n; ++i) top = std::max(top, std::fabs(x[i]));
  for (float v : lane) top = std::max(top, v);
  return top;
}

void Store(std::array<int64_t, NormPartial::kWords>& w, int bin, __int128 v) {
  w[2 * bin] = static_cast<int64_t>(static_cast<uint64_t>(v));
  w[2 * bin + 1] = static_cast<int64_t>(v >> 64);
}

}  // namespace

void NormPartial::Add(const NormPartial& other) { AddNormWords(words.data(), other.words.data()); }

double NormPartial::Norm() const { return NormOfWords(words.data()); }

NormPartial PartialNorm(const float* x, int64_t n) {
  NormPartial total;
  __int128 bins[kBins] = {};
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const float* block = x + begin;
    const int64_t count = std::min<int64_t>(kBlock, n - begin);
    const float top = MaxMagnitude(block, count);
    double sums[kBins] = {};
    if (top < 0x1p40f) {
      // A square below half a grid step contributes nothing to that grid: skipping it changes no bit.
      const int first = top >= 0x1p18f ? 0 : top >= 0x1p-4f ? 1 : top >= 0x1p-25f ? 2 : 3;
      SumBlockFrom(first, block, count, sums);
    }
    const bool finite = top < 0x1p40f && std::isfinite(sums[0] + sums[1] + sums[2] + sums[3]);
    if (finite) {
      for (int b = 0; b < kBins; ++b) bins[b] += static_cast<int64_t>(sums[b]);
      continue;
    }
    for (int64_t i = 0; i < count; ++i) {
      if (std::isnan(block[i])) {
        ++total.words[9];
      } else if (std::fabs(block[i]) >= 0x1p40f) {
        ++total.words[8];
      }
    }
  }
  for (int b = 0; b < kBins; ++b) Store(total.words, b, bins[b]);
  return total;
}

}  // namespace millrace
