// From the integers of a NormPartial (ops/exact_norm.h) to the norm, once for the CPU and for devices: the same bits.
// The four integers are added up exactly, in 320 bits, and rounded to double once.
//
//   double norm = NormOfWords(partial.words.data());
#ifndef MILLRACE_OPS_EXACT_NORM_VALUE_H_
#define MILLRACE_OPS_EXACT_NORM_VALUE_H_

#include <cmath>
#include <cstdint>
#include <cstring>

#include "graph/base/host_device.h"

namespace millrace {

constexpr int kNormBins = 4, kNormWords = 10;

// Words 0 .. 7: to += from, bin by bin, in 128 bits. Words 8, 9: counts.
MR_HOST_DEVICE inline void AddNormWords(int64_t* to, const int64_t* from) {
  for (int b = 0; b < kNormBins; ++b) {
    const auto low = static_cast<uint64_t>(to[2 * b]) + static_cast<uint64_t>(from[2 * b]);
    const uint64_t carry = low < static_cast<uint64_t>(from[2 * b]) ? 1 : 0;
    to[2 * b] = static_cast<int64_t>(low);
    to[2 * b + 1] = static_cast<int64_t>(static_cast<uint64_t>(to[2 * b + 1]) +
                                         static_cast<uint64_t>(from[2 * b + 1]) + carry);
  }
  to[8] += from[8];
  to[9] += from[9];
}

// 2^exponent, of normal numbers.
MR_HOST_DEVICE inline double PowerOfTwo(int exponent) {
  const uint64_t bits = static_cast<uint64_t>(exponent + 1023) << 52;
  double x;
  memcpy(&x, &bits, sizeof(x));
  return x;
}

// Inf and NaN when the counts say so.
MR_HOST_DEVICE inline double NormOfWords(const int64_t* words) {
  if (words[9] > 0) return __builtin_nan("");
  if (words[8] > 0) return __builtin_inf();
  // The sum in units of 2^-92, two's complement, least word first. The grids are 2^37, 2^-6, 2^-49 and 2^-92.
  constexpr int kWords = 5, kUnit = -92, kShift[kNormBins] = {129, 86, 43, 0};
  uint64_t sum[kWords] = {};
  for (int b = 0; b < kNormBins; ++b) {
    const auto low = static_cast<uint64_t>(words[2 * b]);
    const auto high = static_cast<uint64_t>(words[2 * b + 1]);
    const uint64_t sign = words[2 * b + 1] < 0 ? ~uint64_t{0} : 0;
    const int skip = kShift[b] / 64, bits = kShift[b] % 64;
    uint64_t carry = 0;
    for (int w = skip; w < kWords; ++w) {
      const int from = w - skip;
      const uint64_t here = from == 0 ? low : from == 1 ? high : sign;
      const uint64_t below = from == 0 ? 0 : from == 1 ? low : from == 2 ? high : sign;
      const uint64_t addend = bits == 0 ? here : here << bits | below >> (64 - bits);
      const uint64_t part = sum[w] + addend;
      const uint64_t first = part < addend ? 1 : 0;
      sum[w] = part + carry;
      carry = first + (sum[w] < part ? 1 : 0);
    }
  }
  if (sum[kWords - 1] >> 63 != 0) return __builtin_nan("");  // no sum of squares
  int top = kWords - 1;
  while (top > 0 && sum[top] == 0) --top;
  if (sum[top] == 0) return 0;
  // The highest 64 bits, with a last bit for all that lies below them.
  int zeros = 0;
  while ((sum[top] << zeros) >> 63 == 0) ++zeros;
  const uint64_t next = top > 0 ? sum[top - 1] : 0;
  uint64_t mantissa = zeros == 0 ? sum[top] : sum[top] << zeros | next >> (64 - zeros);
  bool rest = zeros == 0 ? next != 0 : next << zeros != 0;
  for (int w = top - 2; w >= 0; --w) rest = rest || sum[w] != 0;
  if (rest) mantissa |= 1;
  // Rounded to even in 53 bits. What is lost is 11 bits, so the added one is still seen.
  const uint64_t half = mantissa & 0x7ff, kept = mantissa >> 11;
  const uint64_t rounded = kept + (half > 0x400 || (half == 0x400 && kept % 2 == 1) ? 1 : 0);
  return sqrt(static_cast<double>(rounded) * PowerOfTwo(kUnit + 64 * top - zeros + 11));
}

}  // namespace millrace

#endif  // MILLRACE_OPS_EXACT_NORM_VALUE_H_
