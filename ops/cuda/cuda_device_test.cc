// CudaDevice against the fake runtime: what it asks of CUDA, and what it makes of the answers.

#include "ops/cuda/cuda_device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <numeric>
#include <thread>
#include <vector>

#include "graph/trace/ticks.h"
#include "ops/cuda/fake_cudart.h"

namespace millrace {
namespace {

using testing::Each;
using testing::HasSubstr;

FakeCudart& Fake() { return FakeCudart::Get(); }

class CudaDeviceTest : public testing::Test {
 protected:
  void SetUp() override { Fake().Start({.devices = 2, .seed = 3}); }
  void TearDown() override {
    device_.reset();
    EXPECT_EQ(Fake().alive(), 0);
    EXPECT_EQ(Fake().misuse(), "");
  }
  CudaDevice& Open(int ordinal = 0) {
    auto device = CudaDevice::Open(ordinal);
    EXPECT_TRUE(device.ok()) << device.status();
    device_ = *std::move(device);
    return *device_;
  }
  // Until it has been reached or failed.
  absl::Status Await(EventId event) {
    while (true) {
      const absl::StatusOr<bool> reached = device_->Reached(event);
      if (!reached.ok()) return reached.status();
      if (*reached) return absl::OkStatus();
      std::this_thread::yield();
    }
  }
  std::shared_ptr<CudaDevice> device_;
};

TEST_F(CudaDeviceTest, ItIsTheFakeThatRunsHere) {
  const int64_t before = Fake().calls();
  Open();
  EXPECT_GT(Fake().calls(), before);
  EXPECT_EQ(Fake().alive(), 2);  // a stream and an event
}

TEST_F(CudaDeviceTest, AMachineWithoutADeviceSaysSoWithTheRuntimesReason) {
  Fake().Start({.devices = 0});
  EXPECT_EQ(CudaDevices().status().message(), "no CUDA device is present: cudaErrorNoDevice");
  EXPECT_EQ(CudaDevice::Open(0).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(CudaDeviceTest, DevicesAreDescribedAndOneTooManyIsRefused) {
  EXPECT_EQ(CudaDevices()->size(), 2u);
  EXPECT_EQ(Open(1).Describe(), "cuda:1 (a fake, 1.0 GiB)");
  EXPECT_THAT(std::string(CudaDevice::Open(2).status().message()),
              HasSubstr("there is no device cuda:2"));
}

TEST_F(CudaDeviceTest, MemoryIsZeroAndBytesComeBackAsTheyWent) {
  CudaDevice& device = Open();
  for (const Tier tier : {Tier::kDevice, Tier::kPinned}) {
    void* const memory = *device.Allocate(tier, 5000);
    ASSERT_NE(memory, nullptr);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(memory) % AlignmentOf(tier), 0u);
    std::vector<uint8_t> bytes(5000, 1);
    ASSERT_EQ(device.Read(bytes.data(), memory, 5000), absl::OkStatus());
    EXPECT_THAT(bytes, Each(0));
    std::iota(bytes.begin(), bytes.end(), 0);
    std::vector<uint8_t> back(5000);
    ASSERT_EQ(device.Write(memory, bytes.data(), 5000), absl::OkStatus());
    ASSERT_EQ(device.Read(back.data(), memory, 5000), absl::OkStatus());
    EXPECT_EQ(back, bytes);
    device.Release(tier, memory, 5000);
  }
  EXPECT_EQ(*device.Allocate(Tier::kHost, 64), nullptr);
}

TEST_F(CudaDeviceTest, TooLittleMemoryIsToldWithTheBytes) {
  const absl::Status status = Open().Allocate(Tier::kDevice, int64_t{2} << 30).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(
      std::string(status.message()),
      HasSubstr(
          "2147483648 bytes of device memory: cuda:0: cudaMalloc: cudaErrorMemoryAllocation"));
}

TEST_F(CudaDeviceTest, ACopyBehindAnEventSeesWhatWasWrittenBeforeIt) {
  CudaDevice& device = Open();
  const StreamId first = *device.NewStream("compute"), second = *device.NewStream("device_to_host");
  const EventId written = *device.NewEvent(), copied = *device.NewEvent();
  auto* pinned = static_cast<int*>(*device.Allocate(Tier::kPinned, 1 << 16));
  auto* result = static_cast<int*>(*device.Allocate(Tier::kPinned, 1 << 16));
  void* const memory = *device.Allocate(Tier::kDevice, 1 << 16);
  for (int round = 1; round <= 30; ++round) {
    std::fill(pinned, pinned + (1 << 14), round);
    ASSERT_EQ(device.BeginIssue(), absl::OkStatus());
    const int64_t begin = Ticks();
    ASSERT_EQ(device.Copy(first, memory, pinned, 1 << 16), absl::OkStatus());
    ASSERT_EQ(device.Record(first, written), absl::OkStatus());
    ASSERT_EQ(device.Wait(second, written), absl::OkStatus());
    ASSERT_EQ(device.Copy(second, result, memory, 1 << 16), absl::OkStatus());
    ASSERT_EQ(device.Record(second, copied), absl::OkStatus());
    ASSERT_EQ(Await(copied), absl::OkStatus());
    const int64_t end = Ticks();
    ASSERT_EQ(Await(written), absl::OkStatus());
    EXPECT_THAT(std::vector<int>(result, result + (1 << 14)), Each(round));
    EXPECT_LE(*device.TimeOf(written), *device.TimeOf(copied));
    EXPECT_LE(*device.TimeOf(copied), end);
    if (round >
        40) {  // the rate of the ticks is known well enough; the fake may sleep before the base event
      EXPECT_GT(*device.TimeOf(copied), begin - (end - begin));
    }
  }
  device.Release(Tier::kPinned, pinned, 1 << 16);
  device.Release(Tier::kPinned, result, 1 << 16);
  device.Release(Tier::kDevice, memory, 1 << 16);
}

TEST_F(CudaDeviceTest, CommunicationGoesFirstAndAStreamsNameIsItsOwn) {
  CudaDevice& device = Open();
  const StreamId compute = *device.NewStream("compute"), comm = *device.NewStream("comm:data");
  EXPECT_EQ(*device.NewStream("compute"), compute);
  EXPECT_NE(comm, compute);
  EXPECT_EQ(Fake().priority(device.native(compute)), 0);
  EXPECT_EQ(Fake().priority(device.native(comm)), -5);
}

TEST_F(CudaDeviceTest, StepSlotsReachTheDeviceBeforeTheFirstWorkOfTheStep) {
  CudaDevice& device = Open();
  const StreamId compute = *device.NewStream("compute");
  const EventId end = *device.NewEvent();
  std::vector<CudaStepSlot> slots;
  for (int i = 0; i < 600; ++i) slots.push_back(*device.NewStepSlot(48));
  EXPECT_EQ(device.step_slot_bytes(), 2 * 16384);
  auto* seen = static_cast<int*>(*device.Allocate(Tier::kPinned, 4096));
  for (int step = 1; step <= 3; ++step) {
    for (int i = 0; i < 600; ++i) *static_cast<int*>(slots[i].host) = step * 1000 + i;
    const int64_t allocated = Fake().allocations(), waited = Fake().waits();
    Fake().StepBegins();
    ASSERT_EQ(device.BeginIssue(), absl::OkStatus());
    for (int i = 0; i < 600; ++i) {
      ASSERT_EQ(device.Copy(compute, seen + i, slots[i].device, 4), absl::OkStatus());
    }
    ASSERT_EQ(device.Record(compute, end), absl::OkStatus());
    ASSERT_EQ(Await(end), absl::OkStatus());
    Fake().StepEnds();
    for (int i = 0; i < 600; ++i) EXPECT_EQ(seen[i], step * 1000 + i);
    EXPECT_EQ(Fake().allocations(), allocated);
    EXPECT_EQ(Fake().waits(), waited);
  }
  EXPECT_FALSE(device.NewStepSlot(0).ok());
  EXPECT_FALSE(device.NewStepSlot(20000).ok());
  device.Release(Tier::kPinned, seen, 4096);
}

TEST_F(CudaDeviceTest, WaitingForAnEventThatWasNeverRecordedIsAnError) {
  CudaDevice& device = Open();
  const StreamId compute = *device.NewStream("compute");
  const EventId event = *device.NewEvent();
  EXPECT_EQ(device.Wait(compute, event).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(device.TimeOf(event).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(device.Enqueue(compute, nullptr).code(), absl::StatusCode::kUnimplemented);
}

TEST_F(CudaDeviceTest, ACapturedSegmentRunsWhenItIsLaunchedAndItsEventsCanBeAskedFor) {
  CudaDevice& device = Open();
  const StreamId compute = *device.NewStream("compute");
  const EventId inside = *device.NewEvent(), behind = *device.NewEvent(),
                other = *device.NewEvent();
  auto* from = static_cast<int*>(*device.Allocate(Tier::kPinned, 64));
  auto* to = static_cast<int*>(*device.Allocate(Tier::kPinned, 64));
  ASSERT_EQ(device.BeginIssue(), absl::OkStatus());
  ASSERT_EQ(device.Record(compute, other), absl::OkStatus());
  ASSERT_EQ(device.BeginCapture(compute), absl::OkStatus());
  ASSERT_EQ(device.Copy(compute, to, from, 64), absl::OkStatus());
  ASSERT_EQ(device.Record(compute, inside), absl::OkStatus());
  EXPECT_EQ(device.Wait(compute, other).code(), absl::StatusCode::kFailedPrecondition);
  const absl::StatusOr<GraphId> graph = device.EndCapture(compute);
  ASSERT_TRUE(graph.ok()) << graph.status();
  for (int i = 1; i <= 5; ++i) {
    *from = i;
    EXPECT_EQ(*to, i - 1);
    ASSERT_EQ(device.Launch(compute, *graph), absl::OkStatus());
    ASSERT_EQ(device.Record(compute, behind), absl::OkStatus());
    ASSERT_EQ(Await(behind), absl::OkStatus());
    EXPECT_EQ(*to, i);
    EXPECT_LE(*device.TimeOf(inside), *device.TimeOf(behind));
  }
  EXPECT_EQ(Fake().launches(), 5);
  device.Release(Tier::kPinned, from, 64);
  device.Release(Tier::kPinned, to, 64);
}

TEST_F(CudaDeviceTest, AfterAnErrorThatBreaksTheContextTheDeviceIsLostForGood) {
  Fake().Start({.devices = 2, .fail_work = 1});
  CudaDevice& device = Open();
  const StreamId compute = *device.NewStream("compute");
  const EventId event = *device.NewEvent();
  auto* pinned = static_cast<int*>(*device.Allocate(Tier::kPinned, 64));
  ASSERT_EQ(device.Copy(compute, pinned, pinned + 8, 32), absl::OkStatus());
  (void)device.Record(compute, event);
  const absl::Status first = Await(event);
  EXPECT_THAT(std::string(first.message()),
              HasSubstr("the device is lost, start the process again: cuda:0: "));
  EXPECT_THAT(std::string(first.message()), HasSubstr("cudaErrorIllegalAddress"));
  EXPECT_EQ(device.BeginIssue(), first);
  EXPECT_EQ(device.Copy(compute, pinned, pinned + 8, 32), first);
  EXPECT_EQ(device.Allocate(Tier::kDevice, 64).status(), first);
  EXPECT_EQ(device.Read(pinned, pinned + 8, 4), first);
  device.Release(Tier::kPinned, pinned, 64);
  EXPECT_THAT(std::string(CudaDevices().status().message()), HasSubstr("cudaErrorIllegalAddress"));
}

}  // namespace
}  // namespace millrace
