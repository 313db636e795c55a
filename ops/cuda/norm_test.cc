// The device's norm, clip coefficient and loss scale against the CPU's, bit for bit, with the threads and blocks in
// shuffled orders.
#include "ops/cuda/norm.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "dist/kernels.h"
#include "gmock/gmock.h"
#include "graph/base/random.h"
#include "gtest/gtest.h"
#include "ops/cuda/emulation/device_test.h"
#include "ops/exact_norm.h"
#include "ops/optimizer_kernels.h"

namespace millrace {
namespace cuda {
namespace {

using Words = std::vector<int64_t>;

Words WordsOf(const NormPartial& p) { return {p.words.begin(), p.words.end()}; }

std::vector<float> Gradient(int64_t n, double magnitude, uint64_t stream) {
  const CounterRng rng(23, stream);
  std::vector<float> x(n);
  for (int64_t i = 0; i < n; ++i) {
    x[i] =
        static_cast<float>(rng.Normal(2 * i) * magnitude * std::exp2(-25 * rng.Uniform(2 * i + 1)));
  }
  return x;
}

std::vector<char> Encode(const std::vector<float>& x, DType type) {
  std::vector<char> bytes(x.size() * SizeOf(type));
  std::vector<uint16_t> half(x.size());
  if (type != DType::kF32) Narrow(type, x.data(), half.data(), static_cast<int64_t>(x.size()));
  if (x.empty()) return bytes;
  std::memcpy(bytes.data(), type == DType::kF32 ? static_cast<const void*>(x.data()) : half.data(),
              bytes.size());
  return bytes;
}
std::vector<float> Decode(const std::vector<char>& bytes, DType type) {
  std::vector<float> x(bytes.size() / SizeOf(type));
  if (type == DType::kF32) {
    if (!x.empty()) std::memcpy(x.data(), bytes.data(), bytes.size());
  } else {
    Widen(type, reinterpret_cast<const uint16_t*>(bytes.data()), x.data(),
          static_cast<int64_t>(x.size()));
  }
  return x;
}

struct Part {
  int64_t begin, count;
};

struct Result {
  Words words;
  std::vector<int32_t> non_finite;
};

Result OnDevice(const std::vector<float>& x, const std::vector<Part>& parts, DType type) {
  const DeviceArray<char> there(Encode(x, type));
  std::vector<NormRange> ranges;
  for (const Part& p : parts) {
    ranges.push_back({there.data() + p.begin * SizeOf(type), p.count});
  }
  const std::vector<Chunk> chunks = Chunks(ranges);
  const DeviceArray<NormRange> ranges_there(ranges);
  const DeviceArray<Chunk> chunks_there(chunks);
  const DeviceArray<int64_t> words(Words(NormPartial::kWords, 77));  // what lay there before
  const DeviceArray<int32_t> non_finite(std::vector<int32_t>(ranges.size(), 77));
  NormLaunch launch;
  launch.type = type, launch.ranges = ranges_there.data(), launch.chunks = chunks_there.data();
  launch.chunk_count = static_cast<int64_t>(chunks.size());
  launch.words = words.data();
  launch.non_finite = non_finite.data();
  launch.range_count = static_cast<int64_t>(ranges.size());
  EXPECT_STREQ(LaunchNorm(launch, nullptr), nullptr);
  return {words.Get(), non_finite.Get()};
}

Result OnCpu(const std::vector<float>& x, const std::vector<Part>& parts, DType type) {
  const std::vector<float> wide = Decode(Encode(x, type), type);
  NormPartial total;
  std::vector<int32_t> non_finite;
  for (const Part& p : parts) {
    total.Add(PartialNorm(wide.data() + p.begin, p.count));
    non_finite.push_back(0);
    for (int64_t i = p.begin; i < p.begin + p.count; ++i)
      non_finite.back() += !std::isfinite(wide[i]);
  }
  return {WordsOf(total), non_finite};
}

void ExpectSame(const std::vector<float>& x, const std::vector<Part>& parts, DType type) {
  const Result device = OnDevice(x, parts, type), cpu = OnCpu(x, parts, type);
  EXPECT_EQ(device.words, cpu.words) << Name(type) << " " << x.size();
  EXPECT_EQ(device.non_finite, cpu.non_finite) << Name(type) << " " << x.size();
}

TEST(CudaNorm, GivesTheWordsOfTheCpuForAllTypesMagnitudesAndAlignments) {
  uint64_t seed = 0;
  for (const DType type : {DType::kF32, DType::kBF16, DType::kF16}) {
    for (const double magnitude : {1e-16, 1e-9, 1e-3, 1.0, 1e3, 1e9}) {
      ShuffleThreads(seed++ % 3);
      const int64_t n = 3 * kChunkElements + 1234;
      // Parts that begin anywhere, with running statistics left out between them.
      const std::vector<Part> parts = {{0, 1}, {3, 1024}, {1028, 5000}, {6100, n - 6100}};
      ExpectSame(Gradient(n, magnitude, seed), parts, type);
    }
  }
  ShuffleThreads(0);
}

TEST(CudaNorm, NothingAndZerosHaveTheNormZero) {
  EXPECT_EQ(OnDevice({}, {}, DType::kF32).words, Words(NormPartial::kWords, 0));
  EXPECT_EQ(OnDevice(std::vector<float>(3000), {{0, 3000}}, DType::kBF16).words,
            Words(NormPartial::kWords, 0));
}

TEST(CudaNorm, WhatIsNotFiniteIsCountedByRange) {
  for (const DType type : {DType::kF32, DType::kBF16, DType::kF16}) {
    std::vector<float> x = Gradient(20000, 1.0, 5);
    x[17] = std::numeric_limits<float>::quiet_NaN();
    x[5000] = std::numeric_limits<float>::infinity();
    x[19999] = -std::numeric_limits<float>::infinity();
    x[12345] = -0x1p100f;  // finite, beyond the grids; infinite in f16
    ExpectSame(x, {{0, 4096}, {4096, 8}, {4110, 15890}}, type);
  }
}

TEST(CudaNorm, ManyOfTheLargestElementsDoNotOverflowABlock) {
  const std::vector<float> x(3 * kChunkElements, 0x1.fffffep39f);
  ExpectSame(x, {{0, 3 * kChunkElements}}, DType::kF32);
}

std::vector<NormPartial> SomePartials(int count, double magnitude, float extra) {
  std::vector<NormPartial> partials;
  for (int i = 0; i < count; ++i) {
    std::vector<float> x = Gradient(100 + i, magnitude, 40 + i);
    if (i == count / 2 && extra != 0) x[7] = extra;
    partials.push_back(PartialNorm(x.data(), static_cast<int64_t>(x.size())));
  }
  return partials;
}

uint32_t Bits(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  return bits;
}

TEST(CudaNorm, SumAndClipCoefficientHaveTheBitsOfTheCpu) {
  const float inf = std::numeric_limits<float>::infinity();
  uint64_t seed = 1;
  for (const float extra : {0.0f, inf, std::numeric_limits<float>::quiet_NaN()}) {
    for (const double magnitude : {1e-12, 1e-4, 3.0, 1e6}) {
      for (const double scale : {0.0, 1.0, 65536.0}) {
        for (const double max_norm : {0.5, 0.0}) {
          if (scale == 0 && max_norm == 0) continue;  // not clipped and not scaled: no such node
          ShuffleThreads(seed++);
          const std::vector<NormPartial> partials = SomePartials(75, magnitude, extra);
          Words gathered;
          NormPartial total;
          for (const NormPartial& p : partials) {
            total.Add(p);
            gathered.insert(gathered.end(), p.words.begin(), p.words.end());
          }
          const DeviceArray<int64_t> there(gathered);
          const DeviceArray<NormInput> inputs(
              {{there.data(), 1}, {there.data() + 10, 70}, {there.data() + 710, 4}});
          const DeviceArray<int64_t> sum(Words(10, 5));
          ASSERT_STREQ(LaunchNormSum(inputs.data(), 3, sum.data(), nullptr), nullptr);
          EXPECT_EQ(sum.Get(), WordsOf(total));

          const DeviceArray<LossScaleState> state(std::vector<LossScaleState>(1, {scale}));
          const DeviceArray<float> out(std::vector<float>(3, -1.0f));
          ASSERT_STREQ(
              LaunchClipCoefficient(inputs.data(), 3, max_norm, scale == 0 ? nullptr : state.data(),
                                    out.data(), nullptr),
              nullptr);
          const std::vector<float> got = out.Get();
          const auto norm = static_cast<float>(total.Norm());
          // ops/gradient_norm.cc
          const float factor =
              scale == 0 ? ClipFactor(norm, max_norm) : UnscaleClipFactor(norm, scale, max_norm);
          EXPECT_EQ(Bits(got[0]), Bits(factor));
          EXPECT_EQ(Bits(got[1]), Bits(scale == 0 ? norm : norm / static_cast<float>(scale)));
          EXPECT_EQ(got[2], scale == 0 ? -1.0f : std::isfinite(norm) ? 0.0f : 1.0f);
        }
      }
    }
  }
  ShuffleThreads(0);
}

TEST(CudaNorm, TheLossScaleMovesAsOnTheCpu) {
  for (const bool consecutive : {false, true}) {
    LossScaleOptions options;
    options.window = 3;
    options.hysteresis = 2;
    options.min_scale = 256;
    options.initial = 4096;
    options.consecutive_hysteresis = consecutive;
    LossScaleState cpu = StartOf(options);
    const DeviceArray<LossScaleState> device({cpu});
    const CounterRng rng(3, consecutive);
    for (int64_t step = 0; step < 200; ++step) {
      const bool overflow = rng.U32(step) % (step < 100 ? 4 : 2) == 0;
      UpdateLossScale(options, overflow, &cpu);
      const DeviceArray<float> coefficient({1.0f, 1.0f, overflow ? 1.0f : 0.0f});
      ASSERT_STREQ(LaunchLossScaleUpdate(options, coefficient.data(), device.data(), nullptr),
                   nullptr);
      const std::vector<LossScaleState> got = device.Get();
      ASSERT_EQ(std::memcmp(got.data(), &cpu, sizeof(cpu)), 0) << step;
    }
  }
}

TEST(CudaNorm, WhatHasNoKernelIsSaid) {
  EXPECT_THAT(LaunchNorm({.type = DType::kI32}, nullptr), testing::HasSubstr("f32, bf16 or f16"));
}

}  // namespace
}  // namespace cuda
}  // namespace millrace
