// Which waits a plan needs on a device, drawn with small plans.

#include "graph/runtime/stream_program.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "graph/runtime/test_harness.h"

namespace millrace {
namespace {

// "compute: a b<comm:data.0 | comm:data: g<compute.0" - per stream its nodes and what each waits for.
std::string Draw(Plan plan_of) {
  const Plan plan = std::move(plan_of);
  Harness harness(plan);
  const auto kernels = harness.Kernels();
  const auto program = MakeProgram(plan, kernels[0]);
  if (!program.ok()) return std::string(program.status().message());
  const auto streams = MakeStreamProgram(*program);
  if (!streams.ok()) return std::string(streams.status().message());
  const auto waits = [&](int32_t i) {
    std::string text;
    for (const StreamPoint& p : streams->nodes[i].waits) {
      absl::StrAppend(&text, "<", streams->streams[p.stream], ".", p.seq);
    }
    return plan.graph.nodes()[program->nodes[i].id].name + text;
  };
  std::vector<std::string> lines;
  for (size_t s = 0; s < streams->streams.size(); ++s) {
    std::string line = absl::StrCat(streams->streams[s], ":");
    for (int32_t i : streams->ops[s]) absl::StrAppend(&line, " ", waits(i));
    lines.push_back(line);
  }
  std::string host;
  for (int32_t i = 0; i < static_cast<int32_t>(program->nodes.size()); ++i) {
    if (!streams->on_device(i)) absl::StrAppend(&host, " ", waits(i));
  }
  if (!host.empty()) lines.push_back("host:" + host);
  return absl::StrJoin(lines, " | ");
}

TEST(StreamProgramTest, NodesOfOneStreamNeedNoWaits) {
  PlanSketch s;
  const NodeId a = s.Compute("a", {});
  const NodeId b = s.Compute("b", {a});
  s.Compute("c", {a, b});
  EXPECT_EQ(Draw(std::move(s).Build(1)), "compute: a b c");
}

TEST(StreamProgramTest, ACollectiveWaitsForItsInputAndItsReaderForIt) {
  PlanSketch s;
  const NodeId a = s.Compute("a", {});
  const NodeId g = s.Async("g", {a});
  const NodeId b = s.Compute("b", {a});
  s.Compute("c", {b, g});
  EXPECT_EQ(Draw(std::move(s).Build(1)),
            "compute: a b c<comm:data.0 | comm:data: g.start<compute.0");
}

TEST(StreamProgramTest, AStartDoesNotHoldUpWhatIsIssuedBehindIt) {
  // Both are issued one behind the other; b is computed beside the first, although the second has not begun.
  PlanSketch s;
  const NodeId a = s.Compute("a", {});
  s.Async("g", {a});
  s.Async("h", {a});
  s.Compute("b", {a});
  EXPECT_EQ(Draw(std::move(s).Build(1)), "compute: a b | comm:data: g.start<compute.0 h.start");
}

TEST(StreamProgramTest, WhatHasBeenWaitedForIsKnownFromThenOnWithAllThatItWaitedFor) {
  PlanSketch s;
  const NodeId a = s.Compute("a", {});
  const NodeId g = s.Async("g", {a});
  const NodeId h = s.Async("h", {g});
  const NodeId b = s.Compute("b", {h});  // h follows g in its stream: one wait
  s.Compute("c", {b, g});                // known
  s.Async("i", {a, b});                  // issued behind c, a is before b
  EXPECT_EQ(Draw(std::move(s).Build(1)),
            "compute: a b<comm:data.1 c | comm:data: g.start<compute.0 h.start i.start<compute.2");
}

TEST(StreamProgramTest, AHostNodeBehindTheDeviceHasAGateAndWhatFollowsItKnowsWhatTheHostHasSeen) {
  PlanSketch s;
  const NodeId a = s.Compute("a", {});
  const NodeId g = s.Async("g", {a});
  const NodeId h = s.Host("h", {g});
  const NodeId k = s.Compute("b", {g});
  s.Async("c", {k, h});
  EXPECT_EQ(Draw(std::move(s).Build(1)),
            "compute: a b | comm:data: g.start<compute.0 c.start<compute.1 | host: h<comm:data.0");
}

TEST(StreamProgramTest, AnIssueOrderAgainstTheEdgesIsRefusedWithTheNodes) {
  PlanSketch s;
  const NodeId a = s.Compute("a", {});
  s.Compute("b", {a});
  Plan plan = std::move(s).Build(1, /*lane_edges=*/false);
  std::swap(plan.rank_plans[0].lanes[0].order[0], plan.rank_plans[0].lanes[0].order[1]);
  EXPECT_THAT(Draw(std::move(plan)), testing::HasSubstr("contradicts its edges"));
}

TEST(StreamProgramTest, RunsAreCutWhereSomebodyWaits) {
  PlanSketch s;
  const NodeId a = s.Compute("a", {});
  const NodeId b = s.Compute("b", {a});
  const NodeId g = s.Async("g", {b});
  const NodeId c = s.Compute("c", {b});
  const NodeId d = s.Compute("d", {c});
  s.Compute("e", {d, g});
  const Plan plan = std::move(s).Build(1);
  Harness harness(plan);
  const auto kernels = harness.Kernels();
  const auto program = MakeProgram(plan, kernels[0]);
  const auto streams = MakeStreamProgram(*program);
  ASSERT_TRUE(streams.ok());
  // Issued: a b g c d e. b is waited for by g, e waits for g.
  const std::vector<std::pair<int32_t, int32_t>> expected = {{0, 2}, {3, 5}};
  EXPECT_EQ(CapturableRuns(*streams, std::vector<bool>(program->nodes.size(), true)), expected);
  EXPECT_TRUE(CapturableRuns(*streams, std::vector<bool>(program->nodes.size(), false)).empty());
  // e has no neighbours, and is kept where it asks for it.
  std::vector<bool> capturable(program->nodes.size(), true), alone(program->nodes.size(), false);
  const int32_t last = streams->issue_order.back();
  alone[last] = true;
  const std::vector<std::pair<int32_t, int32_t>> with_last = {{0, 2}, {3, 5}, {5, 6}};
  EXPECT_EQ(CapturableRuns(*streams, capturable, alone), with_last);
}

}  // namespace
}  // namespace millrace
