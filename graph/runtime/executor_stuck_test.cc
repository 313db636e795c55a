// A step that cannot go on ends within its deadline, and says who waits for whom.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "graph/runtime/executor.h"
#include "graph/runtime/test_harness.h"

namespace millrace {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// a, gather.start, b, c (needs gather), tail.
Plan SmallPlan(int world) {
  PlanSketch sketch;
  const NodeId a = sketch.Compute("a", {});
  const NodeId gather = sketch.Async("gather", {a});
  const NodeId b = sketch.Compute("b", {a});
  const NodeId c = sketch.Compute("c", {gather, b});
  sketch.Compute("tail", {c});
  return std::move(sketch).Build(world);
}

// Lets a virtual clock go 1000 times as fast as the real one.
class RunningClock {
 public:
  RunningClock() : thread_([this] { Run(); }) {}
  ~RunningClock() {
    stop_ = true;
    thread_.join();
  }
  VirtualClock* clock() { return &clock_; }

 private:
  void Run() {
    while (!stop_) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      clock_.Advance(1.0);
    }
  }
  VirtualClock clock_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

TEST(ExecutorStuckTest, ARankThatNeverJoinsIsNamedWithTheWholeChainWithinTheDeadline) {
  const Plan plan = SmallPlan(2);
  Harness harness(plan);
  RunningClock running;
  ExecutorOptions options = harness.Options();
  options.clock = running.clock();
  options.stuck_seconds = 60;
  options.describe_communication = [] { return "communicator data: 1 of 2 members have come"; };
  auto executor = *MakeFlowGraphExecutor(plan, harness.Kernels(), options);
  harness.SetFault(1, plan.graph.FindNode("a"), Fault::kHangs);
  std::thread release([&] {  // when the abort has come, the hanging kernel goes on and drains
    while (harness.aborts == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    harness.release_hang = true;
  });
  const int64_t begin = running.clock()->Nanoseconds();
  const absl::Status status = executor->RunStep({7});
  const double seconds = static_cast<double>(running.clock()->Nanoseconds() - begin) * 1e-9;
  release.join();
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(
      status.message(),
      "step 7 is stuck: no node has finished for 60 s\n"
      "rank 0: waits for gather.done (all_reduce, group data): rank 1 has not started it; "
      "rank 1's last finished node is none of this step, now running a. Last finished node: b. "
      "In flight: gather.done (all_reduce, group data).\n"
      "rank 1: runs a (fake). Last finished node: none of this step. In flight: nothing.\n"
      "communicator data: 1 of 2 members have come");
  EXPECT_GE(seconds, 60);
  EXPECT_LT(seconds, 2000);  // 2 s of real time: the machine may be busy
  EXPECT_TRUE(executor->at_rest());

  harness.ClearFaults();
  harness.group().Rebuild();
  EXPECT_EQ(executor->RunStep({8}), absl::OkStatus());
}

TEST(ExecutorStuckTest, ALostCompletionIsGivenUpAfterTheDrainTime) {
  const Plan plan = SmallPlan(2);
  Harness harness(plan);
  RunningClock running;
  ExecutorOptions options = harness.Options();
  options.clock = running.clock();
  auto executor = *MakeFlowGraphExecutor(plan, harness.Kernels(), options);
  // Rank 1 starts it, but its communicator loses the call: not even an abort completes it.
  harness.SetFault(1, plan.graph.FindNode("gather.start"), Fault::kNeverJoins);
  const absl::Status status = executor->RunStep({0});
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("rank 0: waits for gather.done (all_reduce, group data): all members "
                              "have started it, it has not completed"),
                    HasSubstr("rank 1: waits for gather.done")));
  EXPECT_TRUE(executor->at_rest());
  harness.ClearFaults();
  harness.group().Rebuild();
  EXPECT_EQ(executor->RunStep({1}), absl::OkStatus());
}

TEST(ExecutorStuckTest, AKernelThatNeverReturnsDoesNotKeepRunStepFromReturning) {
  const Plan plan = SmallPlan(2);
  Harness harness(plan);
  RunningClock running;
  ExecutorOptions options = harness.Options();
  options.clock = running.clock();
  auto executor = *MakeFlowGraphExecutor(plan, harness.Kernels(), options);
  harness.SetFault(0, plan.graph.FindNode("b"), Fault::kHangs);
  const absl::Status status = executor->RunStep({0});
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("the kernel of b on rank 0 still runs and cannot be ended"));
  EXPECT_FALSE(executor->at_rest());
  EXPECT_EQ(executor->RunStep({1}).code(), absl::StatusCode::kFailedPrecondition);

  harness.release_hang = true;  // it returned after all
  while (!executor->at_rest()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  harness.ClearFaults();
  harness.group().Rebuild();
  EXPECT_EQ(executor->RunStep({2}), absl::OkStatus());
  EXPECT_EQ(harness.BrokenEdge(), "");
}

TEST(ExecutorStuckTest, AStepThatGoesOnSlowlyIsNotStuck) {
  PlanSketch sketch;
  NodeId last = sketch.Compute("n", {});
  for (int i = 0; i < 20; ++i) last = sketch.Compute("n" + std::to_string(i), {last});
  const Plan plan = std::move(sketch).Build(1);
  Harness harness(plan);
  ExecutorOptions options = harness.Options();
  options.stuck_seconds = 0.2;
  class SlowKernel : public Kernel {
    absl::Status Run(const StepContext&) override {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      return absl::OkStatus();
    }
  };
  std::vector<RankKernels> kernels(1);
  for (size_t i = 0; i < plan.graph.nodes().size(); ++i) {
    kernels[0].by_node.push_back(std::make_unique<SlowKernel>());
  }
  auto executor = *MakeFlowGraphExecutor(plan, std::move(kernels), options);
  EXPECT_EQ(executor->RunStep({0}), absl::OkStatus());  // 0.4 s
}

TEST(ExecutorStuckTest, ReferenceSeesACrossedOrderAtOnce) {
  // Rank 1 meets the two collectives in the other order: each waits for the other.
  PlanSketch sketch;
  const NodeId first = sketch.Blocking("first", {});
  const NodeId second = sketch.Blocking("second", {});
  Plan plan = std::move(sketch).Build(2);
  RankPlan& rank_0 = plan.rank_plans[0];
  rank_0.ranks = {0};
  RankPlan rank_1 = rank_0;
  rank_1.ranks = {1};
  rank_1.lanes[0].order = {second, first};
  rank_1.edges = {{second, first, EdgeKind::kLane}};
  plan.rank_plans.push_back(rank_1);
  Harness harness(plan);
  VirtualClock still;  // no deadline ever passes
  ExecutorOptions options = harness.Options();
  options.clock = &still;
  auto executor = *MakeReferenceExecutor(plan, harness.Kernels(), options);
  const absl::Status status = executor->RunStep({0});
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(
      status.message(),
      "the step is stuck: no rank can go on\n"
      "rank 0: waits for first (all_reduce, group data): rank 1 has not started it; rank 1's last "
      "finished node is none of this step, waiting for second. Last finished node: none of "
      "this step. In flight: nothing.\n"
      "rank 1: waits for second (all_reduce, group data): rank 0 has not started it; rank 0's "
      "last finished node is none of this step, waiting for first. Last finished node: none of "
      "this step. In flight: nothing.");
}

TEST(ExecutorStuckTest, MembersInOtherProcessesAreNamedAsSuch) {
  const Plan plan = SmallPlan(2);
  Harness harness(plan);
  RunningClock running;
  ExecutorOptions options = harness.Options();
  options.clock = running.clock();
  std::vector<RankKernels> kernels = harness.Kernels();
  kernels.pop_back();  // rank 1 runs elsewhere
  for (const bool reference : {false, true}) {
    auto executor = reference ? *MakeReferenceExecutor(plan, std::move(kernels), options)
                              : *MakeFlowGraphExecutor(plan, std::move(kernels), options);
    const absl::Status status = executor->RunStep({0});
    EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
    EXPECT_THAT(std::string(status.message()),
                HasSubstr("rank 0: waits for gather.done (all_reduce, group data): rank 1 is in "
                          "another process."));
    executor.reset();
    harness.group().Rebuild();
    kernels = harness.Kernels();
    kernels.pop_back();
  }
}

}  // namespace
}  // namespace millrace
