// The conversions against what IEEE says, bit by bit; the reductions themselves are compared with
// the naive reference in in_process_test.cc.
#include "dist/kernels.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "gtest/gtest.h"

namespace millrace {
namespace {

// A value of f16 from its definition.
double ValueOfF16(uint16_t h) {
  const int exponent = (h >> 10) & 31, fraction = h & 1023;
  const double sign = h & 0x8000 ? -1 : 1;
  if (exponent == 31) return fraction != 0 ? std::nan("") : sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(fraction, -24);
  return sign * std::ldexp(1024 + fraction, exponent - 25);
}

TEST(Kernels, EveryF16WidensToItsValueAndComesBack) {
  for (int i = 0; i < 65536; ++i) {
    const uint16_t h = static_cast<uint16_t>(i);
    const double value = ValueOfF16(h);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(FromF16(h))) << i;
      EXPECT_TRUE(std::isnan(FromF16(ToF16(FromF16(h))))) << i;
    } else {
      ASSERT_EQ(FromF16(h), value) << i;
      ASSERT_EQ(ToF16(FromF16(h)), h) << i;
    }
  }
}

TEST(Kernels, ArraysAreConvertedAsTheirElementsAre) {
  std::vector<uint16_t> halves(65536 + 3), back(halves.size());
  for (size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<uint16_t>(i);
  std::vector<float> wide(halves.size());
  for (const DType type : {DType::kBF16, DType::kF16}) {
    const bool bf16 = type == DType::kBF16;
    const auto n = static_cast<int64_t>(halves.size());
    Widen(type, halves.data(), wide.data(), n);
    for (size_t i = 0; i < halves.size(); ++i) {
      const float one = bf16 ? FromBF16(halves[i]) : FromF16(halves[i]);
      ASSERT_EQ(std::memcmp(&one, &wide[i], sizeof(one)), 0) << i;
      wide[i] *= 1.001f;  // between two halves
    }
    Narrow(type, wide.data(), back.data(), n);
    for (size_t i = 0; i < halves.size(); ++i) {
      ASSERT_EQ(back[i], bf16 ? ToBF16(wide[i]) : ToF16(wide[i])) << i;
    }
  }
}

TEST(Kernels, F16RoundsToNearestAndTiesToEven) {
  for (int i = 0; i < 0x7c00; ++i) {  // between every two neighbours, up to the step to infinity
    const double low = ValueOfF16(i), high = i == 0x7bff ? 65536 : ValueOfF16(i + 1);
    const float middle = static_cast<float>((low + high) / 2);  // exact
    ASSERT_EQ(ToF16(middle), i % 2 == 0 ? i : i + 1) << i;
    ASSERT_EQ(ToF16(std::nextafter(middle, 0.0f)), i) << i;
    ASSERT_EQ(ToF16(std::nextafter(middle, INFINITY)), i + 1) << i;
    ASSERT_EQ(ToF16(-middle), (i % 2 == 0 ? i : i + 1) | 0x8000) << i;
  }
  EXPECT_EQ(ToF16(1e30f), 0x7c00);
  EXPECT_EQ(ToF16(-INFINITY), 0xfc00);
}

TEST(Kernels, BF16RoundsToNearestAndTiesToEven) {
  EXPECT_EQ(ToBF16(1.0f), 0x3f80);
  EXPECT_EQ(ToBF16(1.0f + 0x1p-8f), 0x3f80);
  EXPECT_EQ(ToBF16(1.0f + 0x1p-8f + 0x1p-20f), 0x3f81);
  EXPECT_EQ(ToBF16(1.0f + 0x3p-8f), 0x3f82);
  EXPECT_EQ(ToBF16(std::numeric_limits<float>::max()), 0x7f80);
  EXPECT_TRUE(std::isnan(FromBF16(ToBF16(NAN))));
  uint32_t low_nan = 0x7f800001;  // its payload is lost: must not become an infinity
  float x;
  std::memcpy(&x, &low_nan, sizeof(x));
  EXPECT_TRUE(std::isnan(FromBF16(ToBF16(x))));
}

TEST(Kernels, HalvesAreSummedInF32AndRoundedOnce) {
  // 1 + 2^-8 + 2^-8: rounding each time would give 1.
  const std::vector<uint16_t> one{ToBF16(1)}, tiny{ToBF16(0x1p-8f)};
  uint16_t out = 0;
  const void* srcs[] = {one.data(), tiny.data(), tiny.data()};
  void* dsts[] = {&out};
  ReduceInRankOrder(DType::kBF16, ReduceOp::kSum, srcs, dsts, 1, Store::kCached);
  EXPECT_EQ(FromBF16(out), 1.0f + 0x1p-7f);
}

TEST(Kernels, SumsThatWouldOverflowAreRefusedBeforeTheyGetHere) {
  int8_t x = 0;
  Collective call;
  call.kind = CollectiveKind::kAllReduce;
  call.dtype = DType::kI8;
  call.send = call.recv = &x;
  call.count = 1;
  EXPECT_EQ(Validate(call, 0, 2).code(), absl::StatusCode::kInvalidArgument);
  call.reduce = ReduceOp::kMax;
  EXPECT_TRUE(Validate(call, 0, 2).ok());
}

TEST(Kernels, HalvesOfAnyBitsAreReducedAsTheConversionsSay) {
  constexpr int kCount = 200003;  // the last three go without vectors
  std::vector<uint16_t> in[3], out(kCount);
  uint64_t s = 7;
  for (auto& x : in) {
    for (int i = 0; i < kCount; ++i) {
      s = s * 6364136223846793005ull + 1442695040888963407ull;
      x.push_back(static_cast<uint16_t>(s >> 48));
    }
  }
  const void* srcs[] = {in[0].data(), in[1].data(), in[2].data()};
  void* dsts[] = {out.data()};
  for (ReduceOp op : {ReduceOp::kSum, ReduceOp::kMax}) {
    for (DType dtype : {DType::kBF16, DType::kF16}) {
      const bool b = dtype == DType::kBF16;
      ReduceInRankOrder(dtype, op, srcs, dsts, kCount, Store::kCached);
      for (int i = 0; i < kCount; ++i) {
        const auto widen = [b](uint16_t x) { return b ? FromBF16(x) : FromF16(x); };
        const auto of = [op](float x, float y) {
          return op == ReduceOp::kSum ? x + y : x > y || std::isnan(x) ? x : y;
        };
        const float sum = of(of(widen(in[0][i]), widen(in[1][i])), widen(in[2][i]));
        if (std::isnan(sum)) {
          ASSERT_TRUE(std::isnan(widen(out[i]))) << i;
        } else {
          ASSERT_EQ(out[i], b ? ToBF16(sum) : ToF16(sum)) << i;
        }
      }
    }
  }
}

TEST(Kernels, MaxHandsOnANaNFromAnyRank) {
  for (int rank = 0; rank < 3; ++rank) {
    float in[3] = {3, 1, 2}, out = 0;
    in[rank] = NAN;
    const void* srcs[] = {&in[0], &in[1], &in[2]};
    void* dsts[] = {&out};
    ReduceInRankOrder(DType::kF32, ReduceOp::kMax, srcs, dsts, 1, Store::kCached);
    EXPECT_TRUE(std::isnan(out)) << rank;
  }
}

TEST(Kernels, StreamingAndCachedStoresWriteTheSameWhateverTheAlignment) {
  std::vector<char> src(5000), a(5000), b(5000);
  for (size_t i = 0; i < src.size(); ++i) src[i] = static_cast<char>(i * 37);
  for (int from = 0; from < 70; from += 7) {
    for (int to = 0; to < 70; to += 3) {
      for (int64_t n : {0, 1, 63, 64, 65, 200, 4097}) {
        std::fill(a.begin(), a.end(), 1);
        std::fill(b.begin(), b.end(), 1);
        CopyBytes(a.data() + to, src.data() + from, n, Store::kCached);
        CopyBytes(b.data() + to, src.data() + from, n, Store::kStream);
        ASSERT_EQ(a, b) << from << " " << to << " " << n;
      }
    }
  }
}

}  // namespace
}  // namespace millrace
