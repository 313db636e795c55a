// Which orders of a plan a device with streams has to keep.

#include "graph/plan/stream_edges.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "graph/ir/graph.h"

namespace millrace {
namespace {

// a, c, d compute on the device; h works on the host between c and d, split. b's buffer takes a's place.
Plan SmallPlan() {
  GraphBuilder builder("step");
  const auto value = [&](const std::string& name, Tier tier) {
    Value v;
    v.name = name;
    v.shape = {16};
    const ValueId id = builder.AddValueWithBuffer(v, BufferKind::kActivation);
    builder.buffer(builder.value(id).buffer).tier = tier;
    return id;
  };
  const ValueId x = value("x", Tier::kDevice), y = value("y", Tier::kDevice),
                z = value("z", Tier::kDevice), w = value("w", Tier::kHost),
                u = value("u", Tier::kHost);
  builder.AddNode({.name = "a", .op = "fake", .outputs = {x}});
  builder.AddNode({.name = "b", .op = "fake", .inputs = {x}, .outputs = {y}});
  builder.AddNode({.name = "prepare", .op = "fake", .outputs = {w}});
  const NodeId start =
      builder.AddNode({.name = "h.start", .op = "fake", .inputs = {w}, .async = AsyncRole::kStart});
  const NodeId done =
      builder.AddNode({.name = "h.done", .op = "fake", .outputs = {u}, .async = AsyncRole::kDone});
  builder.node(start).partner = done;
  builder.node(done).partner = start;
  builder.AddNode({.name = "c", .op = "fake", .inputs = {y}, .outputs = {z}});
  Plan plan;
  plan.graph = *std::move(builder).Build();
  RankPlan rank;
  rank.ranks = {0};
  const auto node = [&](const char* name) { return plan.graph.FindNode(name); };
  rank.lanes.push_back({"compute",
                        LaneKind::kCompute,
                        {node("prepare"), node("a"), node("b"), node("h.start"), node("c")}});
  rank.lanes.push_back({"host_compute", LaneKind::kHostCompute, {node("h.done")}});
  rank.offset = {0, 64, 0, 0, 64};  // z takes the place of x
  plan.rank_plans.push_back(rank);
  return plan;
}

std::set<std::string> Drawn(const Plan& plan) {
  const auto edges = StreamEdges(plan, plan.rank_plans[0]);
  EXPECT_TRUE(edges.ok()) << edges.status();
  std::set<std::string> drawn;
  for (const Edge& e : *edges) {
    drawn.insert(
        absl::StrCat(plan.graph.nodes()[e.from].name, " -> ", plan.graph.nodes()[e.to].name));
  }
  return drawn;
}

TEST(StreamEdgesTest, AStartOnTheHostIsFreeOfTheLayersAroundIt) {
  const std::set<std::string> edges = Drawn(SmallPlan());
  EXPECT_TRUE(edges.count("prepare -> h.start"));  // a value
  EXPECT_TRUE(edges.count("h.start -> h.done"));
  EXPECT_FALSE(edges.count("b -> h.start"));
  EXPECT_FALSE(edges.count("h.start -> c"));
  EXPECT_TRUE(edges.count("a -> b"));
  EXPECT_TRUE(edges.count("b -> c"));
}

TEST(StreamEdgesTest, WhoTakesABuffersPlaceFollowsAllWhoTouchedIt) {
  const std::set<std::string> edges = Drawn(SmallPlan());
  EXPECT_TRUE(edges.count("a -> c"));
  EXPECT_TRUE(edges.count("b -> c"));
  Plan apart = SmallPlan();
  apart.rank_plans[0].offset[2] = 128;
  EXPECT_FALSE(Drawn(apart).count("a -> c"));
}

}  // namespace
}  // namespace millrace
