#include "ops/exact_norm.h"

#include <cmath>
#include <limits>
#include <vector>

#include "graph/base/random.h"
#include "gtest/gtest.h"

namespace millrace {
namespace {

std::vector<float> Gradient(int64_t n, double magnitude, uint64_t seed) {
  CounterRng rng(seed, 1);
  std::vector<float> x(n);
  for (int64_t i = 0; i < n; ++i) {
    // Magnitudes over many powers of two, as in a real model.
    x[i] =
        static_cast<float>(rng.Normal(2 * i) * magnitude * std::exp2(-20 * rng.Uniform(2 * i + 1)));
  }
  return x;
}

TEST(ExactNorm, EqualsTheSumInLongDouble) {
  for (double magnitude : {1e-9, 1e-6, 1e-3, 1.0, 1e3, 1e7}) {
    const std::vector<float> x = Gradient(100003, magnitude, 7);
    long double sum = 0;
    for (float v : x) sum += static_cast<long double>(v) * v;
    const double expected = static_cast<double>(std::sqrt(sum));
    // Squares below 2^-93 are dropped: the floor of 1e-17.
    EXPECT_NEAR(PartialNorm(x.data(), x.size()).Norm(), expected, 1e-12 * expected + 1e-17)
        << magnitude;
  }
}

TEST(ExactNorm, AnyCutInAnyOrderGivesTheSameBits) {
  const std::vector<float> x = Gradient(65536, 1.0, 3);
  const double whole = PartialNorm(x.data(), x.size()).Norm();
  CounterRng rng(5, 2);
  for (int trial = 0; trial < 50; ++trial) {
    std::vector<NormPartial> parts;
    for (int64_t begin = 0; begin < static_cast<int64_t>(x.size());) {
      const int64_t n =
          std::min<int64_t>(1 + rng.U32(trial * 1000 + parts.size()) % 9000, x.size() - begin);
      parts.push_back(PartialNorm(x.data() + begin, n));
      begin += n;
    }
    NormPartial total;
    while (!parts.empty()) {  // from both ends
      total.Add(parts.back());
      parts.pop_back();
      if (!parts.empty()) {
        total.Add(parts.front());
        parts.erase(parts.begin());
      }
    }
    EXPECT_EQ(total.Norm(), whole);
  }
}

TEST(ExactNorm, InfinityAndNanAreNotLost) {
  std::vector<float> x(5000, 1.0f);
  x[4000] = std::numeric_limits<float>::infinity();
  EXPECT_TRUE(std::isinf(PartialNorm(x.data(), x.size()).Norm()));
  x[17] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(std::isnan(PartialNorm(x.data(), x.size()).Norm()));
  EXPECT_EQ(PartialNorm(x.data(), 0).Norm(), 0.0);
}

// Words as they would be, without elements: sums that lie between two doubles, and lower grids below zero.
TEST(ExactNorm, TheSumIsRoundedToDoubleOnce) {
  const auto norm = [](int64_t bin0, int64_t bin1, int64_t bin2, int64_t bin3) {
    NormPartial p;
    const int64_t bins[] = {bin0, bin1, bin2, bin3};
    for (int b = 0; b < 4; ++b) p.words[2 * b] = bins[b], p.words[2 * b + 1] = bins[b] < 0 ? -1 : 0;
    return p.Norm();
  };
  const int64_t even = int64_t{1} << 53;
  const auto root = [](double sum, int quantum) { return std::sqrt(std::ldexp(sum, quantum)); };
  EXPECT_EQ(norm(0, 0, 0, 1), std::ldexp(1.0, -46));
  EXPECT_EQ(norm(3, 0, 0, 0), root(3, 37));
  EXPECT_EQ(norm(0, 5, 0, 0), root(5, -6));
  EXPECT_EQ(norm(0, 0, even + 1, 0), root(static_cast<double>(even), -49));  // a tie, to even
  EXPECT_EQ(norm(0, 0, even + 1, 1), root(static_cast<double>(even + 2), -49));
  EXPECT_EQ(norm(0, 0, even + 1, -1), root(static_cast<double>(even), -49));
  EXPECT_EQ(norm(0, 0, even + 3, 0), root(static_cast<double>(even + 4), -49));
  EXPECT_EQ(norm(1, 0, 0, -1), root(1, 37));
  EXPECT_EQ(norm(1, -1, -1, -1), root(0x1p37 - 0x1p-6 - 0x1p-49, 0));
  EXPECT_EQ(norm(even - 1, (int64_t{1} << 42) + 1, 0, 0), root(static_cast<double>(even), 37));
  EXPECT_TRUE(std::isnan(norm(-1, 0, 0, 0)));
  // Against long double, whose 64 bits round twice now and then.
  CounterRng rng(9, 4);
  for (uint64_t i = 0; i < 1000; ++i) {
    const int64_t bins[4] = {rng.U32(8 * i) % 3 == 0 ? rng.U32(8 * i + 1) : 0,
                             static_cast<int64_t>(rng.U64(8 * i + 2) >> 12) - (int64_t{1} << 30),
                             static_cast<int64_t>(rng.U64(8 * i + 3)) >> 8,
                             static_cast<int64_t>(rng.U64(8 * i + 4)) >> 8};
    long double sum = 0;
    for (int b = 3; b >= 0; --b) sum += std::ldexp(static_cast<long double>(bins[b]), 37 - 43 * b);
    const double expected = std::sqrt(static_cast<double>(sum));
    EXPECT_NEAR(norm(bins[0], bins[1], bins[2], bins[3]), expected, 2e-16 * expected);
  }
}

}  // namespace
}  // namespace millrace
