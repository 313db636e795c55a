// From ring records to spans.

#include "graph/trace/recorder.h"

#include <gtest/gtest.h>

#include <thread>

#include "graph/trace/test_plan.h"

namespace millrace {
namespace {

TEST(RecorderTest, ASpanKnowsItsLaneAndWhenItsDataWasReady) {
  const Plan plan = TracePlan();
  TraceRecorder recorder;
  SpanRing* ring = recorder.NewRing(1);
  recorder.BeginStep(5);
  const int64_t t = Ticks();
  ring->Add(0, t, t + 1000);
  ring->Add(1, t + 1000, t + 2000);
  ring->Add(3, t + 2000, t + 9000);
  ring->Add(2, t + 1000, t + 5000);  // completed while b ran, noticed after it
  ring->Add(4, t + 9000, t + 9500);
  while (Ticks() < t + 10000) {
  }
  recorder.EndStep();
  const Trace trace = recorder.Collect(plan, "run");
  ASSERT_EQ(trace.steps.size(), 1u);
  EXPECT_EQ(trace.steps[0].step, 5);
  ASSERT_EQ(trace.spans.size(), 5u);
  const Span& gather = trace.spans[2];  // by their ends
  const Span& b = trace.spans[3];
  const Span& c = trace.spans[4];
  EXPECT_EQ(gather.node, 2);
  EXPECT_EQ(gather.lane, 1);
  EXPECT_EQ(gather.rank, 1);
  EXPECT_EQ(b.ready_ns, trace.spans[0].end_ns);  // of a: the start half before it is no data
  EXPECT_EQ(c.ready_ns, b.end_ns);
  EXPECT_EQ(c.credit_ns, trace.spans[0].end_ns);
  EXPECT_EQ(trace.dropped, 0);
}

TEST(RecorderTest, OperationsInFlightTogetherFollowEachOtherOnTheirLane) {
  const Plan plan = TracePlan();
  std::vector<Span> spans = {{0, 1, 2, 10, 50}, {0, 1, 2, 12, 70}};
  CompleteSpans(plan, plan.rank_plans[0], 0, spans);
  EXPECT_EQ(spans[1].begin_ns, 50);
  EXPECT_EQ(spans[1].end_ns, 70);
}

TEST(RecorderTest, AFullRingLosesWholeOldStepsAndSaysHowManySpans) {
  const Plan plan = TracePlan();
  TraceRecorder recorder(/*spans_per_thread=*/16);
  SpanRing* ring = recorder.NewRing(0);
  for (int step = 0; step < 10; ++step) {
    recorder.BeginStep(step);
    for (NodeId n = 0; n < 5; ++n) {
      const int64_t t = Ticks();
      ring->Add(n, t, t + 1);
    }
    recorder.EndStep();
  }
  const Trace trace = recorder.Collect(plan, "run");
  ASSERT_EQ(trace.steps.size(), 3u);
  EXPECT_EQ(trace.steps[0].step, 7);
  EXPECT_EQ(trace.spans.size(), 15u);
  EXPECT_EQ(trace.dropped, 35);
}

TEST(RecorderTest, StepsThatFailedAreLeftOut) {
  const Plan plan = TracePlan();
  TraceRecorder recorder;
  SpanRing* ring = recorder.NewRing(0);
  recorder.BeginStep(1);  // never ended
  ring->Add(0, Ticks(), Ticks());
  recorder.BeginStep(2);
  ring->Add(0, Ticks(), Ticks());
  recorder.EndStep();
  const Trace trace = recorder.Collect(plan, "run");
  EXPECT_EQ(trace.steps.size(), 1u);
  EXPECT_EQ(trace.spans.size(), 1u);
}

TEST(RecorderTest, TicksConvertToTheMachinesClock) {
  TickScale scale;
  const int64_t ns = Clock::Real()->Nanoseconds();
  const int64_t ticks = Ticks();
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const int64_t later_ns = Clock::Real()->Nanoseconds();
  const int64_t later_ticks = Ticks();
  scale.Refresh();
  EXPECT_NEAR(scale.Nanoseconds(ticks), ns, 2e5);
  EXPECT_NEAR(scale.Nanoseconds(later_ticks), later_ns, 2e5);
}

}  // namespace
}  // namespace millrace
