// The executor on CudaDevices over the fake runtime: random schedules give the reference's results, a failing call of
// the runtime ends in an error and the next step is right, and a step neither allocates nor waits.

#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

#include "absl/strings/str_cat.h"
#include "graph/ir/lane_kind.h"
#include "graph/runtime/executor.h"
#include "graph/runtime/lane_workers.h"
#include "graph/runtime/test_harness.h"
#include "ops/cuda/cuda_device.h"
#include "ops/cuda/cuda_status.h"
#include "ops/cuda/fake_cudart.h"

namespace millrace {
namespace {

using testing::HasSubstr;

FakeCudart& Fake() { return FakeCudart::Get(); }

// A kernel of the harness as a piece of work of a CUDA stream. What its work needs to know of the step comes as it
// does on a device: before the step, since the call itself may be kept.
class InStreamKernel final : public Kernel {
 public:
  explicit InStreamKernel(std::unique_ptr<Kernel> kernel) : kernel_(std::move(kernel)) {}
  absl::Status BeginStep(const StepContext& context) override {
    context_ = context;
    return absl::OkStatus();
  }
  absl::Status Issue(const StepContext&, const DeviceStream& stream) override {
    return CudaStatus(cudaLaunchHostFunc(
                          static_cast<cudaStream_t>(stream.native()),
                          [](void* self) { static_cast<InStreamKernel*>(self)->Work(); }, this),
                      "cudaLaunchHostFunc", "cuda");
  }
  bool capturable() const override { return !kernel_->asynchronous(); }

 private:
  // Only a step that has failed already fails here.
  void Work() {
    if (!kernel_->asynchronous()) {
      (void)kernel_->Run(context_);
      return;
    }
    auto done = std::make_shared<std::promise<void>>();
    kernel_->Start(context_, [done](const absl::Status&) { done->set_value(); });
    done->get_future().wait();
  }

  const std::unique_ptr<Kernel> kernel_;
  StepContext context_;
};

struct OnCuda {
  OnCuda(const Plan& plan, uint64_t seed, bool capture = false)
      : harness(plan, /*outside=*/seed % 2 == 0),
        lanes(LaneWorkers::Create({&plan}, /*devices=*/true)) {
    executor_options = harness.Options();
    executor_options.capture = capture;
  }
  absl::Status Open(const Plan& plan) {
    for (int r = 0; r < plan.world_size; ++r) {
      auto device = CudaDevice::Open(r);
      if (!device.ok()) return device.status();
      devices.push_back(*device);
      executor_options.devices[r] = devices.back().get();
    }
    std::vector<RankKernels> kernels = harness.Kernels();
    for (RankKernels& rank : kernels) {
      const KernelFactory wrap = OnLanes(
          [&](const Plan&, int, NodeId n,
              const RankBuffers&) -> absl::StatusOr<std::unique_ptr<Kernel>> {
            std::unique_ptr<Kernel> kernel = std::move(rank.by_node[n]);
            if (!InStream(LaneKindOf(plan.graph, n))) return kernel;
            return std::unique_ptr<Kernel>(new InStreamKernel(std::move(kernel)));
          },
          lanes);
      auto made = MakeKernels(plan, rank.rank, *RankBuffers::Create(plan, rank.rank), wrap);
      if (!made.ok()) return made.status();
      rank = *std::move(made);
    }
    auto made = MakeFlowGraphExecutor(plan, std::move(kernels), executor_options);
    if (made.ok()) executor = *std::move(made);
    return made.status();
  }

  std::vector<std::shared_ptr<CudaDevice>> devices;
  Harness harness;
  std::shared_ptr<LaneWorkers> lanes;
  ExecutorOptions executor_options;
  std::unique_ptr<Executor> executor;
};

std::unique_ptr<Executor> Reference(const Plan& plan, Harness& harness) {
  auto executor = MakeReferenceExecutor(plan, harness.Kernels(), harness.Options());
  EXPECT_TRUE(executor.ok()) << executor.status();
  return *std::move(executor);
}

TEST(CudaExecutorTest, TwoHundredRandomSchedulesGiveTheReferencesResultsAndNeitherAllocateNorWait) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    const Plan plan = RandomPlan(seed, 10 + static_cast<int>(seed % 40), 1 + seed % 3,
                                 /*lane_edges=*/seed % 4 != 0, /*host=*/seed % 5 != 0);
    Fake().Start({.devices = 3, .seed = seed});
    {
      Harness expected(plan);
      auto reference = Reference(plan, expected);
      const bool capture = seed % 3 == 0;
      OnCuda actual(plan, seed, capture);
      TraceRecorder recorder;
      if (seed % 2 == 0) actual.executor_options.recorder = &recorder;
      ASSERT_EQ(actual.Open(plan), absl::OkStatus()) << "seed " << seed;
      for (int64_t step = 0; step < 4; ++step) {
        ASSERT_EQ(reference->RunStep({step}), absl::OkStatus()) << "seed " << seed;
        const bool captures = capture && step == 1;  // makes CUDA graphs
        const int64_t allocated = Fake().allocations(), waited = Fake().waits();
        if (!captures) Fake().StepBegins();
        ASSERT_EQ(actual.executor->RunStep({step}), absl::OkStatus()) << "seed " << seed;
        Fake().StepEnds();
        ASSERT_EQ(Fake().waits(), waited) << "seed " << seed;
        if (!captures) {
          ASSERT_EQ(Fake().allocations(), allocated) << "seed " << seed;
        }
        ASSERT_EQ(actual.harness.BrokenEdge(/*on_device=*/true), "") << "seed " << seed;
        ASSERT_EQ(actual.harness.Numbers(), expected.Numbers()) << "seed " << seed;
      }
      if (capture && actual.executor->issue_cost().captured_runs > 0) {
        EXPECT_GT(Fake().launches(), 0);
      }
    }
    ASSERT_EQ(Fake().misuse(), "") << "seed " << seed;
    ASSERT_EQ(Fake().alive(), 0) << "seed " << seed;
  }
}

TEST(CudaExecutorTest, AFailureOfAnyCallOfTheRuntimeIsAnErrorAndTheNextStepIsRight) {
  int faults = 0;
  for (uint64_t seed = 0; seed < 2; ++seed) {
    const Plan plan = RandomPlan(seed + 50, 16, 1 + seed % 2, true, /*host=*/true);
    Harness expected(plan);
    auto reference = Reference(plan, expected);
    for (int64_t n = 1;; ++n) {
      FakeCudartOptions options{.devices = 2, .seed = seed};
      options.fail_call = n;
      Fake().Start(options);
      bool enough = false;
      {
        OnCuda actual(plan, seed, /*capture=*/seed % 2 == 0);
        const absl::Status opened = actual.Open(plan);
        absl::Status status = opened;
        for (int64_t step = 0; step < 3 && status.ok(); ++step) {
          status = actual.executor->RunStep({step});
        }
        enough = status.ok();
        if (!enough) {
          EXPECT_THAT(std::string(status.message()), HasSubstr("the fault"));
          ++faults;
        }
        if (enough) {
          EXPECT_LT(Fake().calls(), n);  // none failed unseen
        } else if (opened.ok()) {
          actual.harness.group().Rebuild();
          ASSERT_EQ(reference->RunStep({7}), absl::OkStatus());
          ASSERT_EQ(actual.executor->RunStep({7}), absl::OkStatus())
              << "call " << n << " seed " << seed;
          ASSERT_EQ(actual.harness.Numbers(), expected.Numbers())
              << "call " << n << " seed " << seed;
        }
      }
      ASSERT_EQ(Fake().alive(), 0) << "call " << n << " seed " << seed;
      ASSERT_EQ(Fake().misuse(), "") << "call " << n << " seed " << seed;
      if (enough) break;
    }
  }
  EXPECT_GT(faults, 200);
}

TEST(CudaExecutorTest, AFailingQueryOfAnEventIsAnErrorAndTheNextStepIsRight) {
  const Plan plan = RandomPlan(91, 20, 2, true, /*host=*/true);
  Harness expected(plan);
  auto reference = Reference(plan, expected);
  for (int64_t n = 1; n < 40; ++n) {
    FakeCudartOptions options{.devices = 2, .seed = 5};
    options.fail_query = n;
    Fake().Start(options);
    {
      OnCuda actual(plan, 5);
      ASSERT_EQ(actual.Open(plan), absl::OkStatus());
      absl::Status status;
      for (int64_t step = 0; step < 20 && status.ok(); ++step) {
        status = actual.executor->RunStep({step});
      }
      ASSERT_THAT(std::string(status.message()), HasSubstr("cudaEventQuery")) << n;
      actual.harness.group().Rebuild();
      ASSERT_EQ(reference->RunStep({n}), absl::OkStatus());
      ASSERT_EQ(actual.executor->RunStep({n}), absl::OkStatus()) << n;
      ASSERT_EQ(actual.harness.Numbers(), expected.Numbers()) << n;
    }
    ASSERT_EQ(Fake().alive(), 0) << n;
  }
}

TEST(CudaExecutorTest, ADeviceThatIsLostEndsTheStepAndAllLaterOnesWithTheReason) {
  const Plan plan = RandomPlan(92, 20, 1, true, /*host=*/true);
  for (int64_t n = 1; n <= 10; ++n) {
    FakeCudartOptions options{.devices = 1, .seed = 5};
    options.fail_work = n;
    Fake().Start(options);
    {
      OnCuda actual(plan, 5);
      ASSERT_EQ(actual.Open(plan), absl::OkStatus());
      absl::Status status;
      for (int64_t step = 0; step < 5 && status.ok(); ++step) {
        status = actual.executor->RunStep({step});
      }
      EXPECT_THAT(std::string(status.message()), HasSubstr("the device is lost"));
      EXPECT_THAT(std::string(actual.executor->RunStep({9}).message()),
                  HasSubstr("the device is lost"));
    }
    ASSERT_EQ(Fake().alive(), 0) << n;
  }
}

}  // namespace
}  // namespace millrace
