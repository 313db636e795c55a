#include "graph/base/random.h"

#include <cmath>
#include <cstdint>
#include <set>
#include <vector>

#include "gtest/gtest.h"

namespace millrace {
namespace {

using Words = std::array<uint32_t, 4>;

// The three known answers that the Random123 library ships for philox4x32, 10 rounds.
TEST(Random, PhiloxGivesThePublishedAnswers) {
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, {0, 0}),
            (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Random, HashStringIsFnv1a) {
  EXPECT_EQ(HashString(""), 0xcbf29ce484222325u);
  EXPECT_EQ(HashString("a"), 0xaf63dc4c8601ec8cu);
  EXPECT_EQ(HashString("foobar"), 0x85944171f73967e8u);
}

TEST(Random, TheSameCoordinatesGiveTheSameNumberInAnyOrder) {
  const CounterRng a(7, 3), b(7, 3);
  std::vector<uint64_t> forward;
  for (uint64_t i = 0; i < 100; ++i) forward.push_back(a.U64(i));
  for (uint64_t i = 100; i-- > 0;) EXPECT_EQ(b.U64(i), forward[i]);
}

TEST(Random, SeedStreamAndHighHalvesAllMatter) {
  const uint64_t high = uint64_t{1} << 32;
  const std::set<uint64_t> values = {CounterRng(0, 0).U64(0),    CounterRng(1, 0).U64(0),
                                     CounterRng(0, 1).U64(0),    CounterRng(0, 0).U64(1),
                                     CounterRng(high, 0).U64(0), CounterRng(0, high).U64(0),
                                     CounterRng(0, 0).U64(high)};
  EXPECT_EQ(values.size(), 7u);
  EXPECT_NE(HashCombine(5, 0), HashCombine(5, 1));
  EXPECT_NE(HashCombine(5, 1), HashCombine(6, 0));
}

TEST(Random, UniformFillsTheHalfOpenUnitIntervalEvenly) {
  const CounterRng rng(1, HashString("uniform"));
  constexpr int kDraws = 100000;
  std::vector<int> bins(10);
  for (int i = 0; i < kDraws; ++i) {
    const double u = rng.Uniform(i);
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    ++bins[static_cast<int>(u * 10)];
  }
  for (int count : bins) EXPECT_NEAR(count, kDraws / 10, 5 * std::sqrt(kDraws * 0.09));
}

TEST(Random, BelowReachesEveryValueAndNoOther) {
  const CounterRng rng(2, 0);
  std::vector<int> seen(7);
  for (int i = 0; i < 7000; ++i) {
    const uint64_t v = rng.Below(i, 7);
    ASSERT_LT(v, 7u);
    ++seen[v];
  }
  for (int count : seen) EXPECT_NEAR(count, 1000, 150);
  EXPECT_EQ(rng.Below(0, 1), 0u);
}

TEST(Random, NormalHasTheMomentsOfAStandardNormal) {
  const CounterRng rng(3, HashString("normal"));
  constexpr int kDraws = 200000;
  double m1 = 0, m2 = 0, m3 = 0, m4 = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double x = rng.Normal(i);
    ASSERT_TRUE(std::isfinite(x));
    m1 += x;
    m2 += x * x;
    m3 += x * x * x;
    m4 += x * x * x * x;
  }
  EXPECT_NEAR(m1 / kDraws, 0.0, 0.012);
  EXPECT_NEAR(m2 / kDraws, 1.0, 0.016);
  EXPECT_NEAR(m3 / kDraws, 0.0, 0.045);
  EXPECT_NEAR(m4 / kDraws, 3.0, 0.12);
}

}  // namespace
}  // namespace millrace
