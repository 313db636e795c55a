// The executor with devices: whatever an asynchronous device does within what events allow, the results are those of
// the reference executor, every edge of the plan is kept, and a fault anywhere ends in an error and a device at rest.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "graph/runtime/emulated_device.h"
#include "graph/runtime/executor.h"
#include "graph/runtime/lane_workers.h"
#include "graph/runtime/test_harness.h"

namespace millrace {
namespace {

using testing::HasSubstr;

// A harness whose ranks have devices.
struct OnDevices {
  OnDevices(const Plan& plan, uint64_t seed, EmulatedDeviceOptions options = {})
      : harness(plan, /*outside=*/seed % 2 == 0),
        lanes(LaneWorkers::Create({&plan}, /*devices=*/true)) {
    executor_options = harness.Options();
    for (int r = 0; r < plan.world_size; ++r) {
      options.rank = r;
      options.seed = seed * 31 + r;
      devices.push_back(std::make_unique<EmulatedDevice>(options));
      executor_options.devices[r] = devices.back().get();
      options.fail_call = options.fail_work = 0;  // the fault is rank 0's
    }
  }
  std::vector<RankKernels> Kernels(const Plan& plan) {
    std::vector<RankKernels> kernels = harness.Kernels();
    for (RankKernels& rank : kernels) {
      const KernelFactory wrap =
          OnLanes([&](const Plan&, int, NodeId n,
                      const RankBuffers&) { return std::move(rank.by_node[n]); },
                  lanes);
      auto made = MakeKernels(plan, rank.rank, *RankBuffers::Create(plan, rank.rank), wrap);
      EXPECT_TRUE(made.ok()) << made.status();
      rank = *std::move(made);
    }
    return kernels;
  }
  absl::StatusOr<std::unique_ptr<Executor>> Make(const Plan& plan) {
    return MakeFlowGraphExecutor(plan, Kernels(plan), executor_options);
  }
  // A failed step is over a moment before the last piece of work has told so.
  bool Idle() const {
    for (const auto& device : devices) {
      for (int i = 0; i < 2000 && !device->idle(); ++i) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
      if (!device->idle()) return false;
    }
    return true;
  }

  std::vector<std::unique_ptr<EmulatedDevice>> devices;
  Harness harness;
  std::shared_ptr<LaneWorkers> lanes;
  ExecutorOptions executor_options;
};

// The first value that differs.
std::string Difference(const Plan& plan, const Harness& expected, const Harness& actual) {
  const auto a = expected.Numbers(), b = actual.Numbers();
  for (size_t r = 0; r < a.size(); ++r) {
    for (size_t i = 0; i < a[r].size(); ++i) {
      if (a[r][i] == b[r][i]) continue;
      return absl::StrCat("rank ", r, ": ", plan.graph.values()[i / Harness::kNumbers].name);
    }
  }
  return "";
}

std::unique_ptr<Executor> Reference(const Plan& plan, Harness& harness) {
  auto executor = MakeReferenceExecutor(plan, harness.Kernels(), harness.Options());
  EXPECT_TRUE(executor.ok()) << executor.status();
  return *std::move(executor);
}

TEST(DeviceExecutorTest, AThousandRandomSchedulesGiveTheReferencesResultsAndKeepEveryEdge) {
  for (uint64_t seed = 0; seed < 1000; ++seed) {
    const Plan plan = RandomPlan(seed, 10 + static_cast<int>(seed % 40), 1 + seed % 3,
                                 /*lane_edges=*/seed % 4 != 0, /*host=*/seed % 5 != 0);
    Harness expected(plan);
    OnDevices actual(plan, seed);
    auto reference = Reference(plan, expected);
    auto executor = actual.Make(plan);
    ASSERT_TRUE(executor.ok()) << executor.status() << " seed " << seed;
    for (int64_t step = 0; step < 3; ++step) {
      ASSERT_EQ(reference->RunStep({step}), absl::OkStatus()) << "seed " << seed;
      ASSERT_EQ((*executor)->RunStep({step}), absl::OkStatus()) << "seed " << seed;
      ASSERT_EQ(actual.harness.BrokenEdge(/*on_device=*/true), "") << "seed " << seed;
      ASSERT_EQ(Difference(plan, expected, actual.harness), "")
          << "seed " << seed << " step " << step;
      for (const auto& device : actual.devices) ASSERT_TRUE(device->idle()) << "seed " << seed;
    }
  }
}

TEST(DeviceExecutorTest, AFaultInAnyCallOfTheDeviceIsAnErrorAndTheNextStepIsRight) {
  int faults = 0;
  for (uint64_t seed = 0; seed < 6; ++seed) {
    const Plan plan = RandomPlan(seed + 50, 16, 1 + seed % 2, true, /*host=*/true);
    Harness expected(plan);
    auto reference = Reference(plan, expected);
    for (int64_t n = 1;; ++n) {
      EmulatedDeviceOptions options;
      options.fail_call = n;
      OnDevices actual(plan, seed, options);
      auto executor = actual.Make(plan);
      if (!executor.ok()) {
        EXPECT_THAT(std::string(executor.status().message()), HasSubstr("the fault"));
        ++faults;
        continue;
      }
      const absl::Status status = (*executor)->RunStep({0});
      if (status.ok() && actual.devices[0]->calls() < n) break;  // n calls are more than a step has
      ASSERT_FALSE(status.ok()) << "call " << n << " seed " << seed;
      EXPECT_THAT(std::string(status.message()), HasSubstr("the fault"));
      ASSERT_TRUE(actual.Idle()) << "call " << n << " seed " << seed;
      ++faults;
      actual.harness.group().Rebuild();
      ASSERT_EQ(reference->RunStep({1}), absl::OkStatus());
      ASSERT_EQ((*executor)->RunStep({1}), absl::OkStatus()) << "call " << n << " seed " << seed;
      ASSERT_EQ(Difference(plan, expected, actual.harness), "") << "call " << n << " seed " << seed;
    }
  }
  EXPECT_GT(faults, 200);
}

TEST(DeviceExecutorTest, AFaultOfAnyPieceOfWorkIsAnErrorAndTheNextStepIsRight) {
  int faults = 0;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const Plan plan = RandomPlan(seed + 90, 20, 1 + seed % 3, true, /*host=*/true);
    Harness expected(plan);
    auto reference = Reference(plan, expected);
    for (int64_t n = 1;; ++n) {
      EmulatedDeviceOptions options;
      options.fail_work = n;
      OnDevices actual(plan, seed, options);
      auto executor = actual.Make(plan);
      ASSERT_TRUE(executor.ok());
      const absl::Status status = (*executor)->RunStep({0});
      if (status.ok()) break;
      EXPECT_THAT(std::string(status.message()), HasSubstr("the fault"));
      ASSERT_TRUE(actual.Idle());
      ++faults;
      actual.harness.group().Rebuild();
      ASSERT_EQ(reference->RunStep({1}), absl::OkStatus());
      ASSERT_EQ((*executor)->RunStep({1}), absl::OkStatus()) << "work " << n << " seed " << seed;
      ASSERT_EQ(Difference(plan, expected, actual.harness), "") << "work " << n << " seed " << seed;
    }
  }
  EXPECT_GT(faults, 200);
}

TEST(DeviceExecutorTest, AFaultOfAnyKernelIsAnErrorWithItsNodeOrItsDeviceAndNothingIsLeftBehind) {
  const int before = Harness::live_kernels();
  for (const Fault fault : {Fault::kStatus, Fault::kThrow, Fault::kThrowUnknown,
                            Fault::kDoneThenThrow, Fault::kDoneTwice, Fault::kLateDone}) {
    const Plan plan = RandomPlan(7, 24, 2, true, /*host=*/true);
    Harness expected(plan);
    auto reference = Reference(plan, expected);
    for (NodeId n : plan.rank_plans[0].lanes[0].order) {
      const bool collective = plan.graph.nodes()[n].is_collective;
      if (!collective && fault >= Fault::kDoneThenThrow) continue;
      OnDevices actual(plan, static_cast<uint64_t>(n));
      auto executor = actual.Make(plan);
      ASSERT_TRUE(executor.ok());
      actual.harness.SetFault(1, n, fault);
      const absl::Status status = (*executor)->RunStep({0});
      ASSERT_FALSE(status.ok()) << plan.graph.nodes()[n].name;
      ASSERT_TRUE(actual.Idle());
      actual.harness.ClearFaults();
      actual.harness.group().Rebuild();
      ASSERT_EQ(reference->RunStep({1}), absl::OkStatus());
      ASSERT_EQ((*executor)->RunStep({1}), absl::OkStatus());
      ASSERT_EQ(Difference(plan, expected, actual.harness), "");
    }
  }
  EXPECT_EQ(Harness::live_kernels(), before);
}

TEST(DeviceExecutorTest, AStuckCollectiveOfADeviceIsReportedWithWhoHasNotComeAndTheStepEnds) {
  PlanSketch sketch;
  const NodeId first = sketch.Compute("first", {});
  const NodeId gather = sketch.Async("gather", {first});
  sketch.Compute("last", {gather});
  const Plan plan = std::move(sketch).Build(2);
  OnDevices actual(plan, 3);
  actual.executor_options.stuck_seconds = 0.2;
  actual.executor_options.drain_seconds = 0.2;
  auto executor = actual.Make(plan);
  ASSERT_TRUE(executor.ok());
  actual.harness.SetFault(1, plan.graph.FindNode("gather.start"), Fault::kNeverJoins);
  const absl::Status status = (*executor)->RunStep({0});
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("rank 0: waits for gather.done (all_reduce, group data)"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("Last finished node: first."));
  EXPECT_THAT(std::string(status.message()), HasSubstr("In flight: gather.start"));
  EXPECT_GT(actual.harness.aborts, 0);
  EXPECT_THAT(std::string((*executor)->RunStep({1}).message()), HasSubstr("may still run"));
}

TEST(DeviceExecutorTest, EveryNodeHasASpanAndThoseOfAStreamDoNotOverlap) {
  const Plan plan = RandomPlan(8, 50, 2, true, /*host=*/true);
  TraceRecorder recorder;
  OnDevices actual(plan, 5);
  actual.executor_options.recorder = &recorder;
  auto executor = actual.Make(plan);
  ASSERT_TRUE(executor.ok());
  for (int64_t step = 0; step < 3; ++step)
    ASSERT_EQ((*executor)->RunStep({step}), absl::OkStatus());
  const Trace trace = recorder.Collect(plan, "run");
  EXPECT_EQ(trace.steps.size(), 3u);
  EXPECT_EQ(trace.spans.size(), 3 * 2 * plan.graph.nodes().size());
  for (const Span& s : trace.spans) {
    EXPECT_LE(s.ready_ns, s.begin_ns);
    EXPECT_LE(s.begin_ns, s.end_ns);
  }
  EXPECT_GT((*executor)->issue_cost().nodes, 0);
}

// A kernel that counts in memory, so that it may be kept; BeginStep says by how much.
class Counting final : public Kernel {
 public:
  Counting(int64_t* number, bool alone) : number_(number), alone_(alone) {}
  absl::Status BeginStep(const StepContext& context) override {
    by_ = context.step + 1;
    return absl::OkStatus();
  }
  absl::Status Run(const StepContext&) override {
    *number_ += by_;
    return absl::OkStatus();
  }
  bool capturable() const override { return true; }
  bool capture_alone() const override { return alone_; }

 private:
  int64_t* const number_;
  const bool alone_;
  int64_t by_ = 0;
};

TEST(DeviceExecutorTest, CapturedRunsDoTheSameAndAreOneLaunchEach) {
  PlanSketch sketch;
  NodeId last = sketch.Compute("0", {});
  for (int i = 1; i < 10; ++i) last = sketch.Compute(absl::StrCat(i), {last});
  const NodeId gather = sketch.Async("gather", {last});
  for (int i = 10; i < 20; ++i) last = sketch.Compute(absl::StrCat(i), {last});
  sketch.Compute("after", {last, gather});
  const Plan plan = std::move(sketch).Build(1);
  std::vector<std::vector<int64_t>> numbers;
  for (const bool capture : {false, true}) {
    OnDevices actual(plan, 9);
    actual.executor_options.capture = capture;
    std::vector<int64_t> counts(plan.graph.nodes().size());
    std::vector<RankKernels> kernels = actual.harness.Kernels();
    for (NodeId n : plan.rank_plans[0].lanes[0].order) {
      if (plan.graph.nodes()[n].is_collective) continue;
      const bool alone = plan.graph.nodes()[n].name == "after";
      kernels[0].by_node[n] = std::make_unique<Counting>(&counts[n], alone);
    }
    TraceRecorder recorder;
    actual.executor_options.recorder = &recorder;
    auto executor = MakeFlowGraphExecutor(plan, std::move(kernels), actual.executor_options);
    ASSERT_TRUE(executor.ok()) << executor.status();
    for (int64_t step = 0; step < 5; ++step) {
      ASSERT_EQ((*executor)->RunStep({step}), absl::OkStatus());
    }
    // Ten before the collective reads the last, ten behind; `after` waits for the collective, and is kept alone.
    EXPECT_EQ((*executor)->issue_cost().captured_runs, capture ? 3 : 0);
    EXPECT_EQ(actual.devices[0]->launches(), capture ? 3 * 4 : 0);
    for (NodeId n : plan.rank_plans[0].lanes[0].order) {
      if (plan.graph.nodes()[n].is_collective) continue;
      EXPECT_EQ(counts[n], 1 + 2 + 3 + 4 + 5);
    }
    EXPECT_EQ(recorder.Collect(plan, "run").spans.size(), 5 * plan.graph.nodes().size());
    numbers.push_back(counts);
  }
  EXPECT_EQ(numbers[0], numbers[1]);
}

}  // namespace
}  // namespace millrace
