#include "models/init.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "gtest/gtest.h"

namespace millrace {
namespace {

ParamSpec Spec(InitSpec::Kind kind, double scale) {
  return {"blocks.0.weight", {100, 50}, DType::kF32, {kind, scale}};
}

std::vector<float> Fill(const ParamSpec& spec, uint64_t seed, int64_t begin, int64_t end) {
  std::vector<float> v(end - begin, -7.0f);
  FillParam(spec, seed, begin, end, v.data());
  return v;
}

TEST(Init, ShardsPutTogetherAreTheWhole) {
  for (const InitSpec::Kind kind :
       {InitSpec::Kind::kZeros, InitSpec::Kind::kOnes, InitSpec::Kind::kConstant,
        InitSpec::Kind::kNormal, InitSpec::Kind::kTruncatedNormal, InitSpec::Kind::kUniform}) {
    const ParamSpec spec = Spec(kind, 0.02);
    const std::vector<float> whole = Fill(spec, 3, 0, spec.numel());
    std::vector<float> shards;
    for (const auto& [begin, end] : {std::pair{0, 1}, {1, 1700}, {1700, 1700}, {1700, 5000}}) {
      const std::vector<float> shard = Fill(spec, 3, begin, end);
      shards.insert(shards.end(), shard.begin(), shard.end());
    }
    EXPECT_EQ(shards, whole);
  }
}

TEST(Init, BeyondTheEndIsPaddingOfZeros) {
  const ParamSpec spec = Spec(InitSpec::Kind::kOnes, 0);
  EXPECT_EQ(Fill(spec, 3, 4998, 5002), (std::vector<float>{1, 1, 0, 0}));
  EXPECT_EQ(Fill(spec, 3, 6000, 6002), (std::vector<float>{0, 0}));
}

TEST(Init, SeedAndNameMatter) {
  ParamSpec spec = Spec(InitSpec::Kind::kNormal, 1);
  const std::vector<float> a = Fill(spec, 1, 0, 10);
  EXPECT_NE(Fill(spec, 2, 0, 10), a);
  spec.name = "blocks.1.weight";
  EXPECT_NE(Fill(spec, 1, 0, 10), a);
}

TEST(Init, TruncatedNormalStaysWithinTwoSigmaAndHasItsMoments) {
  const ParamSpec spec{"w", {200000}, DType::kF32, {InitSpec::Kind::kTruncatedNormal, 0.02}};
  const std::vector<float> v = Fill(spec, 1, 0, spec.numel());
  double sum = 0, squares = 0, largest = 0;
  for (float x : v) {
    sum += x, squares += double{x} * x;
    largest = std::max(largest, std::abs(double{x}));
  }
  EXPECT_LE(largest, 0.04 + 1e-9);
  EXPECT_GT(largest, 0.0395);
  EXPECT_NEAR(sum / v.size(), 0, 2e-4);
  // A standard normal cut at +-2 has the standard deviation 0.87963.
  EXPECT_NEAR(std::sqrt(squares / v.size()), 0.02 * 0.87963, 1e-4);
}

TEST(Init, UniformHasItsHalfWidth) {
  const ParamSpec spec{"w", {50000}, DType::kF32, {InitSpec::Kind::kUniform, 0.5}};
  const std::vector<float> v = Fill(spec, 1, 0, spec.numel());
  const auto [low, high] = std::minmax_element(v.begin(), v.end());
  EXPECT_GE(*low, -0.5f);
  EXPECT_LE(*high, 0.5f);
  EXPECT_LT(*low, -0.499f);
  EXPECT_GT(*high, 0.499f);
}

TEST(Init, UniformMayHaveItsMiddleElsewhere) {
  ParamSpec spec{"w", {50000}, DType::kF32, {InitSpec::Kind::kUniform, 0.5}};
  spec.init.offset = 0.5;
  const std::vector<float> v = Fill(spec, 1, 0, spec.numel());
  const auto [low, high] = std::minmax_element(v.begin(), v.end());
  EXPECT_GE(*low, 0.0f);
  EXPECT_LE(*high, 1.0f);
  EXPECT_LT(*low, 0.001f);
  EXPECT_GT(*high, 0.999f);
}

// Rows fall evenly in the logarithm, all of a row is alike, and noise is in the logarithm.
TEST(Init, GeometricFallsRowByRow) {
  ParamSpec spec{"freqs", {2, 5, 3}, DType::kF32, {InitSpec::Kind::kGeometric, 10.0}};
  const std::vector<float> v = Fill(spec, 1, 0, 30);
  for (int row = 0; row < 10; ++row) {
    for (int a = 0; a < 3; ++a) EXPECT_FLOAT_EQ(v[3 * row + a], std::exp(-1.0f * row));
  }
  spec.init.jitter = 0.02;
  const std::vector<float> noisy = Fill(spec, 1, 0, 30);
  double squares = 0;
  for (size_t i = 0; i < v.size(); ++i) squares += std::pow(std::log(noisy[i] / v[i]), 2);
  EXPECT_NEAR(std::sqrt(squares / 30), 0.02, 0.008);
}

}  // namespace
}  // namespace millrace
