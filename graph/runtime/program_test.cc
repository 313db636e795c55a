// Which edges are left out, and which plans are refused.

#include "graph/runtime/program.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <set>

#include "graph/runtime/test_harness.h"

namespace millrace {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;
using Edges = std::vector<std::pair<int32_t, int32_t>>;

std::vector<std::vector<bool>> Closure(int32_t nodes, const Edges& edges) {
  std::vector<std::vector<bool>> reach(nodes, std::vector<bool>(nodes));
  for (const auto& [a, b] : edges) reach[a][b] = true;
  for (int32_t k = 0; k < nodes; ++k) {
    for (int32_t i = 0; i < nodes; ++i) {
      for (int32_t j = 0; j < nodes; ++j) {
        if (reach[i][k] && reach[k][j]) reach[i][j] = true;
      }
    }
  }
  return reach;
}

TEST(ProgramTest, EdgesAlongALaneImplyAllOthersWithinIt) {
  const Edges edges = {{0, 1}, {0, 2}, {0, 3}, {1, 2}, {1, 2}, {1, 3}, {2, 3}};
  EXPECT_THAT(DropImpliedEdges(4, edges, {0, 1, 2, 3}, {{0, 1, 2, 3}}),
              ElementsAre(Pair(0, 1), Pair(1, 2), Pair(2, 3)));
}

TEST(ProgramTest, ACompletionIsWaitedForOnceByTheFirstThatNeedsIt) {
  // Lane 0: 0 1 2 3; 4 is the done half of 0, needed by 2 and 3.
  const Edges edges = {{0, 1}, {1, 2}, {2, 3}, {0, 4}, {4, 2}, {4, 3}};
  EXPECT_THAT(DropImpliedEdges(5, edges, {0, 1, 4, 2, 3}, {{0, 1, 2, 3}, {4}}),
              ElementsAre(Pair(0, 1), Pair(0, 4), Pair(1, 2), Pair(4, 2), Pair(2, 3)));
}

TEST(ProgramTest, WhatComesBeforeWhatStaysTheSameOnRandomGraphs) {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    std::mt19937_64 random(seed);
    const int32_t nodes = 24;
    Edges edges;
    std::vector<int32_t> order;
    for (int32_t i = 0; i < nodes; ++i) {
      order.push_back(i);
      for (int32_t j = i + 1; j < nodes; ++j) {
        if (random() % 8 == 0) edges.push_back({i, j});
      }
    }
    std::vector<std::vector<int32_t>> lanes(3);
    for (int32_t i = 0; i < nodes; ++i) {
      std::vector<int32_t>& lane = lanes[random() % 3];
      if (!lane.empty() && random() % 4 != 0) edges.push_back({lane.back(), i});
      lane.push_back(i);
    }
    const Edges kept = DropImpliedEdges(nodes, edges, order, lanes);
    EXPECT_EQ(Closure(nodes, kept), Closure(nodes, edges)) << "seed " << seed;
    const std::set<std::pair<int32_t, int32_t>> unique(edges.begin(), edges.end());
    EXPECT_LT(kept.size(), unique.size());
  }
}

RankKernels NoKernels(const Plan& plan) {
  RankKernels kernels;
  for (size_t i = 0; i < plan.graph.nodes().size(); ++i) {
    kernels.by_node.push_back(std::make_unique<Kernel>());
  }
  return kernels;
}

Plan SmallPlan() {
  PlanSketch sketch;
  const NodeId a = sketch.Compute("a", {});
  const NodeId g = sketch.Async("g", {a});
  sketch.Compute("b", {g});
  return std::move(sketch).Build(1);
}

TEST(ProgramTest, ACycleIsRefusedAndNamed) {
  Plan plan = SmallPlan();
  plan.rank_plans[0].edges.push_back(
      {plan.graph.FindNode("b"), plan.graph.FindNode("g.start"), EdgeKind::kCredit});
  EXPECT_EQ(MakeProgram(plan, NoKernels(plan)).status().message(),
            "plan sketch cannot be run by rank 0:\n"
            "  g.start is on a cycle or behind one\n"
            "  b is on a cycle or behind one\n"
            "  g.done is on a cycle or behind one");
}

TEST(ProgramTest, AllMistakesAreToldAtOnce) {
  Plan plan = SmallPlan();
  RankPlan& rank_plan = plan.rank_plans[0];
  rank_plan.lanes[0].order.push_back(plan.graph.FindNode("a"));
  rank_plan.lanes[1].order.clear();
  RankKernels kernels = NoKernels(plan);
  kernels.by_node[plan.graph.FindNode("b")] = nullptr;
  const absl::Status status = MakeProgram(plan, kernels).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(
      std::string(status.message()),
      testing::AllOf(HasSubstr("a is in the lanes twice"),
                     HasSubstr("g.start lacks its other half"), HasSubstr("b has no kernel"),
                     HasSubstr("the edge g.done -> b leads to a node that is in no lane")));
}

}  // namespace
}  // namespace millrace
