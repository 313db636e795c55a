#include "graph/plan/hazards.h"

#include <gtest/gtest.h>

#include "graph/plan/testing/step_text.h"

namespace millrace {
namespace {

std::string Edges(const std::vector<StepNode>& nodes) {
  const auto graph = StepOf(nodes);
  if (!graph.ok()) return graph.status().ToString();
  const auto edges = Dependencies(*graph);
  return edges.ok() ? EdgeText(*graph, *edges) : std::string(edges.status().message());
}

TEST(Hazards, ReadersOfTheOldValueComeBeforeTheUpdate) {
  EXPECT_EQ(Edges({{"forward", {"p"}, {"y"}},
                   {"backward", {"p", "y"}, {"g"}},
                   {"update", {"p", "g"}, {"p'"}}}),
            "forward -> backward data\n"
            "forward -> update hazard\n"
            "backward -> update data\n"
            "backward -> update hazard\n");
}

TEST(Hazards, AsynchronousOperationHoldsItsBytesUntilDone) {
  EXPECT_EQ(Edges({{"comm.start", {"p"}, {}},
                   {"other", {}, {"x"}},
                   {"comm.done", {}, {"g"}},
                   {"update", {"p"}, {"p'"}}}),
            "comm.start -> comm.done async\n"
            "comm.done -> update hazard\n");
}

TEST(Hazards, UpdateInPlaceFollowsTheWriterOfItsInput) {
  EXPECT_EQ(Edges({{"a", {"p"}, {"p'"}}, {"b", {"p'"}, {"p''"}}}), "a -> b data\na -> b hazard\n");
}

TEST(Hazards, StaleReadIsAnError) {
  EXPECT_NE(Edges({{"a", {"p"}, {"p'"}}, {"b", {"p"}, {"y"}}}).find("node 'b': reads 'p'"),
            std::string::npos);
}

TEST(Hazards, ControlEdgesAreDependencies) {
  EXPECT_EQ(Edges({{"a", {}, {"x"}}, {"b", {}, {"y"}, {"a"}}}), "a -> b control\n");
}

}  // namespace
}  // namespace millrace
