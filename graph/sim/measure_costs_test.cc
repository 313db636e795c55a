// A simulated run is a measured one whose truth is known: the table made of its trace gives the same step again.
#include "graph/sim/measure_costs.h"

#include "graph/plan/cost_model.h"
#include "graph/plan/cost_table.h"
#include "graph/sim/simulate.h"
#include "graph/sim/testing/tiny_plan.h"
#include "gtest/gtest.h"

namespace millrace {
namespace {

Plan Step(bool overlap) {
  TinyPlan t(2);
  const NodeId a = t.Compute("a", 2);
  NodeId done;
  if (overlap) {
    const auto [start, end] = t.AsyncGather("g", 3);
    t.After(start, a);
    done = end;
  } else {
    done = t.Gather("g", 3);
    t.After(done, a);
  }
  t.Compute("b", 4);
  t.After(t.Compute("c", 1), done);
  return t.Build();
}

Machine Truth() {
  Machine machine = SlowMachine();
  machine.mutable_device()->set_seconds_per_step(0.5);
  Contention* c = machine.add_contention();
  c->set_lane("compute");
  c->set_beside("comm");
  c->set_factor(1.5);
  c = machine.add_contention();
  c->set_lane("comm");
  c->set_beside("compute");
  c->set_factor(1.25);
  return machine;
}

double FactorOf(const CostTable& table, const std::string& lane) {
  for (const Contention& c : table.contention()) {
    if (c.lane() == lane) return c.factor();
  }
  return 0;
}

TEST(MeasureCosts, ACollectiveCostsWhatItsLastMemberWaited) {
  const Plan plan = Step(false);
  SimOptions options;
  options.slowdown[1] = 2;  // rank 0 waits in the gather
  const auto run = Simulate(plan, SlowMachine(), options);
  ASSERT_TRUE(run.ok());
  const CostTable table = MeasureCosts(ToTrace(*run, plan), SlowMachine());
  bool found = false;
  for (const NodeCost& node : table.node()) {
    if (node.op() != "all_gather") continue;
    found = true;
    EXPECT_DOUBLE_EQ(node.seconds(), 3);
    EXPECT_EQ(node.memory_bytes(), 3);
    EXPECT_EQ(node.ranks(), 2);
    EXPECT_EQ(node.samples(), 1);
  }
  EXPECT_TRUE(found);
}

TEST(MeasureCosts, WhatNoNodeExplainsIsTheRestOfTheStep) {
  const Plan plan = Step(false);
  const auto run = Simulate(plan, SlowMachine(), {});
  ASSERT_TRUE(run.ok());
  Trace trace = ToTrace(*run, plan);
  trace.steps[0].end_ns += 250000000;
  EXPECT_NEAR(RestOfStep(trace), 0.25, 1e-9);
  for (Span& span : trace.spans) span.begin_ns += span.end_ns > 2000000000 ? 0 : 500000000;
  EXPECT_NEAR(RestOfStep(trace), 0.75, 1e-9);  // the first node half a second late
}

TEST(MeasureCosts, RanksThatWaitForEachOtherAreNoCostOfTheStep) {
  const Plan plan = Step(false);
  SimOptions options;
  options.slowdown[1] = 2;
  const auto run = Simulate(plan, SlowMachine(), options);
  ASSERT_TRUE(run.ok());
  EXPECT_NEAR(RestOfStep(ToTrace(*run, plan)), 0, 1e-9);
}

TEST(MeasureCosts, ContentionIsFoundFromHowMuchLongerNodesTake) {
  const Plan plan = Step(true);
  const auto run = Simulate(plan, Truth(), {});
  ASSERT_TRUE(run.ok());
  // The truth about single nodes, as a run without overlap would give it: b alone is of its own size.
  CostTable table;
  NodeCost* gather = table.add_node();
  *gather = SizeOfNode(plan.graph, 2);
  gather->set_seconds(3);
  NodeCost* work = table.add_node();
  *work = SizeOfNode(plan.graph, 3);
  work->set_seconds(4);
  AddContention(ToTrace(*run, plan), &table);
  EXPECT_NEAR(FactorOf(table, "compute"), 1.5, 1e-6);
  EXPECT_NEAR(FactorOf(table, "comm"), 1.25, 1e-6);
}

TEST(MeasureCosts, WithoutOverlapThereIsNoContention) {
  const Plan plan = Step(false);
  const auto run = Simulate(plan, SlowMachine(), {});
  ASSERT_TRUE(run.ok());
  const Trace trace = ToTrace(*run, plan);
  CostTable table = MeasureCosts(trace, SlowMachine());
  AddContention(trace, &table);
  EXPECT_EQ(table.contention_size(), 0);
}

}  // namespace
}  // namespace millrace
