#include "graph/plan/liveness.h"

#include <gtest/gtest.h>

#include "graph/plan/planner.h"
#include "graph/plan/testing/step_text.h"

namespace millrace {
namespace {

// "x 0-2" in places of the issue lane.
std::string Ranges(const std::vector<StepNode>& nodes) {
  auto graph = StepOf(nodes);
  if (!graph.ok()) return graph.status().ToString();
  const auto plan = MakePlan(*graph, Machine(), {.ladder = Ladder::kProgramOrder});
  if (!plan.ok()) return plan.status().ToString();
  const RankPlan& rank = plan->rank_plans[0];
  const auto clocks = Clocks::Make(*graph, rank.lanes, rank.edges);
  const std::vector<LiveRange> ranges = LiveRanges(*graph, rank.lanes, *clocks);
  std::string text;
  for (size_t b = 0; b < ranges.size(); ++b) {
    text += graph->buffers()[b].name + " " + std::to_string(ranges[b].birth) + "-" +
            std::to_string(ranges[b].death) + "\n";
  }
  return text;
}

TEST(Liveness, BufferDiesAtItsLastReaderNotAtStepEnd) {
  EXPECT_EQ(
      Ranges(
          {{"a", {}, {"x"}}, {"b", {"x"}, {"y"}}, {"c", {"x"}, {"z"}}, {"d", {"y", "z"}, {"w"}}}),
      "x 0-2\ny 1-3\nz 2-3\nw 3-3\n");
}

TEST(Liveness, AsynchronousReaderHoldsUntilSomeoneKnowsItIsDone) {
  // Places: a 0, comm.start 1, b 2, use 3, c 4. Only `use` comes surely after comm.done.
  EXPECT_EQ(Ranges({{"a", {}, {"x"}},
                    {"comm.start", {"x"}, {}},
                    {"b", {}, {"y"}, {"comm.start"}},
                    {"comm.done", {}, {"g"}},
                    {"use", {"g", "y"}, {"z"}},
                    {"c", {"z"}, {"w"}}}),
            "x 0-2\ny 2-3\ng 1-3\nz 3-4\nw 4-4\n");
}

TEST(Liveness, OperationNobodyWaitsForHoldsToTheEnd) {
  EXPECT_EQ(Ranges({{"a", {}, {"x"}},
                    {"comm.start", {"x"}, {}},
                    {"b", {}, {"y"}, {"comm.start"}},
                    {"c", {"y"}, {"z"}},
                    {"comm.done", {}, {"g"}}}),
            "x 0-3\ny 2-3\nz 3-3\ng 1-3\n");
}

}  // namespace
}  // namespace millrace
