// The shapes of the schedules, in numbers that can be worked out by hand. Agreement with the reference package to the
// last bit is in tests/golden.
#include "pipelines/runner/lr_schedule.h"

#include <cmath>

#include "gtest/gtest.h"

namespace millrace {
namespace {

using Kind = LrScheduleOptions::Kind;

LrScheduler Schedule(Kind kind, int64_t warmup, int64_t total, bool linear = true) {
  LrScheduleOptions o;
  o.kind = kind;
  o.lr = 1;
  o.warmup_steps = warmup;
  o.total_steps = total;
  o.linear_warmup = linear;
  return LrScheduler(o);
}

TEST(LrSchedule, AConstantRateIsTheSameFromTheFirstStepToTheLast) {
  const LrScheduler s = Schedule(Kind::kConstant, 10, 100);
  for (int64_t k : {0, 1, 10, 100, 1000000}) EXPECT_EQ(s.AfterSteps(k), 1);
}

TEST(LrSchedule, ALinearWarmUpRisesByEqualStepsAndThenStays) {
  const LrScheduler s = Schedule(Kind::kWarmup, 4, 0);
  EXPECT_EQ(s.AfterSteps(0), 0);
  EXPECT_EQ(s.AfterSteps(1), 0);
  EXPECT_DOUBLE_EQ(s.AfterSteps(2), 0.25);
  EXPECT_DOUBLE_EQ(s.AfterSteps(3), 0.5);
  EXPECT_DOUBLE_EQ(s.AfterSteps(5), 1);
  EXPECT_DOUBLE_EQ(s.AfterSteps(1000), 1);
}

TEST(LrSchedule, ALogarithmicWarmUpRisesFastFirst) {
  const LrScheduler s = Schedule(Kind::kWarmup, 8, 0, /*linear=*/false);
  EXPECT_EQ(s.AfterSteps(1), 0);
  EXPECT_DOUBLE_EQ(s.AfterSteps(2), 1.0 / 3);  // ln 2 / ln 8
  EXPECT_DOUBLE_EQ(s.AfterSteps(4), 2.0 / 3);  // ln 4 / ln 8
  EXPECT_DOUBLE_EQ(s.AfterSteps(8), 1);
}

TEST(LrSchedule, WarmUpStartsAtTheSmallestRate) {
  LrScheduleOptions o;
  o.kind = Kind::kWarmup;
  o.lr = 0.5;
  o.warmup_min_lr = 0.1;
  o.warmup_steps = 2;
  o.linear_warmup = true;
  EXPECT_EQ(LrScheduler(o).AfterSteps(0), 0.1);
  EXPECT_DOUBLE_EQ(LrScheduler(o).AfterSteps(2), 0.3);
  EXPECT_DOUBLE_EQ(LrScheduler(o).AfterSteps(3), 0.5);
}

TEST(LrSchedule, DecayFallsLinearlyToNothingAndNotBelow) {
  const LrScheduler s = Schedule(Kind::kWarmupDecay, 2, 10);
  EXPECT_DOUBLE_EQ(s.AfterSteps(3), 1);
  EXPECT_DOUBLE_EQ(s.AfterSteps(7), 0.5);
  EXPECT_DOUBLE_EQ(s.AfterSteps(11), 0);
  EXPECT_DOUBLE_EQ(s.AfterSteps(50), 0);
}

TEST(LrSchedule, CosineFallsToItsShareAndStaysThere) {
  const LrScheduler s = Schedule(Kind::kWarmupCosine, 2, 10);
  EXPECT_EQ(s.AfterSteps(0), 0);
  EXPECT_EQ(s.AfterSteps(1), 0);
  EXPECT_DOUBLE_EQ(s.AfterSteps(2), 0.5);
  EXPECT_NEAR(s.AfterSteps(6), 1e-4 + (1 - 1e-4) * 0.5, 1e-15);  // half way
  EXPECT_NEAR(s.AfterSteps(10), 1e-4, 1e-15);
  EXPECT_NEAR(s.AfterSteps(99), 1e-4, 1e-15);
}

TEST(LrSchedule, NoWarmUpAndAShortRunGiveNumbersAllTheSame) {
  for (Kind kind : {Kind::kConstant, Kind::kWarmup, Kind::kWarmupDecay, Kind::kWarmupCosine}) {
    for (int64_t warmup : {0, 1, 5}) {
      for (int64_t total : {0, 1, 5}) {
        const LrScheduler s = Schedule(kind, warmup, total, /*linear=*/false);
        for (int64_t k = 0; k < 8; ++k) {
          EXPECT_TRUE(std::isfinite(s.AfterSteps(k)));
          EXPECT_GE(s.AfterSteps(k), 0);
          EXPECT_LE(s.AfterSteps(k), 1);
        }
      }
    }
  }
}

}  // namespace
}  // namespace millrace
