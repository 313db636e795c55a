// What leaves the device, decided from bytes and seconds.
#include "pipelines/runner/memory_choice.h"

#include "gmock/gmock.h"
#include "graph/lower/testing/fake_model.h"
#include "gtest/gtest.h"

namespace millrace {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

Machine WithMemory(int64_t device, int64_t host = 0) {
  Machine m;
  m.set_name("m");
  m.mutable_device()->set_memory_bytes(device);
  m.set_host_memory_bytes(host);
  return m;
}

// 4 MB of parameters a stage, 16 MB with gradients and states, against activations of 1 kB.
ModelSpec ManyStates() { return MakeFakeModel({.stages = 4, .params = {{1000, 1000}}}); }
// Saved blocks of 1 MB a stage against next to no states.
ModelSpec ManyActivations() { return MakeFakeModel({.stages = 6, .saved_bytes = 1 << 20}); }

absl::StatusOr<MemoryChoice> Choose(const ModelSpec& spec, const Machine& machine, int stage = 0,
                                    const MemoryOpen& open = {}) {
  return ChooseMemory(spec, {.zero_stage = stage}, open, machine);
}

int64_t PlainPeak(const ModelSpec& spec, int stage = 0) {
  return Choose(spec, WithMemory(int64_t{1} << 40), stage)->plain.device_bytes;
}

TEST(MemoryChoice, WhereAllFitsNothingIsChanged) {
  const ModelSpec spec = ManyStates();
  const auto c = Choose(spec, WithMemory(PlainPeak(spec)));
  ASSERT_TRUE(c.ok()) << c.status();
  EXPECT_THAT(c->settings, IsEmpty());
  EXPECT_EQ(c->tried.size(), 1u);
  EXPECT_THAT(ToText(*c), HasSubstr("as it is"));
}

TEST(MemoryChoice, StatesInTheWayGoToTheHostNoMoreThanNeeded) {
  const ModelSpec spec = ManyStates();
  const auto c = Choose(spec, WithMemory(PlainPeak(spec) - 4096));
  ASSERT_TRUE(c.ok()) << c.status();
  EXPECT_THAT(c->settings, Contains("memory.offload.optimizer.tier=HOST")) << ToText(*c);
  EXPECT_THAT(c->settings, Contains("memory.offload.optimizer.ratio=0.25")) << ToText(*c);
  EXPECT_THAT(c->settings, Not(Contains(HasSubstr("recompute")))) << ToText(*c);
  EXPECT_LE(c->chosen.device_bytes, c->device_budget);
}

TEST(MemoryChoice, ActivationsInTheWayAreRecomputedAndNothingLeaves) {
  const ModelSpec spec = ManyActivations();
  const auto c = Choose(spec, WithMemory(PlainPeak(spec) / 2));
  ASSERT_TRUE(c.ok()) << c.status();
  EXPECT_THAT(c->settings, ElementsAre(StartsWith("memory.recompute.stage=["))) << ToText(*c);
}

TEST(MemoryChoice, WhatTheHostCannotTakeGoesToStorage) {
  const ModelSpec spec = MakeFakeModel({.stages = 24, .params = {{1000, 1000}}});
  const int64_t half = PlainPeak(spec) / 2;
  const auto host = Choose(spec, WithMemory(half));
  ASSERT_TRUE(host.ok()) << host.status();
  EXPECT_THAT(host->settings, Contains("memory.offload.optimizer.tier=HOST")) << ToText(*host);
  const auto storage = Choose(spec, WithMemory(half, 180000000));  // half the states take more
  ASSERT_TRUE(storage.ok()) << storage.status();
  EXPECT_THAT(storage->settings, Contains("memory.offload.optimizer.tier=STORAGE"))
      << ToText(*storage);
  EXPECT_LT(storage->chosen.host_bytes, host->chosen.host_bytes);
  EXPECT_GT(storage->chosen.step_seconds, host->chosen.step_seconds);
}

TEST(MemoryChoice, ParametersLeaveAtStage3OnlyAndBelowItTheErrorSaysSo) {
  const ModelSpec spec = MakeFakeModel({.stages = 8, .params = {{1000, 1000}}});
  const int64_t budget = PlainPeak(spec) / 5;  // 8 stages of 4 MB are a fourth of it
  const auto sharded = Choose(spec, WithMemory(budget), 3);
  ASSERT_TRUE(sharded.ok()) << sharded.status();
  EXPECT_THAT(sharded->settings, Contains(StartsWith("memory.offload.parameters.tier=")))
      << ToText(*sharded);
  const auto low = Choose(spec, WithMemory(budget), 2);
  EXPECT_EQ(low.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(low.status().message()),
              HasSubstr("parallel.zero.stage: 3 would allow the parameters"));
}

TEST(MemoryChoice, WhatIsSetByHandStays) {
  const ModelSpec spec = ManyActivations();
  const auto c = Choose(spec, WithMemory(PlainPeak(spec) / 2), 0, {.recompute = false});
  EXPECT_EQ(c.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(c.status().message()), HasSubstr("memory.recompute left out"));
}

TEST(MemoryChoice, WhatCannotFitIsSaidWithTheLeast) {
  const auto c = Choose(ManyStates(), WithMemory(5000), 3);
  EXPECT_EQ(c.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(c.status().message()), HasSubstr("the least takes "));
  EXPECT_THAT(std::string(c.status().message()), HasSubstr("too much"));
}

TEST(MemoryChoice, TheSameQuestionHasTheSameAnswer) {
  const ModelSpec spec = ManyStates();
  const Machine machine = WithMemory(PlainPeak(spec) / 2);
  EXPECT_EQ(ToText(*Choose(spec, machine)), ToText(*Choose(spec, machine)));
}

}  // namespace
}  // namespace millrace
