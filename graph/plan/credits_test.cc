#include "graph/plan/credits.h"

#include <gtest/gtest.h>

#include "graph/lower/lower.h"
#include "graph/lower/testing/fake_model.h"
#include "graph/plan/planner.h"

namespace millrace {
namespace {

// "prefetch 2 of 5 holders"
std::string CreditsOf(const LowerOptions& options) {
  auto graph = Lower(MakeFakeModel({.stages = 6}), options);
  if (!graph.ok()) return graph.status().ToString();
  const auto plan = MakePlan(*std::move(graph), Machine());
  if (!plan.ok()) return plan.status().ToString();
  std::string text;
  for (const Credit& c : plan->rank_plans[0].credits) {
    absl::StrAppend(&text, c.name, " ", c.limit, " ", c.unit, ", ", c.holders.size(), " holders\n");
  }
  return text;
}

TEST(Credits, PrefetchLimitIsTheDepthAndTheOneInUse) {
  LowerOptions o{.world_size = 2, .zero_stage = 3, .reduce_bucket_bytes = 148};
  o.prefetch_depth = 0;
  EXPECT_EQ(CreditsOf(o), "prefetch 1 buckets, 11 holders\ngradients 2 buckets, 6 holders\n");
  o.prefetch_depth = 1;
  EXPECT_EQ(CreditsOf(o), "prefetch 2 buckets, 11 holders\ngradients 2 buckets, 6 holders\n");
  o.prefetch_depth = 3;
  EXPECT_EQ(CreditsOf(o), "prefetch 4 buckets, 11 holders\ngradients 2 buckets, 6 holders\n");
}

TEST(Credits, WithoutOverlapOneGradientAtATime) {
  EXPECT_EQ(
      CreditsOf({.world_size = 2, .zero_stage = 2, .reduce_bucket_bytes = 148, .overlap = false}),
      "gradients 1 buckets, 6 holders\n");
}

TEST(Credits, ReplicatedStateNeedsNone) {
  EXPECT_EQ(CreditsOf({.world_size = 2, .zero_stage = 1, .reduce_bucket_bytes = 148}), "");
}

TEST(Credits, ControlEdgesFromGiverToTakerAreCreditEdges) {
  auto graph = Lower(MakeFakeModel({.stages = 4}),
                     {.world_size = 2, .zero_stage = 3, .reduce_bucket_bytes = 148});
  ASSERT_TRUE(graph.ok());
  const auto plan = MakePlan(*std::move(graph), Machine());
  ASSERT_TRUE(plan.ok());
  int credits = 0;
  for (const Edge& e : plan->rank_plans[0].edges) credits += e.kind == EdgeKind::kCredit;
  EXPECT_GT(credits, 4);
}

}  // namespace
}  // namespace millrace
