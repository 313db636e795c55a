// What can go wrong with a recomputed stage, and what the certificate says of it.
#include <algorithm>
#include <string>

#include "gmock/gmock.h"
#include "graph/plan/planner.h"
#include "graph/verify/testing/valid_plans.h"
#include "graph/verify/verify.h"
#include "gtest/gtest.h"

namespace millrace {
namespace {

using ::testing::HasSubstr;

LowerOptions Options(int stage, int micro_batches) {
  LowerOptions options;
  options.zero_stage = stage;
  options.world_size = 2;
  options.accumulation = micro_batches;
  options.reduce_bucket_bytes = 300;
  options.recompute.every = 1;
  return options;
}

// The findings after `damage` to the graph of a valid plan, which is then planned anew.
template <typename F>
std::string Found(F damage) {
  const Graph graph = MakeValidPlan(Options(1, 2), Planner::kReal).plan.graph;
  GraphBuilder builder(graph);
  damage(graph, builder);
  auto damaged = std::move(builder).Build();
  if (!damaged.ok()) return damaged.status().ToString();
  auto plan = MakePlan(*std::move(damaged), Machine(), {.world_size = 2});
  return plan.ok() ? Verify(*plan).findings.ToText() : plan.status().ToString();
}

// Makes every node read `to` instead of `from`.
void Replace(const char* node, const char* from, const char* to, const Graph& g, GraphBuilder& b) {
  const NodeId n = g.FindNode(node);
  ASSERT_GE(n, 0) << node;
  std::vector<ValueId>& inputs = b.node(n).inputs;
  ASSERT_GE(g.FindValue(to), 0) << to;
  std::replace(inputs.begin(), inputs.end(), g.FindValue(from), g.FindValue(to));
  ASSERT_NE(inputs, g.nodes()[n].inputs);
}

TEST(Recompute, PlansOfEveryStageHaveACertificate) {
  for (int stage = 0; stage <= 3; ++stage) {
    for (int micro_batches : {1, 3}) {
      const NamedPlan valid = MakeValidPlan(Options(stage, micro_batches), Planner::kReal);
      ASSERT_GE(valid.plan.graph.FindNode("recompute/a/0"), 0);
      const VerifyResult result = Verify(valid.plan);
      EXPECT_TRUE(result.ok) << valid.name << "\n" << result.findings.ToText();
    }
  }
}

TEST(Recompute, FromOtherInputsThanTheForwardIsFound) {
  EXPECT_THAT(Found([](const Graph& g, GraphBuilder& b) {
                Replace("recompute/b/0", "act/a/0", "act/b/0", g, b);
              }),
              HasSubstr("'recompute/b/0': does not read what forward/b/0 read"));
}

TEST(Recompute, OfAnotherMicroBatchIsFound) {
  EXPECT_THAT(Found([](const Graph& g, GraphBuilder& b) {
                Replace("recompute/b/1", "act/a/1", "act/a/0", g, b);
              }),
              HasSubstr("works on micro_batch 1 but reads act/a/0 of micro_batch 0"));
}

TEST(Recompute, OfAnotherStageIsFoundAtTheBackwardThatReadsIt) {
  EXPECT_THAT(Found([](const Graph& g, GraphBuilder& b) {
                b.node(g.FindNode("recompute/a/0")).attrs["stage"] = int64_t{1};
              }),
              HasSubstr("uses what recompute/a/0 saved, not its own forward"));
}

TEST(Recompute, BackwardOfAForwardThatKeptNothingIsFoundWithoutIt) {
  EXPECT_THAT(Found([](const Graph& g, GraphBuilder& b) {
                b.node(g.FindNode("forward/d/0")).attrs["evaluate"] = int64_t{1};
              }),
              HasSubstr("forward/d/0 kept nothing for it, and no node recomputes it"));
}

}  // namespace
}  // namespace millrace
