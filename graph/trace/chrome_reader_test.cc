// What was written comes back; what was damaged is refused with its place.

#include "graph/trace/chrome_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <tuple>

#include "graph/trace/chrome.h"
#include "graph/trace/test_plan.h"

namespace millrace {
namespace {

using testing::AllOf;
using testing::HasSubstr;

Trace TwoSteps(const Plan& plan) {
  Trace t;
  t.title = "a \"run\"";
  t.plan = &plan;
  t.peak_flops_per_second = 6.5e10;
  t.dropped = 3;
  for (int step = 0; step < 2; ++step) {
    const int64_t at = 1'234'567'890'123'456'789 + step * 10'007;
    t.steps.push_back({7 + step, at, at + 10'001});
    for (int rank = 0; rank < 2; ++rank) {
      t.spans.push_back({rank, 0, 0, at + 1, at + 2000, at});
      t.spans.push_back({rank, 0, 1, at + 2003, at + 2123, at + 2000});
      t.spans.push_back({rank, 0, 3, at + 2123, at + 4000, at + 2000});
      t.spans.push_back({rank, 1, 2, at + 2123, at + 6001 + rank, at + 2123});
      t.spans.push_back({rank, 0, 4, at + 6500, at + 9000, at + 6001 + rank, at + 2000});
    }
  }
  return t;
}

using SpanTuple = std::tuple<int, int, NodeId, int64_t, int64_t, int64_t, int64_t>;
std::vector<SpanTuple> Sorted(const Trace& t) {
  std::vector<SpanTuple> out;
  for (const Span& s : t.spans)
    out.push_back({s.rank, s.lane, s.node, s.begin_ns, s.end_ns, s.ready_ns, s.credit_ns});
  std::sort(out.begin(), out.end());
  return out;
}

absl::Status Refused(const std::string& text) {
  const auto read = ReadChromeTrace(text, "t.json");
  EXPECT_FALSE(read.ok());
  return read.status();
}

TEST(ChromeReaderTest, SpansStepsAndNodesComeBackToTheNanosecond) {
  const Plan plan = TracePlan();
  const Trace trace = TwoSteps(plan);
  const std::string text = ChromeTraceJson({&trace});
  const auto read = ReadChromeTrace(text, "t.json");
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_EQ(read->size(), 1u);
  const Trace& back = (*read)[0].trace;
  EXPECT_EQ(Sorted(back), Sorted(trace));
  ASSERT_EQ(back.steps.size(), 2u);
  EXPECT_EQ(back.steps[1].step, 8);
  EXPECT_EQ(back.steps[1].begin_ns, trace.steps[1].begin_ns);
  EXPECT_EQ(back.steps[1].end_ns, trace.steps[1].end_ns);
  EXPECT_EQ(back.peak_flops_per_second, 6.5e10);
  EXPECT_EQ(back.dropped, 3);
  EXPECT_EQ(back.plan->graph.nodes()[2].name, "gather.done");
  EXPECT_EQ(back.plan->graph.nodes()[2].partner, 1);
  EXPECT_EQ(IntAttr(back.plan->graph.nodes()[0], "stage", -1), 3);
  // Written again it is the same file: nothing was lost on the way.
  EXPECT_EQ(ChromeTraceJson({&back}), text);
}

TEST(ChromeReaderTest, PredictedAndMeasuredInOneFileComeBackAsTwo) {
  const Plan plan = TracePlan();
  Trace predicted = TwoSteps(plan);
  predicted.predicted = true;
  const Trace measured = TwoSteps(plan);
  const auto read = ReadChromeTrace(ChromeTraceJson({&predicted, &measured}), "t.json");
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_EQ(read->size(), 2u);
  EXPECT_TRUE((*read)[0].trace.predicted);
  EXPECT_FALSE((*read)[1].trace.predicted);
  EXPECT_EQ(Sorted((*read)[1].trace), Sorted(measured));
}

TEST(ChromeReaderTest, WhatOtherToolsAddIsPassedOver) {
  const Plan plan = TracePlan();
  const Trace trace = TwoSteps(plan);
  std::string text = ChromeTraceJson({&trace});
  text.insert(text.find("{\"ph\":"), R"({"ph":"C","pid":0,"name":"memory","args":{"x":1}},)");
  text.insert(1, R"("otherData":{"note":"looked at"},)");
  const auto read = ReadChromeTrace(text, "t.json");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(Sorted((*read)[0].trace), Sorted(trace));
}

TEST(ChromeReaderTest, AFileThatWasCutOffSaysWhereItEnds) {
  const Plan plan = TracePlan();
  const Trace trace = TwoSteps(plan);
  const std::string text = ChromeTraceJson({&trace});
  for (size_t length = 0; length + 2 < text.size(); length += 97) {
    const std::string said(Refused(text.substr(0, length)).message());
    EXPECT_THAT(said, AllOf(HasSubstr("t.json: line "), HasSubstr("ends in the middle"))) << length;
  }
}

TEST(ChromeReaderTest, WrongFilesAreRefusedWithWhatWasExpected) {
  EXPECT_THAT(std::string(Refused("[1, 2]").message()), HasSubstr("expected {\"traceEvents\""));
  EXPECT_THAT(std::string(Refused("{\"a\": 1 \"b\"}").message()),
              HasSubstr("t.json: line 1, column 11"));
  EXPECT_THAT(std::string(Refused("{}").message()), HasSubstr("no 'traceEvents'"));
  EXPECT_THAT(std::string(Refused(R"({"traceEvents": []})").message()),
              HasSubstr("trace of another program"));
}

TEST(ChromeReaderTest, AWrongFieldIsNamedWithItsEvent) {
  const Plan plan = TracePlan();
  const Trace trace = TwoSteps(plan);
  const std::string text = ChromeTraceJson({&trace});
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string changed = text;
    const size_t at = changed.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return std::string(Refused(changed.replace(at, from.size(), to)).message());
  };
  EXPECT_THAT(with("\"dur\":1.999", "\"dur\":\"long\""),
              AllOf(HasSubstr("traceEvents["), HasSubstr("'dur' is \"long\", expected a number")));
  EXPECT_THAT(with("\"dur\":1.999", "\"dur\":-1"), HasSubstr("expected 0 or more"));
  EXPECT_THAT(with("\"id\":0,", ""), HasSubstr("has no 'id', expected an integer"));
  EXPECT_THAT(with("\"tid\":1,\"ts\"", "\"tid\":77,\"ts\""), HasSubstr("has lanes 0 to 1"));
  EXPECT_THAT(with("\"ranks\":[0,1]", "\"ranks\":[0,0]"), HasSubstr("each of 0 to 1 once"));
  EXPECT_THAT(with("\"version\":1", "\"version\":9"), HasSubstr("this program reads 1"));
}

}  // namespace
}  // namespace millrace
