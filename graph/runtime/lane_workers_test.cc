// The threads behind the lanes that are not compute or communication: one per rank and kind, in order, and what a kernel
// says or throws there comes back.
#include "graph/runtime/lane_workers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <stdexcept>
#include <thread>
#include <utility>

#include "graph/runtime/buffers.h"

namespace millrace {
namespace {

using testing::ElementsAre;

// Two ranks with a split copy from device to host, node 0 and 1, and a node of compute.
Plan OffloadPlan() {
  GraphBuilder builder("offload");
  const ValueId device = builder.AddValueWithBuffer({"grad", DType::kF32, {16}},
                                                    BufferKind::kGradient, /*persistent=*/true);
  const ValueId host = builder.AddValueWithBuffer(
      {"host_grad", DType::kF32, {16}}, BufferKind::kGradient, /*persistent=*/false, Tier::kHost);
  const ValueId act =
      builder.AddValueWithBuffer({"act", DType::kF32, {16}}, BufferKind::kActivation);
  Node start;
  start.name = "copy.start";
  start.op = "copy";
  start.async = AsyncRole::kStart;
  start.partner = 1;
  start.inputs = {device};
  builder.AddNode(start);
  Node done;
  done.name = "copy.done";
  done.op = "copy";
  done.async = AsyncRole::kDone;
  done.partner = 0;
  done.outputs = {host};
  builder.AddNode(done);
  Node compute;
  compute.name = compute.op = "fake";
  compute.inputs = {device};
  compute.outputs = {act};
  builder.AddNode(compute);
  Plan plan;
  plan.world_size = 2;
  plan.graph = *std::move(builder).Build();
  RankPlan rank_plan;
  rank_plan.ranks = {0, 1};
  rank_plan.lanes = {{"compute", LaneKind::kCompute, {0, 2}},
                     {"device_to_host", LaneKind::kDeviceToHost, {1}}};
  rank_plan.offset = {0, 0, 64};
  rank_plan.arena_bytes = {128, 0, 64, 0};
  rank_plan.persistent_bytes = {64, 0, 0, 0};
  plan.rank_plans = {rank_plan};
  return plan;
}

TEST(LaneWorkersTest, ThereIsAThreadForEachRankAndKindOfLaneThatAPlanHas) {
  const Plan plan = OffloadPlan();
  const auto workers = LaneWorkers::Create({&plan, &plan});
  EXPECT_EQ(workers->threads(), 2);
  EXPECT_TRUE(workers->Has(1, LaneKind::kDeviceToHost));
  EXPECT_FALSE(workers->Has(2, LaneKind::kDeviceToHost));
  EXPECT_FALSE(workers->Has(0, LaneKind::kCompute));
  EXPECT_FALSE(workers->Has(0, LaneKind::kStorage));
  EXPECT_EQ(LaneWorkers::Create({})->threads(), 0);
}

TEST(LaneWorkersTest, ALaneWorksInOrderAndTheEndWaitsForWhatWasPosted) {
  const Plan plan = OffloadPlan();
  std::vector<int> order;
  std::promise<void> go;
  {
    const auto workers = LaneWorkers::Create({&plan});
    workers->Post(0, LaneKind::kDeviceToHost, [&] { go.get_future().wait(); });
    for (int i = 0; i < 5; ++i) {
      workers->Post(0, LaneKind::kDeviceToHost, [&order, i] { order.push_back(i); });
    }
    EXPECT_TRUE(order.empty());  // posting did not block, the lane does
    // The other rank's lane does not wait for this one.
    std::promise<void> other;
    workers->Post(1, LaneKind::kDeviceToHost, [&] { other.set_value(); });
    other.get_future().wait();
    go.set_value();
  }
  EXPECT_THAT(order, ElementsAre(0, 1, 2, 3, 4));
}

enum class Fate { kGood, kFails, kThrows, kThrowsANumber };

class FakeKernel final : public Kernel {
 public:
  FakeKernel(Fate fate, std::thread::id* ran_on) : fate_(fate), ran_on_(ran_on) {}
  absl::Status Run(const StepContext&) override {
    *ran_on_ = std::this_thread::get_id();
    if (fate_ == Fate::kThrows) throw std::runtime_error("torn");
    if (fate_ == Fate::kThrowsANumber) throw 7;
    return fate_ == Fate::kFails ? absl::DataLossError("lost") : absl::OkStatus();
  }

 private:
  const Fate fate_;
  std::thread::id* const ran_on_;
};

class OnLanesTest : public testing::Test {
 protected:
  // The kernel of a node with this fate.
  std::unique_ptr<Kernel> Made(NodeId node, Fate fate) {
    const KernelFactory factory = OnLanes(
        [&](const Plan&, int, NodeId,
            const RankBuffers&) -> absl::StatusOr<std::unique_ptr<Kernel>> {
          return std::unique_ptr<Kernel>(std::make_unique<FakeKernel>(fate, &ran_on_));
        },
        LaneWorkers::Create({&plan_}));
    auto kernel = factory(plan_, 0, node, buffers_);
    EXPECT_TRUE(kernel.ok()) << kernel.status();
    return *std::move(kernel);
  }
  absl::Status EndOf(Kernel* kernel) {
    std::promise<absl::Status> end;
    kernel->Start({}, [&](absl::Status status) { end.set_value(std::move(status)); });
    return end.get_future().get();
  }

  const Plan plan_ = OffloadPlan();
  const RankBuffers buffers_ = *RankBuffers::Create(plan_, 0);
  std::thread::id ran_on_;
};

TEST_F(OnLanesTest, ACopyRunsOnItsLanesThread) {
  const std::unique_ptr<Kernel> kernel = Made(0, Fate::kGood);
  EXPECT_TRUE(kernel->asynchronous());
  EXPECT_EQ(EndOf(kernel.get()), absl::OkStatus());
  EXPECT_NE(ran_on_, std::this_thread::get_id());
  EXPECT_NE(ran_on_, std::thread::id());
}

TEST_F(OnLanesTest, ComputeStaysWithItsCaller) {
  const std::unique_ptr<Kernel> kernel = Made(2, Fate::kGood);
  EXPECT_FALSE(kernel->asynchronous());
  EXPECT_EQ(kernel->Run({}), absl::OkStatus());
  EXPECT_EQ(ran_on_, std::this_thread::get_id());
}

TEST_F(OnLanesTest, WhatAKernelSaysOrThrowsThereComesBack) {
  EXPECT_EQ(EndOf(Made(0, Fate::kFails).get()), absl::DataLossError("lost"));
  EXPECT_EQ(EndOf(Made(0, Fate::kThrows).get()), absl::InternalError("exception: torn"));
  EXPECT_EQ(EndOf(Made(0, Fate::kThrowsANumber).get()),
            absl::InternalError("exception of unknown type"));
}

}  // namespace
}  // namespace millrace
