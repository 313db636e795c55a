#include "tools/report/report.h"

#include <numeric>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "graph/trace/breakdown.h"
#include "graph/verify/testing/valid_plans.h"
#include "gtest/gtest.h"
#include "tools/report/memory_curve.h"
#include "tools/report/report_data.h"
#include "tools/report/spans.h"

namespace millrace {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;
using Json = ReportJson;

Plan SmallPlan(int stage = 3, int ranks = 2) {
  LowerOptions options;
  options.zero_stage = stage;
  options.world_size = ranks;
  return MakeValidPlan(options, Planner::kReal).plan;
}

SimResult Simulated(const Plan& plan, const SimOptions& options = {}) {
  absl::StatusOr<SimResult> result = Simulate(plan, Machine(), options);
  EXPECT_TRUE(result.ok()) << result.status();
  return *std::move(result);
}

int64_t Sum(const Json& list) {
  return std::accumulate(list.begin(), list.end(), int64_t{0},
                         [](int64_t sum, const Json& v) { return sum + v.get<int64_t>(); });
}

// A trace of several steps: the predicted spans one after another, the k-th step (k + 1) times as slow.
Trace Measured(const Plan& plan, const SimResult& predicted, int steps) {
  Trace trace;
  trace.plan = &plan;
  const auto length = static_cast<int64_t>(predicted.step_seconds * 1e9) + 1;
  int64_t begin = 1000;
  for (int k = 0; k < steps; ++k) {
    trace.steps.push_back({100 + k, begin, begin + length * (k + 1)});
    for (Span s : predicted.spans) {
      for (int64_t* t : {&s.begin_ns, &s.end_ns, &s.ready_ns}) *t = begin + *t * (k + 1);
      s.credit_ns = 0;
      trace.spans.push_back(s);
    }
    begin += length * (k + 1);
  }
  return trace;
}

TEST(Report, ShowsWhatIssuingCostsWhereTheRunHadDevices) {
  const Plan plan = SmallPlan();
  const SimResult predicted = Simulated(plan);
  MeasuredRun measured;
  ReportInput input;
  input.plan = &plan;
  input.predicted = &predicted;
  input.measured = &measured;
  EXPECT_FALSE(ReportData(input, {})["summary"].contains("issue"));
  measured.issue_seconds_per_node = 4e-6;
  measured.issue_seconds_per_step = 1e-3;
  measured.captured_runs = 7;
  EXPECT_EQ(ReportData(input, {})["summary"]["issue"],
            Json({{"seconds_per_node", 4e-6}, {"seconds_per_step", 1e-3}, {"captured_runs", 7}}));
}

TEST(MemoryCurve, TheHighestSumIsThePlannersLiveBytesOfEveryTierAndPlan) {
  int curves = 0;
  for (const NamedPlan& named : ValidPlans(Planner::kReal)) {
    for (const RankPlan& rank_plan : named.plan.rank_plans) {
      const absl::StatusOr<MemoryUse> use = MemoryOf(named.plan.graph, rank_plan);
      ASSERT_TRUE(use.ok()) << named.name << ": " << use.status();
      for (const MemoryCurve& curve : use->curves) {
        const auto t = static_cast<int>(curve.tier);
        EXPECT_EQ(curve.peak_bytes, rank_plan.live_bytes_bound[t]) << named.name;
        EXPECT_LE(curve.peak_bytes, rank_plan.arena_bytes[t]) << named.name;
        EXPECT_EQ(curve.bytes.size(), rank_plan.lanes[0].order.size());
        const auto& at_peak = curve.bytes[curve.peak_place];
        EXPECT_EQ(std::accumulate(at_peak.begin(), at_peak.end(), int64_t{0}), curve.peak_bytes);
        ++curves;
      }
    }
  }
  EXPECT_GT(curves, 10);
}

TEST(Spans, ExposedCommunicationIsThatOfTheBreakdown) {
  for (int stage : {0, 2, 3}) {
    const Plan plan = SmallPlan(stage);
    const SimResult predicted = Simulated(plan);
    const Breakdown breakdown = BreakDown(ToTrace(predicted, plan));
    std::vector<std::string> notes;
    const Json json = PredictedJson(plan, predicted, {}, &notes);
    ASSERT_THAT(json["groups"], SizeIs(1));
    EXPECT_EQ(json["groups"][0]["exposed_ns"], breakdown.ranks[0].exposed_ns);
    const Json& flat = json["groups"][0]["exposed"];
    int64_t sum = 0;
    for (size_t i = 0; i < flat.size(); i += 2) {
      sum += flat[i + 1].get<int64_t>() - flat[i].get<int64_t>();
    }
    EXPECT_EQ(sum, breakdown.ranks[0].exposed_ns);
  }
}

TEST(Spans, TheCauseIsAPredecessorAndNoneEndsLater) {
  const Plan plan = SmallPlan();
  const RankPlan& rank_plan = plan.rank_plans[0];
  std::vector<Span> spans;
  for (const Span& s : Simulated(plan).spans) {
    if (s.rank == 0) spans.push_back(s);
  }
  std::vector<int64_t> end(plan.graph.nodes().size(), -1);
  for (const Span& s : spans) end[s.node] = s.end_ns;
  const std::vector<Cause> causes = Causes(rank_plan, spans);
  for (size_t i = 0; i < spans.size(); ++i) {
    bool is_predecessor = false, has_predecessor = false;
    for (const Edge& e : rank_plan.edges) {
      if (e.to != spans[i].node) continue;
      has_predecessor = true;
      is_predecessor |= e.from == causes[i].node && e.kind == causes[i].kind;
      ASSERT_GE(causes[i].node, 0);
      EXPECT_LE(end[e.from], end[causes[i].node]);
    }
    EXPECT_EQ(is_predecessor, has_predecessor);
  }
}

// Making a node longer by its slack leaves the step as long as it was, by twice the slack and more does not.
TEST(Spans, SlackIsWhatANodeMayTakeLonger) {
  const Plan plan = SmallPlan();
  const SimResult predicted = Simulated(plan);
  std::vector<Span> spans;
  for (const Span& s : predicted.spans) {
    if (s.rank == 0) spans.push_back(s);
  }
  const auto end_ns = static_cast<int64_t>(predicted.step_seconds * 1e9 + 0.5);
  const std::vector<int64_t> slack = Slack(plan.graph, plan.rank_plans[0], spans, end_ns);
  int with = 0, without = 0;
  for (size_t i = 0; i < spans.size(); ++i) {
    if (plan.graph.nodes()[spans[i].node].is_collective) continue;
    SimOptions options;
    options.details = false;
    options.seconds.assign(plan.graph.nodes().size(), -1);
    double& seconds = options.seconds[spans[i].node];
    const double own = static_cast<double>(spans[i].end_ns - spans[i].begin_ns) * 1e-9;
    const double room = static_cast<double>(slack[i]) * 1e-9;
    seconds = own + room;
    EXPECT_NEAR(Simulated(plan, options).step_seconds, predicted.step_seconds, 20e-9);
    seconds = own + room + 1e-3;
    EXPECT_NEAR(Simulated(plan, options).step_seconds, predicted.step_seconds + 1e-3, 20e-9);
    ++(slack[i] > 100 ? with : without);
  }
  EXPECT_GT(without, 0);
  EXPECT_GT(with, 0);
}

TEST(ReportData, RanksThatDoTheSameAreStoredOnce) {
  const Plan plan = SmallPlan(3, 4);
  std::vector<std::string> notes;
  EXPECT_THAT(PredictedJson(plan, Simulated(plan), {}, &notes)["groups"], SizeIs(1));
  SimOptions slow;
  slow.slowdown[2] = 1.5;
  const SimResult uneven = Simulated(plan, slow);
  const Json json = PredictedJson(plan, uneven, {}, &notes);
  ASSERT_THAT(json["groups"], SizeIs(2));
  EXPECT_EQ(json["groups"][0]["ranks"], Json({0, 1, 3}));
  EXPECT_EQ(json["groups"][1]["ranks"], Json({2}));
  EXPECT_THAT(notes, IsEmpty());
  ReportLimits one;
  one.groups = 1;
  EXPECT_THAT(PredictedJson(plan, uneven, one, &notes)["groups"], SizeIs(1));
  ASSERT_THAT(notes, SizeIs(1));
  EXPECT_THAT(notes[0], HasSubstr("1 ranks that differ"));
}

TEST(ReportData, MediansAreOverAllStepsEvenWhereTheTimelineShowsFewer) {
  const Plan plan = SmallPlan();
  const SimResult predicted = Simulated(plan);
  const Trace trace = Measured(plan, predicted, 5);
  std::vector<std::string> notes;
  const Json all = MeasuredJson(plan, trace, {}, &notes);
  EXPECT_THAT(all["steps"], SizeIs(5));
  EXPECT_THAT(notes, IsEmpty());
  ReportLimits tight;
  tight.spans = static_cast<int64_t>(predicted.spans.size()) * 2;
  const Json few = MeasuredJson(plan, trace, tight, &notes);
  ASSERT_THAT(few["steps"], SizeIs(2));
  EXPECT_EQ(few["median_step"], 102);
  EXPECT_EQ(few["steps"][0]["step"], 102);  // the median's and the newest
  EXPECT_EQ(few["steps"][1]["step"], 104);
  EXPECT_THAT(notes, SizeIs(1));
  EXPECT_EQ(few["node_ns"], all["node_ns"]);
  // Every node took 1 to 5 times as long as predicted.
  for (const Span& s : predicted.spans) {
    EXPECT_EQ(all["node_ns"][s.node], 3 * (s.end_ns - s.begin_ns));
  }
  for (const Json& step : all["steps"]) {
    for (const Json& rank : step["ranks"]) {
      EXPECT_LE(Sum(rank["exposed"]),
                step["ns"].get<int64_t>() * static_cast<int64_t>(rank["exposed"].size()));
    }
  }
}

TEST(ReportData, LongTrainingIsShownByMeansThatKeepTheTotal) {
  std::string lines;
  double sum = 0;
  for (int i = 1; i <= 100; ++i) {
    absl::StrAppend(&lines, "{\"step\": ", i, ", \"loss\": ", i * 0.5, ", \"lr\": 0.1}\n");
    sum += i * 0.5;
  }
  absl::StrAppend(&lines, "{\"step\": 100, \"eval_loss\": 1, \"top1\": 0.5, \"top5\": 1}\n{\"ste");
  ReportLimits limits;
  limits.steps = 50;
  std::vector<std::string> notes;
  const Json json = MetricsJson(lines, limits, &notes);
  EXPECT_EQ(json["steps"], 100);
  ASSERT_THAT(json["loss"], SizeIs(50));
  double shown = 0;
  for (const Json& v : json["loss"]) shown += 2 * v.get<double>();
  EXPECT_DOUBLE_EQ(shown, sum);
  EXPECT_EQ(json["step"].back(), 100);
  EXPECT_TRUE(json["grad_norm"][0].is_null());
  EXPECT_THAT(json["evaluations"], SizeIs(1));
  EXPECT_THAT(notes, SizeIs(1));
}

TEST(ReportData, ADivergedLossIsAGapNotANumber) {
  std::vector<std::string> notes;
  const Json json =
      MetricsJson("{\"step\":1,\"loss\":\"nan\"}\n{\"step\":2,\"loss\":1}\n", {}, &notes);
  EXPECT_TRUE(json["loss"][0].is_null());
  EXPECT_EQ(json["loss"][1], 1.0);
}

TEST(HtmlReport, WhatItIsGivenComesOutAgainAndEndsNoElement) {
  Plan plan = SmallPlan();
  plan.name = "</script><script>alert(1)</script>{{data}}\xff";
  const SimResult predicted = Simulated(plan);
  ReportInput input;
  input.plan = &plan;
  input.predicted = &predicted;
  input.command = "millrace run '</title><!--'";
  const std::string html = HtmlReport(input);
  EXPECT_THAT(html, Not(HasSubstr("alert(1)</script>")));
  EXPECT_THAT(html, Not(HasSubstr("<!--")));
  const std::string open = "<script type=\"application/json\" id=\"data\">";
  const size_t begin = html.find(open) + open.size();
  const Json data = Json::parse(html.substr(begin, html.find("</script>", begin) - begin));
  EXPECT_TRUE(absl::StartsWith(data["summary"]["name"].get<std::string>(), "</script>"));
  EXPECT_EQ(data["command"], input.command);
  EXPECT_EQ(data["nodes"]["name"].size(), plan.graph.nodes().size());
  EXPECT_EQ(data["critical"]["node"].size(), predicted.critical_path.size());
  EXPECT_TRUE(absl::StrContains(html, "Content-Security-Policy"));
}

}  // namespace
}  // namespace millrace
