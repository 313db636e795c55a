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

}  // namespace
}  // namespace millrace
