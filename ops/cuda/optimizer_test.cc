// The device's updates against the CPU's, bit for bit: all rules and types, ranges of all lengths and alignments, any
// bits as numbers.
#include "ops/cuda/optimizer.h"

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "dist/kernels.h"
#include "gmock/gmock.h"
#include "graph/base/random.h"
#include "gtest/gtest.h"
#include "ops/cuda/emulation/device_test.h"

namespace millrace {
namespace cuda {
namespace {

constexpr DType kGrads[] = {DType::kF32, DType::kBF16, DType::kF16};

// Ordinary numbers, and some of any bits at all: denormals, infinities, NaNs of all payloads.
std::vector<float> Numbers(int64_t n, uint64_t stream) {
  const CounterRng rng(17, stream);
  std::vector<float> x(n);
  for (int64_t i = 0; i < n; ++i) {
    x[i] = static_cast<float>(rng.Normal(2 * i) * std::exp2(-10 * rng.Uniform(2 * i + 1)));
    const uint32_t bits = rng.U32(3 * n + i);
    if (rng.U32(2 * n + i) % 16 == 0) std::memcpy(&x[i], &bits, sizeof(bits));
  }
  return x;
}

std::vector<char> Encode(const std::vector<float>& x, DType type) {
  std::vector<char> bytes(x.size() * SizeOf(type));
  for (size_t i = 0; i < x.size(); ++i) {
    const uint16_t half = type == DType::kBF16 ? ToBF16(x[i]) : ToF16(x[i]);
    const void* from = type == DType::kF32 ? static_cast<const void*>(&x[i]) : &half;
    std::memcpy(bytes.data() + i * SizeOf(type), from, SizeOf(type));
  }
  return bytes;
}

struct State {
  std::vector<float> p, m, v;
  std::vector<char> g, copy;
};
State MakeState(int64_t n, DType grad, uint64_t stream) {
  State s{Numbers(n, stream), Numbers(n, stream + 1), Numbers(n, stream + 2),
          Encode(Numbers(n, stream + 3), grad), std::vector<char>(2 * n, 'x')};
  for (float& x : s.v) x = std::fabs(x);
  return s;
}
template <typename T>
bool SameBits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

// A part of the arrays, and how it is updated.
struct Range {
  int64_t begin, count;
  bool decay, statistic;
  float momentum;
};

struct Rules {
  Rule rule;
  bool has_m, has_v;
};
constexpr Rules kRules[] = {{Rule::kAdamW, true, true},
                            {Rule::kAdam, true, true},
                            {Rule::kSgd, false, false},
                            {Rule::kSgdMomentum, true, false},
                            {Rule::kSgdNesterov, true, false}};

AdamScalars AdamOf(Rule rule) {
  AdamScalars s;
  s.decoupled = rule == Rule::kAdamW;
  return s;
}
SgdScalars SgdOf(Rule rule) {
  SgdScalars s;
  s.weight_decay = 0.03;
  s.nesterov = rule == Rule::kSgdNesterov;
  if (rule == Rule::kSgd) s.momentum = 0;
  return s;
}

struct Setting {
  Rules rules;
  DType grad, copy;
  bool with_copy;
  int64_t shift;  // elements before the first: alignment
  int64_t copy_shift = 0;
};

// What ops/optimizers.cc does.
void OnCpu(const Setting& s, const std::vector<Range>& ranges, int64_t step, float scale,
           State* a) {
  for (const Range& r : ranges) {
    UpdateOptions o;
    o.grad = s.grad;
    o.copy_type = s.copy;
    if (s.with_copy) o.copy = a->copy.data() + 2 * r.begin;
    float* p = a->p.data() + r.begin;
    float* m = a->m.data() + r.begin;
    const void* g = a->g.data() + r.begin * SizeOf(s.grad);
    absl::Status status;
    if (r.statistic) {
      SgdScalars sgd;
      sgd.lr = r.momentum;
      sgd.momentum = sgd.weight_decay = 0;
      status = SgdUpdate(p, g, nullptr, r.count, sgd, o);
    } else if (s.rules.has_v) {
      AdamScalars adam = AdamOf(s.rules.rule);
      adam.step = step;
      adam.grad_scale = scale;
      if (!r.decay) adam.weight_decay = 0;
      status = AdamUpdate(p, g, m, a->v.data() + r.begin, r.count, adam, o);
    } else {
      SgdScalars sgd = SgdOf(s.rules.rule);
      sgd.grad_scale = scale;
      if (!r.decay) sgd.weight_decay = 0;
      status = SgdUpdate(p, g, s.rules.has_m ? m : nullptr, r.count, sgd, o);
    }
    ASSERT_TRUE(status.ok()) << status;
  }
}

void OnDevice(const Setting& s, const std::vector<Range>& ranges, int64_t update, int64_t delay,
              const std::vector<float>& coefficient, State* a) {
  const auto shifted = [](auto host, int64_t by) {
    host.insert(host.begin(), by, 0);
    return host;
  };
  const int64_t grad_bytes = SizeOf(s.grad);
  const DeviceArray<float> p(shifted(a->p, s.shift)), m(shifted(a->m, s.shift)),
      v(shifted(a->v, s.shift));
  const DeviceArray<char> g(shifted(a->g, s.shift * grad_bytes)),
      copy(shifted(a->copy, (s.shift + s.copy_shift) * 2));
  std::vector<OptimizerRun> runs;
  for (const Range& r : ranges) {
    const int64_t at = s.shift + r.begin;
    OptimizerRun run;
    run.p = p.data() + at;
    run.g = g.data() + at * grad_bytes;
    if (s.rules.has_m) run.m = m.data() + at;
    if (s.rules.has_v) run.v = v.data() + at;
    if (s.with_copy) run.copy = copy.data() + (at + s.copy_shift) * 2;
    run.count = r.count;
    run.decay = r.decay, run.statistic = r.statistic, run.momentum = r.momentum;
    runs.push_back(run);
  }
  const std::vector<Chunk> chunks = Chunks(runs);
  const DeviceArray<OptimizerRun> runs_there(runs);
  const DeviceArray<Chunk> chunks_there(chunks);
  const DeviceArray<float> coefficient_there(coefficient);
  const DeviceArray<OptimizerScalars> scalars(
      {s.rules.has_v ? ScalarsOf(AdamOf(s.rules.rule), update, delay)
                     : ScalarsOf(SgdOf(s.rules.rule), update, delay)});
  OptimizerLaunch launch;
  launch.rule = s.rules.rule, launch.grad = s.grad, launch.copy = s.copy;
  launch.runs = runs_there.data(), launch.chunks = chunks_there.data();
  launch.chunk_count = static_cast<int64_t>(chunks.size());
  launch.scalars = scalars.data();
  launch.coefficient = coefficient.empty() ? nullptr : coefficient_there.data();
  launch.may_skip = coefficient.size() > 2;
  ASSERT_STREQ(Launch(launch, nullptr), nullptr);
  const auto back = [](auto host, int64_t by) {
    host.erase(host.begin(), host.begin() + by);
    return host;
  };
  a->p = back(p.Get(), s.shift), a->m = back(m.Get(), s.shift), a->v = back(v.Get(), s.shift);
  a->copy = back(copy.Get(), (s.shift + s.copy_shift) * 2);
}

void ExpectSame(const State& a, const State& b, const std::string& what) {
  EXPECT_TRUE(SameBits(a.p, b.p)) << what;
  EXPECT_TRUE(SameBits(a.m, b.m)) << what;
  EXPECT_TRUE(SameBits(a.v, b.v)) << what;
  EXPECT_TRUE(SameBits(a.copy, b.copy)) << what;
}

std::string ToText(const Setting& s) {
  return absl::StrCat("rule ", static_cast<int>(s.rules.rule), " grad ", Name(s.grad), " copy ",
                      s.with_copy ? Name(s.copy) : "none", " shift ", s.shift, " ", s.copy_shift);
}

// visit(setting) for all rules and types, at changing alignments.
template <typename Visit>
void ForSettings(const Visit& visit) {
  int64_t index = 0;
  for (const Rules& rules : kRules) {
    for (const DType grad : kGrads) {
      for (const DType copy : {DType::kBF16, DType::kF16}) {
        for (const bool with_copy : {false, true}) {
          const int64_t i = index++;
          visit(Setting{rules, grad, copy, with_copy, i % 5, i % 7 == 0 ? 1 : 0});
        }
      }
    }
  }
}

TEST(CudaOptimizer, EveryRuleTypeAndAlignmentGivesTheBitsOfTheCpu) {
  ForSettings([](const Setting& s) {
    const State start = MakeState(700, s.grad, 100);
    // Decay and none, a statistic, single elements, lengths that are no multiple of anything.
    const std::vector<Range> ranges = {{0, 301, true, false, 0},
                                       {301, 1, false, false, 0},
                                       {303, 7, true, true, 0.1f},
                                       {310, 130, false, false, 0},
                                       {441, 259, true, false, 0}};
    State cpu = start, device = start;
    OnCpu(s, ranges, 3, 0.37f, &cpu);
    OnDevice(s, ranges, 5, 2, {0.37f, 1.0f}, &device);
    ExpectSame(device, cpu, ToText(s));
    EXPECT_FALSE(SameBits(cpu.p, start.p));
  });
}

TEST(CudaOptimizer, LongRangesAreCutIntoChunks) {
  for (const int64_t shift : {0, 3}) {
    const Setting s{kRules[0], DType::kBF16, DType::kBF16, true, shift};
    const int64_t n = 2 * kChunkElements + 77;
    State cpu = MakeState(n, s.grad, 200), device = cpu;
    const std::vector<Range> ranges = {
        {0, kChunkElements + 13, true, false, 0},
        {kChunkElements + 13, n - kChunkElements - 13, false, false, 0}};
    OnCpu(s, ranges, 1, 1.0f, &cpu);
    OnDevice(s, ranges, 1, 0, {}, &device);
    ExpectSame(device, cpu, ToText(s));
  }
}

TEST(CudaOptimizer, AnOverflowOrNoGradientYetLeavesAllButTheCopy) {
  const std::vector<Range> ranges = {{0, 99, true, false, 0}, {99, 50, true, true, 0.1f}};
  for (const DType copy : {DType::kBF16, DType::kF16}) {
    const Setting s{kRules[0], DType::kBF16, copy, true, 1};
    const State start = MakeState(149, s.grad, 300);
    State kept = start;
    Narrow(copy, start.p.data(), reinterpret_cast<uint16_t*>(kept.copy.data()), 149);
    State overflowed = start, early = start, updated = start;
    OnDevice(s, ranges, 9, 0, {NAN, INFINITY, 1}, &overflowed);
    ExpectSame(overflowed, kept, "overflow");
    OnDevice(s, ranges, 2, 2, {1, 1, 0}, &early);
    ExpectSame(early, kept, "no gradient yet");
    OnDevice(s, ranges, 3, 2, {1, 1, 0}, &updated);
    EXPECT_FALSE(SameBits(updated.p, start.p));
  }
}

TEST(CudaOptimizer, WhatHasNoKernelIsSaid) {
  EXPECT_THAT(Launch({.rule = Rule::kLambApply, .chunk_count = 1}, nullptr),
              testing::HasSubstr("LAMB"));
  EXPECT_THAT(Launch({.grad = DType::kF64}, nullptr), testing::HasSubstr("gradients"));
  EXPECT_THAT(Launch({.copy = DType::kF32}, nullptr), testing::HasSubstr("copy"));
  EXPECT_THAT(Launch({.may_skip = true}, nullptr), testing::HasSubstr("coefficient"));
  EXPECT_EQ(Launch({}, nullptr), nullptr);  // nothing to do
}

}  // namespace
}  // namespace cuda
}  // namespace millrace
