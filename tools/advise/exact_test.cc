#include "tools/advise/exact.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "graph/lower/testing/fake_model.h"

namespace millrace {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::StartsWith;

Machine WithMemory(int64_t bytes) {
  Machine machine;
  machine.mutable_device()->set_memory_bytes(bytes);
  return machine;
}

ExactAdvice Advise(const ModelSpec& spec, int64_t memory, int devices = 4) {
  const auto advice = AdviseExactly(
      {.spec = spec, .options = {.world_size = devices}, .machine = WithMemory(memory)});
  EXPECT_TRUE(advice.ok()) << advice.status();
  return advice.ok() ? *advice : ExactAdvice();
}

const ExactChoice& Find(const ExactAdvice& a, int stage, const std::string& recompute) {
  for (const ExactChoice& c : a.choices) {
    if (c.zero_stage == stage && c.recompute == recompute) return c;
  }
  ADD_FAILURE() << "no choice " << stage << ", " << recompute;
  return a.choices[0];
}

// Saved blocks of 1 MB a stage against states of 16 x 37 bytes.
ModelSpec ManyActivations() { return MakeFakeModel({.stages = 6, .saved_bytes = 1 << 20}); }
// States of 16 x 1 M bytes a stage against saved blocks of 1 kB.
ModelSpec ManyStates() { return MakeFakeModel({.stages = 4, .params = {{1000, 1000}}}); }

TEST(Exact, WhereAllFitsTheFirstIsChosenAndTheOthersSayWhyNot) {
  const ExactAdvice a = Advise(ManyActivations(), 1 << 30);
  ASSERT_EQ(a.choices.size(), 16u);
  EXPECT_EQ(a.first, 0);
  EXPECT_THAT(Find(a, 0, "all").why,
              AllOf(HasSubstr("slower than stage"), HasSubstr("runs 5 stages' forward again")));
  EXPECT_THAT(Find(a, 0, "auto").why, HasSubstr("would recompute nothing"));
  for (const ExactChoice& c : a.choices) EXPECT_FALSE(c.why.empty());
}

TEST(Exact, ActivationsTooLargeRecomputeHelpsAndZero3DoesNot) {
  const ExactAdvice a = Advise(ManyActivations(), 4 << 20);
  ASSERT_GE(a.fastest, 0);
  EXPECT_NE(a.choices[a.fastest].recompute, "none");
  const ExactChoice& plain = Find(a, 0, "none");
  EXPECT_FALSE(plain.fits);
  EXPECT_THAT(plain.why, AllOf(HasSubstr("recompute ("), HasSubstr(" helps, ZeRO-3 ("),
                               HasSubstr("does not")));
  EXPECT_EQ(plain.states_bytes + plain.transient_bytes, plain.peak_bytes);
  const ExactChoice& automatic = Find(a, 0, "auto");
  EXPECT_TRUE(automatic.fits);
  EXPECT_LT(automatic.recomputed, Find(a, 0, "all").recomputed);
  EXPECT_LT(automatic.step_seconds, Find(a, 0, "all").step_seconds);
}

TEST(Exact, StatesTooLargeZero3HelpsAndRecomputeDoesNot) {
  const ExactAdvice a = Advise(ManyStates(), 60000000);
  ASSERT_GE(a.fastest, 0);
  EXPECT_GT(a.choices[a.fastest].zero_stage, 0);
  EXPECT_EQ(a.choices[a.fastest].recompute, "none");
  EXPECT_THAT(Find(a, 0, "none").why,
              AllOf(HasSubstr("ZeRO-3 ("), HasSubstr(" helps, recompute (")));
  EXPECT_THAT(Find(a, 0, "auto").why, HasSubstr("not even recomputing all"));
}

TEST(Exact, NothingFitsSaysHowMuchIsMissingAndWhichMicroBatchWould) {
  const ModelSpec spec = ManyActivations();
  const ExactInput input = {.spec = spec,
                            .options = {.world_size = 2},
                            .machine = WithMemory(600000),
                            .micro_batch = 8,
                            .probe = [](int64_t m) -> absl::StatusOr<ModelSpec> {
                              return MakeFakeModel({.stages = 6, .saved_bytes = (1 << 17) * m});
                            }};
  const auto advice = AdviseExactly(input);
  ASSERT_TRUE(advice.ok()) << advice.status();
  EXPECT_EQ(advice->fastest, -1);
  EXPECT_THAT(advice->help, StartsWith("nothing fits"));
  EXPECT_THAT(advice->help, HasSubstr("train.micro_batch=4 it fits"));
  EXPECT_THAT(advice->help, HasSubstr("train.accumulation=2 keeps the batch"));
}

TEST(Exact, StatesThatNoBatchSizeFitsAreSaid) {
  EXPECT_THAT(Advise(ManyStates(), 1000000).help, HasSubstr("no batch size helps"));
}

TEST(Exact, WhatFitsOnlyWithOffloadIsPlannedTooAndWhatDoesNotSaysByHowMuch) {
  const ExactAdvice a = Advise(ManyStates(), 15000000);  // a fourth of the states is 16 MB
  EXPECT_EQ(a.fastest, -1);
  ASSERT_TRUE(a.offload.has_value()) << a.offload_help;
  EXPECT_THAT(a.offload->settings, Contains(StartsWith("memory.offload.optimizer.tier=")));
  EXPECT_LE(a.offload->choice.chosen.device_bytes, 15000000);
  EXPECT_GT(a.offload->choice.chosen.step_seconds, 0);
  const ExactAdvice none = Advise(ManyStates(), 1000000);
  EXPECT_FALSE(none.offload.has_value());
  EXPECT_THAT(none.offload_help, HasSubstr("the least takes"));
}

TEST(Exact, OneDeviceHasOneStage) {
  const ExactAdvice a = Advise(ManyActivations(), 1 << 30, 1);
  EXPECT_EQ(a.choices.size(), 4u);
  EXPECT_EQ(a.fastest, 0);
}

}  // namespace
}  // namespace millrace
