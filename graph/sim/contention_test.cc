// Lanes that share something: what runs on one is slowed down while the other is at work, and no longer.
#include "graph/sim/simulate.h"
#include "graph/sim/testing/tiny_plan.h"
#include "gtest/gtest.h"

namespace millrace {
namespace {

Machine Contended(double compute_beside_comm, double comm_beside_compute) {
  Machine machine = SlowMachine();
  const auto add = [&](const char* lane, const char* beside, double factor) {
    Contention* c = machine.add_contention();
    c->set_lane(lane);
    c->set_beside(beside);
    c->set_factor(factor);
  };
  add("compute", "comm", compute_beside_comm);
  add("comm", "compute", comm_beside_compute);
  return machine;
}

SimResult Simulated(const Plan& plan, const Machine& machine, const SimOptions& options = {}) {
  auto result = Simulate(plan, machine, options);
  EXPECT_TRUE(result.ok()) << result.status();
  return result.ok() ? *result : SimResult();
}

// a 2, then a gather of 3 beside b 4, then c 1 which needs both.
Plan Overlapped() {
  TinyPlan t(2);
  const NodeId a = t.Compute("a", 2);
  const auto [start, done] = t.AsyncGather("g", 3);
  t.After(start, a);
  t.Compute("b", 4);
  const NodeId c = t.Compute("c", 1);
  t.After(c, done);
  return t.Build();
}

TEST(ContentionTest, ComputationIsStretchedOnlyWhileCommunicationLasts) {
  // b: 3 s beside the gather give 1.5 s of work, the other 2.5 s alone: 5.5 s in all.
  EXPECT_DOUBLE_EQ(Simulated(Overlapped(), Contended(2, 1)).step_seconds, 2 + 5.5 + 1);
}

TEST(ContentionTest, TwoThreadsOnOneCoreGainNothingByOverlap) {
  const SimResult r = Simulated(Overlapped(), Contended(2, 2));
  EXPECT_DOUBLE_EQ(r.step_seconds, 2 + 4 + 3 + 1);  // as if one after the other
  EXPECT_DOUBLE_EQ(r.lower_bound_seconds, r.step_seconds);
}

TEST(ContentionTest, WithoutAFactorNothingChanges) {
  EXPECT_DOUBLE_EQ(Simulated(Overlapped(), Contended(1, 1)).step_seconds,
                   Simulated(Overlapped(), SlowMachine()).step_seconds);
}

TEST(ContentionTest, ACollectiveGoesAtThePaceOfItsSlowestMember) {
  // Rank 1 computes twice as long, so its computation is beside the gather for longer.
  SimOptions options;
  options.slowdown[1] = 2;
  const Plan plan = Overlapped();
  const SimResult r = Simulated(plan, Contended(1, 3), options);
  // Rank 1 ends a at 4, the gather begins; at a third of its pace it lasts while b does (8 s: 2 2/3 of the 3 s
  // are done), then 1/3 s alone; then c, 2 s.
  EXPECT_NEAR(r.step_seconds, 4 + 8 + 1.0 / 3 + 2, 1e-9);
}

TEST(ContentionTest, FoldedRanksBehaveAsExpandedOnes) {
  SimOptions expand;
  expand.expand = true;
  const Machine machine = Contended(1.7, 2.3);
  const SimResult folded = Simulated(Overlapped(), machine);
  const SimResult each = Simulated(Overlapped(), machine, expand);
  EXPECT_DOUBLE_EQ(folded.step_seconds, each.step_seconds);
  EXPECT_EQ(folded.spans.size(), each.spans.size());
}

TEST(ContentionTest, TheBoundIsNeverAboveTheStep) {
  for (double a : {1.0, 1.3, 2.0, 3.0}) {
    for (double b : {1.0, 1.5, 4.0}) {
      const SimResult r = Simulated(Overlapped(), Contended(a, b));
      EXPECT_LE(r.lower_bound_seconds, r.step_seconds * (1 + 1e-12)) << a << " " << b;
    }
  }
}

TEST(ContentionTest, WhatAStepCostsBesideItsNodesComesOnTop) {
  Machine machine = SlowMachine();
  machine.mutable_device()->set_seconds_per_step(0.25);
  EXPECT_DOUBLE_EQ(Simulated(Overlapped(), machine).step_seconds,
                   Simulated(Overlapped(), SlowMachine()).step_seconds + 0.25);
}

}  // namespace
}  // namespace millrace
