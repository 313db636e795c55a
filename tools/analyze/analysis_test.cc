// An analysis adds up, on traces small enough to do by hand and on the simulator's of many plans.
#include "tools/analyze/analysis.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <tuple>

#include "graph/sim/simulate.h"
#include "graph/trace/chrome.h"
#include "graph/trace/chrome_reader.h"
#include "graph/trace/test_plan.h"
#include "graph/verify/testing/valid_plans.h"

namespace millrace {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Two ranks; rank 1 issues its gather 8 later, and both end it at 60 + rank.
Trace TwoRanks(const Plan& plan) {
  Trace t;
  t.title = "two";
  t.plan = &plan;
  t.peak_flops_per_second = 1e9;
  t.steps = {{5, 0, 100}};
  for (int rank = 0; rank < 2; ++rank) {
    const int64_t late = 8 * rank;
    t.spans.push_back({rank, 0, 0, 0, 10 + late, 0});
    t.spans.push_back({rank, 0, 1, 10 + late, 12 + late, 10 + late});
    t.spans.push_back({rank, 1, 2, 12 + late, 60 + rank, 12 + late});
    t.spans.push_back({rank, 0, 3, 12 + late, 40, 10 + late});
    t.spans.push_back({rank, 0, 4, 65, 95, 60 + rank});
  }
  return t;
}

TEST(AnalysisTest, TheRankThatComesLastIsNamedAndWhatItCosts) {
  const Plan plan = TracePlan();
  const Analysis a = Analyze(TwoRanks(plan), nullptr);
  ASSERT_EQ(a.late_by_rank.size(), 2u);
  EXPECT_EQ(a.late_by_rank[1].times_last, 1);
  EXPECT_EQ(a.late_by_rank[1].caused_ns, 8);
  EXPECT_EQ(a.late_by_rank[0].waited_ns, 8);
  EXPECT_EQ(a.late_by_rank[0].times_last, 0);
  ASSERT_EQ(a.late_by_step.size(), 1u);
  EXPECT_EQ(a.late_by_step[0].last_rank, 1);
  EXPECT_EQ(a.late_by_step[0].slowest_rank, 0);  // equal compute: the first
  EXPECT_EQ(a.collectives, 1);
}

TEST(AnalysisTest, TheCriticalPathGoesThroughTheLastRankAndAddsUp) {
  const Plan plan = TracePlan();
  const Analysis a = Analyze(TwoRanks(plan), nullptr);
  std::vector<std::string> path;
  int64_t sum = 0;
  for (const PathNode& p : a.path) {
    path.push_back(absl::StrCat(p.part.rank, p.part.waiting ? " wait " : " ", p.node, " ",
                                p.part.end_ns - p.part.begin_ns));
    sum += p.part.end_ns - p.part.begin_ns;
  }
  EXPECT_EQ(sum, 100);
  // c waits for the gather, which rank 1 joined last, after its start and a.
  EXPECT_THAT(path, ElementsAre("1 a 18", "1 gather.start 2", "1 gather.done 40", "0 wait c 5",
                                "0 c 30", "0 wait  5"));
}

TEST(AnalysisTest, NodesHaveMediansAndCollectivesAreTimedFromTheLastArrival) {
  const Plan plan = TracePlan();
  const Analysis a = Analyze(TwoRanks(plan), nullptr);
  const NodeTime& gather = a.nodes[2];
  EXPECT_EQ(gather.name, "gather.done");
  EXPECT_EQ(gather.count, 2);
  EXPECT_EQ(gather.total_ns, 48 + 41);
  EXPECT_EQ(gather.median_ns, 48);
  EXPECT_EQ(gather.work_median_ns, 41);
  EXPECT_EQ(gather.exposed_ns, 20 + 21);
  EXPECT_EQ(gather.what, SpanClass::kCommunication);
}

TEST(AnalysisTest, PredictionStandsBesideEveryNode) {
  const Plan plan = TracePlan();
  Trace predicted = TwoRanks(plan);
  predicted.predicted = true;
  for (Span& s : predicted.spans) {
    if (s.node == 4) s.end_ns = 90;
  }
  predicted.steps[0].end_ns = 90;
  const Analysis a = Analyze(TwoRanks(plan), &predicted);
  EXPECT_EQ(a.predicted_step_ns, 90);
  EXPECT_EQ(a.step_median_ns, 100);
  EXPECT_EQ(a.nodes[4].predicted_ns, 25);
  EXPECT_EQ(a.nodes[4].median_ns, 30);
  EXPECT_THAT(AnalysisText(a), HasSubstr("measured 0.000: -10.0%"));
  EXPECT_EQ(AnalysisJson(Analyze(TwoRanks(plan), nullptr))["predicted_step_ns"], nullptr);
}

TEST(AnalysisTest, AnEmptyTraceIsAllZeros) {
  const Plan plan = TracePlan();
  Trace t;
  t.plan = &plan;
  const Analysis a = Analyze(t, nullptr);
  EXPECT_EQ(a.step_median_ns, 0);
  EXPECT_EQ(a.CommunicationShare(), 0);
  EXPECT_TRUE(a.path.empty());
  EXPECT_FALSE(AnalysisText(a).empty());
}

std::vector<std::tuple<int, int, int, int64_t, int64_t, int64_t, int64_t>> Sorted(const Trace& t) {
  std::vector<std::tuple<int, int, int, int64_t, int64_t, int64_t, int64_t>> out;
  for (const Span& s : t.spans)
    out.push_back({s.rank, s.lane, s.node, s.begin_ns, s.end_ns, s.ready_ns, s.credit_ns});
  std::sort(out.begin(), out.end());
  return out;
}

TEST(AnalysisTest, EverySimulatedPlanComesBackFromItsFileAndItsWaitsAreTheSimulators) {
  for (const NamedPlan& named : ValidPlans(Planner::kReal)) {
    const auto result = Simulate(named.plan, Machine());
    ASSERT_TRUE(result.ok()) << named.name;
    const Trace trace = ToTrace(*result, named.plan);
    const auto files = ReadChromeTrace(ChromeTraceJson({&trace}), named.name);
    ASSERT_TRUE(files.ok()) << named.name << ": " << files.status();
    const Trace& read = (*files)[0].trace;
    ASSERT_EQ(Sorted(read), Sorted(trace)) << named.name;

    const Analysis a = Analyze(read, nullptr);
    const int64_t step = trace.steps[0].end_ns;
    int64_t path = 0;
    for (const PathNode& p : a.path) {
      path += p.part.end_ns - p.part.begin_ns;
      // Ends are rounded to nanoseconds one by one.
      const int64_t waits = p.part.waiting ? p.part.end_ns - p.part.begin_ns : 0;
      EXPECT_LE(waits, 2) << named.name << " " << p.node;
    }
    EXPECT_EQ(path, step) << named.name;
    for (const RankTime& r : a.breakdown.ranks)
      EXPECT_EQ(r.compute_ns + r.exposed_ns + r.exposed_copy_ns + r.idle_ns, step) << named.name;
    ASSERT_EQ(a.breakdown.lanes.size(), result->lanes.size()) << named.name;
    for (size_t l = 0; l < result->lanes.size(); ++l) {
      const LaneTime& ours = a.breakdown.lanes[l];
      const LaneUse& theirs = result->lanes[l];
      const auto near = [&](int64_t ns, double seconds, const char* what) {
        EXPECT_NEAR(static_cast<double>(ns), seconds * 1e9, 100)
            << named.name << " " << ours.name << " " << what;
      };
      near(ours.rest_ns, theirs.after_last, "after the last");
      near(ours.wait_credit_ns, theirs.wait_credit, "credit");
      if (ours.lane == 0) near(ours.wait_lane_ns, theirs.wait_lane, "lane");
    }
  }
}

}  // namespace
}  // namespace millrace
