#include "graph/sim/simulate.h"

#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "graph/sim/testing/tiny_plan.h"
#include "gtest/gtest.h"

namespace millrace {
namespace {

using ::testing::HasSubstr;

SimResult Simulated(const Plan& plan, const SimOptions& options = {}) {
  auto result = Simulate(plan, SlowMachine(), options);
  EXPECT_TRUE(result.ok()) << result.status();
  return result.ok() ? *result : SimResult();
}

std::string Path(const SimResult& r, const Plan& plan) {
  std::string text;
  for (const CriticalNode& n : r.critical_path) {
    text += (text.empty() ? "" : " ") + plan.graph.nodes()[n.node].name;
  }
  return text;
}

TEST(SimulateTest, ComputeNodesRunOneAfterAnotherInLaneOrder) {
  TinyPlan t(1);
  t.Compute("a", 1);
  t.Compute("b", 2);
  const Plan plan = t.Build();
  const SimResult r = Simulated(plan);
  EXPECT_EQ(r.step_seconds, 3);
  EXPECT_EQ(r.lower_bound_seconds, 3);  // the lane's load
  EXPECT_EQ(r.events, 2);
  EXPECT_EQ(Path(r, plan), "a b");
}

//   compute  | a 1 | b 4       | c 1 |
//   comm           | gather 3 |
TEST(SimulateTest, AsynchronousGatherHidesUnderCompute) {
  TinyPlan t(2);
  const NodeId a = t.Compute("a", 1);
  auto [start, done] = t.AsyncGather("g", 3);
  t.Compute("b", 4);
  const NodeId c = t.Compute("c", 1);
  t.After(start, a).After(c, done);
  const Plan plan = t.Build();
  const SimResult r = Simulated(plan);
  EXPECT_EQ(r.step_seconds, 6);
  EXPECT_EQ(r.hidden_comm_seconds, 3);
  EXPECT_EQ(r.exposed_comm_seconds, 0);
  EXPECT_EQ(Path(r, plan), "a b c");
  ASSERT_EQ(r.lanes.size(), 4u);  // two ranks, two lanes
  EXPECT_EQ(r.lanes[0].busy, 6);
  EXPECT_EQ(r.lanes[1].busy, 3);
  EXPECT_EQ(r.lanes[1].wait_data, 1);
  EXPECT_EQ(r.lanes[1].after_last, 2);
}

//   compute  | a 1 |        | c 1 |
//   comm           | g 3   |
TEST(SimulateTest, ExposedGatherIsOnTheCriticalPathAndCountsAsWaitingForData) {
  TinyPlan t(2);
  const NodeId a = t.Compute("a", 1);
  auto [start, done] = t.AsyncGather("g", 3);
  const NodeId c = t.Compute("c", 1);
  t.After(start, a).After(c, done);
  const Plan plan = t.Build();
  const SimResult r = Simulated(plan);
  EXPECT_EQ(r.step_seconds, 5);
  EXPECT_EQ(r.lower_bound_seconds, 5);
  EXPECT_EQ(r.exposed_comm_seconds, 3);
  EXPECT_EQ(r.lanes[0].wait_data, 3);
  EXPECT_EQ(Path(r, plan), "a g.done c");
}

//   compute  | c waits for g2
//   comm     | g1 3   | g2 2 |
TEST(SimulateTest, QueuedGatherCountsAsWaitingForTheLane) {
  TinyPlan t(2);
  t.AsyncGather("g1", 3);
  auto [start, done] = t.AsyncGather("g2", 2);
  const NodeId c = t.Compute("c", 1);
  t.After(c, done);
  const SimResult r = Simulated(t.Build());
  EXPECT_EQ(r.step_seconds, 6);
  EXPECT_EQ(r.lanes[0].wait_lane, 3);  // g2 stood behind g1
  EXPECT_EQ(r.lanes[0].wait_data, 2);
  EXPECT_EQ(r.lanes[1].busy, 5);
}

TEST(SimulateTest, CreditEdgeCountsAsWaitingForCredit) {
  TinyPlan t(2);
  auto [start, done] = t.AsyncGather("g", 3);
  const NodeId b = t.Compute("b", 1);
  t.After(b, done, EdgeKind::kCredit);
  const SimResult r = Simulated(t.Build());
  EXPECT_EQ(r.step_seconds, 4);
  EXPECT_EQ(r.lanes[0].wait_credit, 3);
  EXPECT_EQ(r.lanes[0].wait_data, 0);
  EXPECT_EQ(r.lower_bound_seconds, 3);  // without the credit b could run under g
}

TEST(SimulateTest, SynchronousGatherBlocksTheIssueLane) {
  TinyPlan t(2);
  t.Compute("a", 1);
  t.Gather("g", 2);
  t.Compute("b", 1);
  const SimResult r = Simulated(t.Build());
  EXPECT_EQ(r.step_seconds, 4);
  EXPECT_EQ(r.exposed_comm_seconds, 2);
}

TEST(SimulateTest, CollectiveBeginsWhenTheSlowestRankIsThere) {
  TinyPlan t(2);
  const NodeId a = t.Compute("a", 2);
  auto [start, done] = t.AsyncGather("g", 3);
  const NodeId c = t.Compute("c", 1);
  t.After(start, a).After(c, done);
  const Plan plan = t.Build();
  SimOptions options;
  options.slowdown[1] = 2;  // rank 1: a lasts 4, c 2
  const SimResult r = Simulated(plan, options);
  EXPECT_EQ(r.step_seconds, 4 + 3 + 2);
  ASSERT_EQ(r.lanes.size(), 4u);
  EXPECT_EQ(r.lanes[1].busy, 3);       // rank 0's engine
  EXPECT_EQ(r.lanes[1].wait_data, 4);  // 2 for a, 2 for rank 1
  ASSERT_FALSE(r.critical_path.empty());
  EXPECT_EQ(r.critical_path[0].rank, 1);
  EXPECT_EQ(Path(r, plan), "a g.done c");
}

TEST(SimulateTest, MeasuredTableReplacesPredictedSeconds) {
  TinyPlan t(2);
  const NodeId a = t.Compute("a", 1);
  auto [start, done] = t.AsyncGather("g", 3);
  const Plan plan = t.Build();
  SimOptions options;
  options.seconds.assign(plan.graph.nodes().size(), -1);
  options.seconds[a] = 10;
  options.seconds[done] = 0.5;
  EXPECT_EQ(Simulated(plan, options).step_seconds, 10.5);
}

TEST(SimulateTest, EqualTimesAreSettledAlikeInEveryRun) {
  TinyPlan t(4);
  NodeId last = -1;
  for (int i = 0; i < 20; ++i) {
    auto [start, done] = t.AsyncGather("g" + std::to_string(i), 0);
    const NodeId c = t.Compute("c" + std::to_string(i), i % 3 == 0 ? 1 : 0);
    t.After(c, done);
    if (last >= 0) t.After(start, last);
    last = c;
  }
  const Plan plan = t.Build();
  const SimResult one = Simulated(plan), two = Simulated(plan);
  EXPECT_EQ(one.step_seconds, 7);
  ASSERT_EQ(one.spans.size(), two.spans.size());
  for (size_t i = 0; i < one.spans.size(); ++i) EXPECT_EQ(one.spans[i].node, two.spans[i].node);
  EXPECT_EQ(Path(one, plan), Path(two, plan));
}

Plan Layered(int world, int layers) {
  TinyPlan t(world);
  NodeId last = -1, behind = -1;
  for (int i = 0; i < layers; ++i) {
    auto [start, done] = t.AsyncGather("g" + std::to_string(i), 1 + i * 7 % 5);
    const NodeId c = t.Compute("c" + std::to_string(i), 1 + i * 3 % 4);
    const NodeId d = t.Compute("d" + std::to_string(i), 0.25);
    t.After(c, behind >= 0 ? behind : done).After(d, c);
    if (last >= 0) t.After(start, last, i % 2 == 0 ? EdgeKind::kHazard : EdgeKind::kCredit);
    last = d;
    behind = done;
  }
  return t.Build();
}

TEST(SimulateTest, FoldingEqualRanksGivesTheSameTimesAsExpandingThem) {
  const Plan plan = Layered(4, 30);
  SimOptions options;
  for (const bool perturbed : {false, true}) {
    if (perturbed) options.slowdown[2] = 1.5;
    options.expand = false;
    const SimResult folded = Simulated(plan, options);
    options.expand = true;
    const SimResult expanded = Simulated(plan, options);
    EXPECT_LT(folded.events, expanded.events);
    EXPECT_EQ(folded.step_seconds, expanded.step_seconds);
    EXPECT_EQ(folded.lower_bound_seconds, expanded.lower_bound_seconds);
    EXPECT_EQ(folded.exposed_comm_seconds, expanded.exposed_comm_seconds);
    ASSERT_EQ(folded.lanes.size(), expanded.lanes.size());
    for (size_t i = 0; i < folded.lanes.size(); ++i) {
      EXPECT_EQ(folded.lanes[i].rank, expanded.lanes[i].rank);
      EXPECT_EQ(folded.lanes[i].busy, expanded.lanes[i].busy);
      EXPECT_EQ(folded.lanes[i].wait_data, expanded.lanes[i].wait_data);
    }
    ASSERT_EQ(folded.spans.size(), expanded.spans.size());
    for (size_t i = 0; i < folded.spans.size(); ++i) {
      EXPECT_EQ(folded.spans[i].rank, expanded.spans[i].rank);
      EXPECT_EQ(folded.spans[i].node, expanded.spans[i].node);
      EXPECT_EQ(folded.spans[i].begin_ns, expanded.spans[i].begin_ns);
      EXPECT_EQ(folded.spans[i].end_ns, expanded.spans[i].end_ns);
    }
  }
}

TEST(SimulateTest, CriticalPathAndEveryLaneAddUpToTheStepAndTheBoundIsNeverAboveIt) {
  const Plan plan = Layered(3, 40);
  SimOptions options;
  options.slowdown[1] = 1.25;
  const SimResult r = Simulated(plan, options);
  double path = 0;
  for (const CriticalNode& n : r.critical_path) path += n.seconds;
  EXPECT_NEAR(path, r.step_seconds, 1e-9);
  for (const LaneUse& l : r.lanes) {
    EXPECT_NEAR(l.busy + l.wait_data + l.wait_lane + l.wait_credit + l.after_last, r.step_seconds,
                1e-9);
  }
  EXPECT_LE(r.lower_bound_seconds, r.step_seconds);
}

TEST(SimulateTest, CollectivesInDifferentOrderOnOneRankCannotFinishAndSayWhoWaits) {
  TinyPlan t(2);
  auto [s1, d1] = t.AsyncGather("g1", 1);
  const NodeId c = t.Compute("c", 1);
  auto [s2, d2] = t.AsyncGather("g2", 1);
  t.After(c, d1).After(s2, c);
  Plan plan = t.Build();
  RankPlan other = plan.rank_plans[0];
  plan.rank_plans[0].ranks = {0};
  other.ranks = {1};
  other.lanes[0].order = {s1, c};
  other.lanes[1].order = {d1};
  plan.rank_plans.push_back(other);
  const auto result = Simulate(plan, SlowMachine());
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(result.status().message()),
              HasSubstr("rank 0: g2.done waits for 1 other"));
}

TEST(SimulateTest, CycleOfEdgesIsNamed) {
  TinyPlan t(1);
  const NodeId a = t.Compute("a", 1), b = t.Compute("b", 1);
  t.After(a, b);
  const auto result = Simulate(t.Build(), SlowMachine());
  ASSERT_FALSE(result.ok());
  EXPECT_THAT(std::string(result.status().message()), HasSubstr("rank 0: a waits for b"));
}

TEST(SimulateTest, ThousandNodesOnEightUnequalRanksTakeLessThanTenMilliseconds) {
  const Plan plan = Layered(8, 250);  // 4 nodes a layer
  SimOptions options;
  for (int r = 0; r < 8; ++r) options.slowdown[r] = 1 + 0.01 * r;
  double best = 1;
  for (int i = 0; i < 5; ++i) best = std::min(best, Simulated(plan, options).seconds_to_simulate);
  RecordProperty("best_us", static_cast<int>(best * 1e6));
  EXPECT_LT(best, 0.05);  // wide margin: the figure itself is simulate_benchmark's
}

TEST(SimulateTest, SpansConvertToAPredictedTrace) {
  TinyPlan t(2);
  t.Compute("a", 0.5);
  const Plan plan = t.Build();
  const SimResult r = Simulated(plan);
  const Trace trace = ToTrace(r, plan);
  EXPECT_TRUE(trace.predicted);
  ASSERT_EQ(trace.steps.size(), 1u);
  EXPECT_EQ(trace.steps[0].end_ns, 500'000'000);
  EXPECT_EQ(trace.spans.size(), 2u);
}

// Two gathers after c cannot begin before it has ended, however early the first one was: their lane is bound from
// there on.
//   compute  | a 1 | b 4       |  n
//   comm           | g 1 |       | h 3 | i 3 |
TEST(SimulateTest, TheBoundSeesThatALanesLateWorkCannotMoveForward) {
  TinyPlan t(2);
  const NodeId a = t.Compute("a", 1);
  const auto [g, g_done] = t.AsyncGather("g", 1);
  const NodeId b = t.Compute("b", 4);
  const auto [h, h_done] = t.AsyncGather("h", 3);
  const auto [i, i_done] = t.AsyncGather("i", 3);
  t.After(g, a).After(b, a).After(h, b).After(i, b);
  const SimResult r = Simulated(t.Build());
  EXPECT_DOUBLE_EQ(r.step_seconds, 11);
  EXPECT_DOUBLE_EQ(r.lower_bound_seconds, 11);
}

}  // namespace
}  // namespace millrace
