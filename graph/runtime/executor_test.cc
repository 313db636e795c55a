// Both executors do the same, and do what the plan says: order, results, repetition, threads.

#include "graph/runtime/executor.h"

#include <gtest/gtest.h>

#include <ctime>
#include <set>
#include <stdexcept>

#include "absl/strings/str_cat.h"
#include "graph/runtime/test_harness.h"

namespace millrace {
namespace {

std::unique_ptr<Executor> FlowGraph(const Plan& plan, Harness& harness,
                                    const ExecutorOptions& options) {
  auto executor = MakeFlowGraphExecutor(plan, harness.Kernels(), options);
  EXPECT_TRUE(executor.ok()) << executor.status();
  return *std::move(executor);
}

std::unique_ptr<Executor> Reference(const Plan& plan, Harness& harness,
                                    const ExecutorOptions& options) {
  auto executor = MakeReferenceExecutor(plan, harness.Kernels(), options);
  EXPECT_TRUE(executor.ok()) << executor.status();
  return *std::move(executor);
}

TEST(ExecutorTest, OrderRespectsEveryEdgeAndResultsEqualTheReferenceOnRandomGraphs) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    const Plan plan = RandomPlan(seed, 40, 1 + seed % 3, /*lane_edges=*/seed % 4 != 0);
    Harness expected(plan);
    Harness actual(plan, /*outside=*/seed % 2 == 0);
    auto reference = Reference(plan, expected, expected.Options());
    auto flow_graph = FlowGraph(plan, actual, actual.Options());
    for (int64_t step = 0; step < 3; ++step) {
      ASSERT_EQ(reference->RunStep({step}), absl::OkStatus()) << "seed " << seed;
      ASSERT_EQ(flow_graph->RunStep({step}), absl::OkStatus()) << "seed " << seed;
      ASSERT_EQ(expected.BrokenEdge(), "") << "seed " << seed;
      ASSERT_EQ(actual.BrokenEdge(), "") << "seed " << seed;
      ASSERT_EQ(expected.Numbers(), actual.Numbers()) << "seed " << seed;
    }
  }
}

TEST(ExecutorTest, AllNodesOfARankRunOnItsOneComputeThreadWhichOtherPlansShare) {
  const Plan train = RandomPlan(5, 60, 2, true);
  const Plan evaluate = RandomPlan(6, 20, 2, true);
  Harness train_harness(train, true);
  Harness evaluate_harness(evaluate, true);
  std::vector<std::thread::id> thread(2);
  auto threads =
      ComputeThreads::Create({0, 1}, [&](int rank) { thread[rank] = std::this_thread::get_id(); });
  ASSERT_TRUE(threads.ok());
  ExecutorOptions options = train_harness.Options();
  options.threads = *threads;
  auto trainer = FlowGraph(train, train_harness, options);
  auto evaluator = FlowGraph(evaluate, evaluate_harness, options);
  EXPECT_NE(thread[0], thread[1]);
  for (int64_t step = 0; step < 10; ++step) {
    ASSERT_EQ(trainer->RunStep({step}), absl::OkStatus());
    ASSERT_EQ(evaluator->RunStep({step}), absl::OkStatus());
  }
  for (const Harness* harness : {&train_harness, &evaluate_harness}) {
    for (int rank = 0; rank < 2; ++rank) {
      std::set<std::thread::id> seen(harness->thread_of[rank].begin(),
                                     harness->thread_of[rank].end());
      seen.erase(std::thread::id());  // done halves
      EXPECT_EQ(seen, std::set<std::thread::id>{thread[rank]});
    }
  }
}

TEST(ExecutorTest, OneGraphIsTriggeredAThousandTimes) {
  const Plan plan = RandomPlan(3, 30, 2, true);
  Harness expected(plan);
  Harness actual(plan, true);
  auto reference = Reference(plan, expected, expected.Options());
  auto flow_graph = FlowGraph(plan, actual, actual.Options());
  for (int64_t step = 0; step < 1000; ++step) {
    ASSERT_EQ(reference->RunStep({step}), absl::OkStatus());
    ASSERT_EQ(flow_graph->RunStep({step}), absl::OkStatus());
    ASSERT_EQ(expected.Numbers(), actual.Numbers()) << "step " << step;
  }
}

TEST(ExecutorTest, TwoHundredAsyncPairsCompleteFromAnotherThreadInEachOfTwoHundredSteps) {
  PlanSketch sketch;
  for (int i = 0; i < 200; ++i) sketch.Async(absl::StrCat("a/", i), {});
  const Plan plan = std::move(sketch).Build(1, /*lane_edges=*/false);
  Harness harness(plan, /*outside=*/true);
  auto executor = FlowGraph(plan, harness, harness.Options());
  for (int64_t step = 0; step < 200; ++step) {
    ASSERT_EQ(executor->RunStep({step}), absl::OkStatus());
    ASSERT_EQ(harness.BrokenEdge(), "");
  }
}

TEST(ExecutorTest, DependentAsyncPairsWakeTheSleepingComputeThreadEveryTime) {
  PlanSketch sketch;
  NodeId last = sketch.Compute("first", {});
  for (int i = 0; i < 200; ++i) last = sketch.Async(absl::StrCat("a/", i), {last});
  const Plan plan = std::move(sketch).Build(2);
  Harness harness(plan, /*outside=*/true);
  auto executor = FlowGraph(plan, harness, harness.Options());
  for (int64_t step = 0; step < 100; ++step) {
    ASSERT_EQ(executor->RunStep({step}), absl::OkStatus());
    ASSERT_EQ(harness.BrokenEdge(), "");
  }
}

TEST(ExecutorTest, FourRanksOnFewerCoresAgreeWithTheReference) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const Plan plan = RandomPlan(seed + 1000, 60, 4, true);
    Harness expected(plan);
    Harness actual(plan, seed % 2 == 0);
    auto reference = Reference(plan, expected, expected.Options());
    auto flow_graph = FlowGraph(plan, actual, actual.Options());
    for (int64_t step = 0; step < 20; ++step) {
      ASSERT_EQ(reference->RunStep({step}), absl::OkStatus());
      ASSERT_EQ(flow_graph->RunStep({step}), absl::OkStatus());
      ASSERT_EQ(actual.BrokenEdge(), "");
      ASSERT_EQ(expected.Numbers(), actual.Numbers());
    }
  }
}

TEST(ExecutorTest, ComputeThreadsThatWaitLeaveTheProcessorToOthers) {
  // One node waits in wait_for_all, the other for a collective that is not split: half a second each.
  PlanSketch sketch;
  const NodeId split = sketch.Async("split", {});
  sketch.Blocking("unsplit", {split});
  const Plan plan = std::move(sketch).Build(2);
  class SlowKernel : public Kernel {
   public:
    ~SlowKernel() override { thread_.join(); }
    bool asynchronous() const override { return true; }
    void Start(const StepContext&, std::function<void(absl::Status)> done) override {
      thread_ = std::thread([done] {
        std::this_thread::sleep_for(std::chrono::milliseconds(500));
        done(absl::OkStatus());
      });
    }

   private:
    std::thread thread_;
  };
  std::vector<RankKernels> kernels(2);
  for (int rank = 0; rank < 2; ++rank) {
    kernels[rank].rank = rank;
    for (const Node& node : plan.graph.nodes()) {
      const bool done = node.async == AsyncRole::kDone;
      kernels[rank].by_node.push_back(done ? nullptr : std::make_unique<SlowKernel>());
    }
  }
  auto executor = *MakeFlowGraphExecutor(plan, std::move(kernels), {});
  const std::clock_t begin = std::clock();
  ASSERT_EQ(executor->RunStep({0}), absl::OkStatus());
  const double cpu_seconds = static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
  EXPECT_LT(cpu_seconds, 0.1);  // of one second by three threads
}

TEST(ExecutorTest, ReferenceWaitsForCompletionsFromAnotherThread) {
  const Plan plan = RandomPlan(11, 60, 2, true);
  Harness harness(plan, /*outside=*/true);
  auto executor = Reference(plan, harness, harness.Options());
  for (int64_t step = 0; step < 50; ++step) {
    ASSERT_EQ(executor->RunStep({step}), absl::OkStatus());
    ASSERT_EQ(harness.BrokenEdge(), "");
  }
}

TEST(ExecutorTest, EveryNodeOfEveryRankHasASpanOnItsLane) {
  const Plan plan = RandomPlan(8, 50, 2, true);
  for (const bool reference : {false, true}) {
    TraceRecorder recorder;
    Harness harness(plan, !reference);
    ExecutorOptions options = harness.Options();
    options.recorder = &recorder;
    auto executor =
        reference ? Reference(plan, harness, options) : FlowGraph(plan, harness, options);
    for (int64_t step = 0; step < 3; ++step) ASSERT_EQ(executor->RunStep({step}), absl::OkStatus());
    const Trace trace = recorder.Collect(plan, "run");
    EXPECT_EQ(trace.steps.size(), 3u);
    EXPECT_EQ(trace.spans.size(), 3 * 2 * plan.graph.nodes().size());
    for (const Span& s : trace.spans) {
      EXPECT_LE(s.ready_ns, s.begin_ns);
      EXPECT_LE(s.begin_ns, s.end_ns);
      EXPECT_EQ(s.lane == 1, plan.graph.nodes()[s.node].async == AsyncRole::kDone);
    }
  }
}

TEST(ExecutorTest, AMissingComputeThreadIsAnErrorNotACrash) {
  const Plan plan = RandomPlan(1, 5, 2, true);
  Harness harness(plan);
  ExecutorOptions options = harness.Options();
  options.threads = *ComputeThreads::Create({0}, nullptr);
  EXPECT_EQ(MakeFlowGraphExecutor(plan, harness.Kernels(), options).status().message(),
            "rank 1 has no compute thread");
}

TEST(ExecutorTest, AThreadThatCannotStartIsAnError) {
  const Plan plan = RandomPlan(1, 5, 1, true);
  Harness harness(plan);
  ExecutorOptions options = harness.Options();
  options.thread_start = [](int) { throw std::runtime_error("no such device"); };
  EXPECT_EQ(MakeFlowGraphExecutor(plan, harness.Kernels(), options).status().message(),
            "starting the compute thread of rank 0: no such device");
}

}  // namespace
}  // namespace millrace
