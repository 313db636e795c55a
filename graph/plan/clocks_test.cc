#include "graph/plan/clocks.h"

#include <gtest/gtest.h>

#include "graph/plan/testing/step_text.h"

namespace millrace {
namespace {

TEST(Clocks, CycleIsNamedNodeByNode) {
  const auto graph = StepOf({{"a", {}, {"x"}}, {"b", {}, {"y"}}, {"c", {}, {"z"}}});
  ASSERT_TRUE(graph.ok());
  const auto order = Sorted(*graph, {{0, 1}, {1, 2}, {2, 1}});
  ASSERT_FALSE(order.ok());
  EXPECT_EQ(order.status().message(), "nodes wait for each other: b -> c -> b");
}

TEST(Clocks, PrecedesFollowsPathsOverLanes) {
  const auto graph =
      StepOf({{"a", {}, {"x"}}, {"b", {}, {"y"}}, {"c", {}, {"z"}}, {"d", {}, {"w"}}});
  ASSERT_TRUE(graph.ok());
  const std::vector<Lane> lanes = {{.order = {0, 1}}, {.order = {2, 3}}};
  const auto clocks =
      Clocks::Make(*graph, lanes, {{0, 1, EdgeKind::kLane}, {2, 3, EdgeKind::kLane}, {0, 3}});
  ASSERT_TRUE(clocks.ok());
  EXPECT_TRUE(clocks->Precedes(0, 1));
  EXPECT_TRUE(clocks->Precedes(0, 3));
  EXPECT_FALSE(clocks->Precedes(1, 3));
  EXPECT_FALSE(clocks->Precedes(0, 2));
  EXPECT_FALSE(clocks->Precedes(0, 0));
}

TEST(Clocks, ImpliedHazardsGoValueEdgesStay) {
  const auto graph = StepOf({{"a", {}, {"x"}}, {"b", {}, {"y"}}, {"c", {}, {"z"}}});
  ASSERT_TRUE(graph.ok());
  const std::vector<Edge> edges = {{0, 1, EdgeKind::kLane},
                                   {1, 2, EdgeKind::kLane},
                                   {0, 2, EdgeKind::kHazard},
                                   {0, 2, EdgeKind::kData},
                                   {1, 2, EdgeKind::kControl}};
  const auto clocks = Clocks::Make(*graph, {{.order = {0, 1, 2}}}, edges);
  ASSERT_TRUE(clocks.ok());
  EXPECT_EQ(EdgeText(*graph, WithoutImplied(*clocks, edges)),
            "a -> b lane\na -> c data\nb -> c lane\n");
}

}  // namespace
}  // namespace millrace
