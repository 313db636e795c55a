// What a viewer needs to load a trace and show all of it.

#include "graph/trace/chrome.h"

#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "graph/trace/test_plan.h"

namespace millrace {
namespace {

using nlohmann::json;

Trace SmallTrace(const Plan& plan) {
  Trace t;
  t.title = "tab\there";
  t.plan = &plan;
  t.steps = {{7, 1000, 9000}};
  for (int rank = 0; rank < 2; ++rank) {
    t.spans.push_back({rank, 0, 0, 1000, 3000, 1000});
    t.spans.push_back({rank, 0, 1, 3000, 3123, 3000});
    t.spans.push_back({rank, 0, 3, 3123, 5000, 3000});
    t.spans.push_back({rank, 1, 2, 3123, 6001, 3123});
    t.spans.push_back({rank, 0, 4, 6500, 9000, 6001});
  }
  return t;
}

TEST(ChromeTest, EveryTraceIsJsonWithATrackPerRankAndLane) {
  const Plan plan = TracePlan();
  const Trace trace = SmallTrace(plan);
  const json parsed = json::parse(ChromeTraceJson({&trace}));
  std::set<std::string> names;
  std::map<std::pair<int, int>, int> slices;
  for (const json& e : parsed["traceEvents"]) {
    if (e["ph"] == "M" && e["name"] != "process_sort_index" && e["name"] != "thread_sort_index") {
      names.insert(std::to_string(e["pid"].get<int>()) + " " + std::string(e["args"]["name"]));
    }
    if (e["ph"] == "X") ++slices[{e["pid"], e["tid"]}];
  }
  EXPECT_EQ(names,
            (std::set<std::string>{"0 rank 0, tab\there", "0 compute", "0 comm:data", "0 steps",
                                   "1 rank 1, tab\there", "1 compute", "1 comm:data"}));
  EXPECT_EQ(slices, (std::map<std::pair<int, int>, int>{
                        {{0, 0}, 4}, {{0, 1}, 1}, {{0, 1000}, 1}, {{1, 0}, 4}, {{1, 1}, 1}}));
}

TEST(ChromeTest, ASliceTellsOpBytesGroupStageAndKeepsItsNanoseconds) {
  const Plan plan = TracePlan();
  const Trace trace = SmallTrace(plan);
  const json parsed = json::parse(ChromeTraceJson({&trace}));
  json forward, gather;
  for (const json& e : parsed["traceEvents"]) {
    if (e["ph"] == "X" && e["pid"] == 0 && e["name"] == "a") forward = e;
    if (e["ph"] == "X" && e["pid"] == 0 && e["name"] == "gather") gather = e;
  }
  EXPECT_EQ(forward["args"],
            json::parse(R"({"id":0,"op":"forward","bytes":32,"stage":3,"stream":0})"));
  EXPECT_EQ(forward["ts"], 0);
  EXPECT_EQ(
      gather["args"],
      json::parse(R"({"id":2,"op":"all_gather","node":"gather.done","async":"done","partner":1,
                            "bytes":16,"group":"data","stream":1})"));
  EXPECT_DOUBLE_EQ(gather["ts"], 2.123);
  EXPECT_DOUBLE_EQ(gather["dur"], 2.878);
  EXPECT_EQ(gather["cat"], "kernel");
}

TEST(ChromeTest, SlicesOfOneTrackNeverOverlap) {
  const Plan plan = TracePlan();
  Trace trace = SmallTrace(plan);
  trace.spans.push_back({0, 0, 3, 1500, 1600, 1500});  // within a
  trace.spans.push_back({0, 0, 3, 2900, 3050, 2900});  // across the end of a
  const json parsed = json::parse(ChromeTraceJson({&trace}));
  std::map<std::pair<int, int>, double> free;
  for (const json& e : parsed["traceEvents"]) {
    if (e["ph"] != "X") continue;
    double& until = free[{e["pid"], e["tid"]}];
    EXPECT_GE(e["ts"].get<double>() + 1e-9, until) << e;
    until = e["ts"].get<double>() + e["dur"].get<double>();
  }
}

TEST(ChromeTest, AnArrowLeadsFromEveryStartToItsCompletion) {
  const Plan plan = TracePlan();
  const Trace trace = SmallTrace(plan);
  const json parsed = json::parse(ChromeTraceJson({&trace}));
  std::multiset<std::string> from, to;
  for (const json& e : parsed["traceEvents"]) {
    if (e["ph"] == "s") from.insert(e["id"]);
    if (e["ph"] == "f") to.insert(e["id"]);
  }
  EXPECT_EQ(from, (std::multiset<std::string>{"0.1.0", "1.1.0"}));
  EXPECT_EQ(from, to);
}

TEST(ChromeTest, PredictedAndMeasuredLieBesideEachOther) {
  const Plan plan = TracePlan();
  Trace predicted = SmallTrace(plan);
  predicted.predicted = true;
  const Trace measured = SmallTrace(plan);
  const json parsed = json::parse(ChromeTraceJson({&predicted, &measured}));
  std::map<int, std::string> names;
  std::map<int, int> order;
  for (const json& e : parsed["traceEvents"]) {
    if (e["name"] == "process_name") names[e["pid"]] = e["args"]["name"];
    if (e["name"] == "process_sort_index") order[e["args"]["sort_index"]] = e["pid"];
  }
  EXPECT_EQ(names[order[0]], "rank 0 (predicted), tab\there");
  EXPECT_EQ(names[order[1]], "rank 0, tab\there");
  EXPECT_EQ(names[order[2]], "rank 1 (predicted), tab\there");
  EXPECT_EQ(names[order[3]], "rank 1, tab\there");
}

TEST(ChromeTest, StringsAreEscaped) {
  EXPECT_EQ(JsonString("a\"b\\c\n\x01"), "\"a\\\"b\\\\c\\n\\u0001\"");
  EXPECT_EQ(JsonString("gr\xc3\xbc\xc3\x9f"), "\"gr\xc3\xbc\xc3\x9f\"");
  EXPECT_EQ(JsonString("gr\xfc"), "\"gr\\u00fc\"");
  EXPECT_EQ(JsonString("cut \xe2\x82"), "\"cut \\u00e2\\u0082\"");
}

TEST(ChromeTest, AnEmptyTraceIsValid) {
  const Plan plan = TracePlan();
  Trace trace;
  trace.plan = &plan;
  EXPECT_EQ(json::parse(ChromeTraceJson({&trace}))["traceEvents"].size(), 0u);
  EXPECT_EQ(json::parse(ChromeTraceJson({}))["traceEvents"].size(), 0u);
}

}  // namespace
}  // namespace millrace
