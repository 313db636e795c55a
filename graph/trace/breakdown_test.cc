// Where time went, on traces small enough to add up by hand.

#include "graph/trace/breakdown.h"

#include <gtest/gtest.h>

#include "graph/trace/test_plan.h"

namespace millrace {
namespace {

Trace OneStep(const Plan& plan) {
  Trace t;
  t.plan = &plan;
  t.steps = {{0, 0, 100}};
  t.spans = {{0, 0, 0, 0, 10, 0},     // a
             {0, 0, 1, 10, 12, 10},   // gather.start
             {0, 1, 2, 12, 60, 12},   // gather.done
             {0, 0, 3, 12, 40, 10},   // b
             {0, 0, 4, 65, 95, 60}};  // c
  return t;
}

TEST(BreakdownTest, PartsOfALaneAddUpToTheStep) {
  const Plan plan = TracePlan();
  const Breakdown b = BreakDown(OneStep(plan));
  ASSERT_EQ(b.lanes.size(), 2u);
  const LaneTime& compute = b.lanes[0];
  EXPECT_EQ(compute.busy_ns, 10 + 2 + 28 + 30);
  EXPECT_EQ(compute.wait_data_ns, 20);  // for the gather
  EXPECT_EQ(compute.wake_up_ns, 5);     // from its end to c's begin
  EXPECT_EQ(compute.rest_ns, 5);
  EXPECT_EQ(compute.queued_ns, 2);  // b while gather.start ran
  const LaneTime& communication = b.lanes[1];
  EXPECT_EQ(communication.name, "comm:data");
  EXPECT_EQ(communication.busy_ns, 48);
  EXPECT_EQ(communication.wait_data_ns, 12);
  EXPECT_EQ(communication.rest_ns, 40);
  for (const LaneTime& l : b.lanes) {
    EXPECT_EQ(
        l.busy_ns + l.wait_data_ns + l.wait_lane_ns + l.wait_credit_ns + l.wake_up_ns + l.rest_ns,
        100);
  }
}

TEST(BreakdownTest, CommunicationIsExposedWhereNoComputeRuns) {
  const Plan plan = TracePlan();
  const Breakdown b = BreakDown(OneStep(plan));
  ASSERT_EQ(b.ranks.size(), 1u);
  EXPECT_EQ(b.ranks[0].compute_ns, 68);
  EXPECT_EQ(b.ranks[0].communication_ns, 48);
  EXPECT_EQ(b.ranks[0].exposed_ns, 20);
  EXPECT_EQ(b.ranks[0].idle_ns, 100 - 68 - 20);
  EXPECT_EQ(ExposedBySpan(OneStep(plan)), (std::vector<int64_t>{0, 0, 20, 0, 0}));
}

TEST(BreakdownTest, WaitingForADataOfALaneThatWasTakenIsWaitingForTheLane) {
  const Plan plan = TracePlan();
  Trace t = OneStep(plan);
  t.spans[2].begin_ns = 45;  // the gather was issued at 12, and its lane was taken until 45
  t.spans[2].ready_ns = 12;
  const LaneTime compute = BreakDown(t).lanes[0];
  EXPECT_EQ(compute.wait_lane_ns, 5);  // from 40, when compute had nothing left, to 45
  EXPECT_EQ(compute.wait_data_ns, 15);
}

TEST(BreakdownTest, OneStepOfManyIsATraceOfItsOwn) {
  const Plan plan = TracePlan();
  Trace t = OneStep(plan);
  t.steps.push_back({1, 100, 200});
  for (int i = 0; i < 5; ++i) {
    Span s = t.spans[i];
    for (int64_t* ns : {&s.begin_ns, &s.end_ns, &s.ready_ns}) *ns += 100;
    t.spans.push_back(s);
  }
  const Breakdown both = BreakDown(t);
  const Breakdown second = BreakDown(StepOf(t, 1));
  EXPECT_EQ(second.steps, 1);
  EXPECT_EQ(second.ranks[0].exposed_ns * 2, both.ranks[0].exposed_ns);
  EXPECT_EQ(second.lanes[0].busy_ns * 2, both.lanes[0].busy_ns);
}

TEST(BreakdownTest, IdleForACreditIsToldApart) {
  const Plan plan = TracePlan();
  Trace t = OneStep(plan);
  t.spans[4].credit_ns = 64;
  const LaneTime compute = BreakDown(t).lanes[0];
  EXPECT_EQ(compute.wait_data_ns, 20);
  EXPECT_EQ(compute.wait_credit_ns, 4);
  EXPECT_EQ(compute.wake_up_ns, 1);
}

TEST(BreakdownTest, TheTableIsPerStep) {
  const Plan plan = TracePlan();
  EXPECT_EQ(ToText(BreakDown(OneStep(plan))),
            "ms per step, 1 steps of 0.000 ms\n"
            "rank and lane                  busy  wait data       lane     credit    wake-up       "
            "rest   "
            "(queued)\n"
            "0 compute                     0.000      0.000      0.000      0.000      0.000      "
            "0.000      "
            "0.000\n"
            "0 comm:data                   0.000      0.000      0.000      0.000      0.000      "
            "0.000      "
            "0.000\n"
            "rank 0: compute 0.000, communication 0.000, of it exposed 0.000\n");
}

}  // namespace
}  // namespace millrace
