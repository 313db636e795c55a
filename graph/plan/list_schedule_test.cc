#include "graph/plan/list_schedule.h"

#include <gtest/gtest.h>

#include "graph/plan/hazards.h"
#include "graph/plan/testing/step_text.h"

namespace millrace {
namespace {

// "lane: node [reason], ..."
std::string Order(const std::vector<StepNode>& nodes, const std::vector<double>& seconds,
                  const ScheduleOptions& options = {}) {
  const auto graph = StepOf(nodes);
  if (!graph.ok()) return graph.status().ToString();
  const auto edges = Dependencies(*graph);
  if (!edges.ok()) return edges.status().ToString();
  const auto schedule = ListSchedule(*graph, MakeLanes(*graph), *edges, seconds, options);
  if (!schedule.ok()) return std::string(schedule.status().message());
  std::string text;
  for (const Lane& lane : schedule->lanes) {
    text += lane.name + ":";
    for (NodeId n : lane.order) {
      text += " " + graph->nodes()[n].name + " [" + schedule->reason[n] + "]";
    }
    text += "\n";
  }
  return text;
}

TEST(ListSchedule, LongerChainGoesFirst) {
  EXPECT_EQ(Order({{"short", {}, {"x"}}, {"long", {}, {"y"}}, {"tail", {"y"}, {"z"}}}, {1, 1, 5}),
            "compute: long [first node] tail [critical path] short [only ready node]\n");
}

TEST(ListSchedule, StartsGoFirstAndConsumersWaitWhileOthersRun) {
  EXPECT_EQ(Order({{"big", {}, {"x"}},
                   {"comm.start", {"p"}, {}},
                   {"comm.done", {}, {"g"}},
                   {"use", {"g"}, {"y"}}},
                  {10, 1, 5, 1}),
            "compute: comm.start [first node] big [only ready node] use [only ready node]\n"
            "comm:data: comm.done [issue order]\n");
}

TEST(ListSchedule, WaitNamesWhatItWaitsFor) {
  EXPECT_EQ(Order({{"comm.start", {"p"}, {}}, {"comm.done", {}, {"g"}}, {"use", {"g"}, {"y"}}},
                  {1, 5, 1}),
            "compute: comm.start [first node] use [waits for comm.done]\n"
            "comm:data: comm.done [issue order]\n");
}

TEST(ListSchedule, EqualNodesKeepTheOrderOfTheText) {
  EXPECT_EQ(Order({{"a", {}, {"x"}}, {"b", {}, {"y"}}, {"c", {}, {"z"}}}, {1, 1, 1}),
            "compute: a [first node] b [program order] c [only ready node]\n");
}

TEST(ListSchedule, FeedFirstPrefersWhatACollectiveWaitsFor) {
  const std::vector<StepNode> nodes = {{"root", {}, {"r"}},       {"chain1", {"r"}, {"x"}},
                                       {"chain2", {"x"}, {"y"}},  {"feed", {"r"}, {"g"}},
                                       {"comm.start", {"g"}, {}}, {"comm.done", {}, {"h"}}};
  EXPECT_EQ(Order(nodes, {1, 5, 5, 1, 0, 1}, {.ladder = Ladder::kFeedFirst}),
            "compute: root [first node] feed [feeds a collective] comm.start [starts a collective "
            "early] chain1 [only ready node] chain2 [only ready node]\n"
            "comm:data: comm.done [issue order]\n");
}

TEST(ListSchedule, AboveHalfTheBudgetWhatFreesMemoryGoesFirst) {
  // `grow` leads the longer chain but needs a new buffer; `shrink` frees two.
  const std::vector<StepNode> nodes = {{"a", {}, {"x"}},
                                       {"b", {}, {"y"}, {"a"}},
                                       {"grow", {}, {"z"}, {"b"}},
                                       {"tail", {"z"}, {"w"}},
                                       {"shrink", {"x", "y"}, {}, {"b"}}};
  const std::vector<double> seconds = {1, 1, 1, 1, 1};
  EXPECT_EQ(Order(nodes, seconds),
            "compute: a [first node] b [only ready node] grow [critical path] tail [program order] "
            "shrink [only ready node]\n");
  EXPECT_EQ(Order(nodes, seconds, {.budget_bytes = 200}),
            "compute: a [first node] b [only ready node] shrink [frees memory] grow [only ready "
            "node] tail [only ready node]\n");
}

TEST(ListSchedule, SynchronousCollectiveWaitsForThoseInFlight) {
  const auto graph = StepOf({{"comm1.start", {"p"}, {}},
                             {"comm2", {"q"}, {"q'"}, {"comm1.start"}},
                             {"comm1.done", {}, {"g"}}});
  ASSERT_TRUE(graph.ok()) << graph.status();
  const auto schedule =
      ListSchedule(*graph, MakeLanes(*graph), *Dependencies(*graph), {1, 1, 5}, {});
  ASSERT_TRUE(schedule.ok()) << schedule.status();
  EXPECT_EQ(schedule->start_time[1], 6);
  EXPECT_NE(EdgeText(*graph, schedule->edges).find("comm1.done -> comm2 lane"), std::string::npos);
}

}  // namespace
}  // namespace millrace
