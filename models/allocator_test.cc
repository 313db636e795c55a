#include "models/allocator.h"

#include <c10/core/CPUAllocator.h>

#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace millrace {
namespace {

class AllocatorTest : public testing::Test {
 protected:
  void SetUp() override { InstallAllocators(); }
  static c10::DataPtr Cpu(size_t bytes) { return c10::GetCPUAllocator()->allocate(bytes); }
  static c10::DataPtr Meta(size_t bytes) { return c10::GetAllocator(c10::kMeta)->allocate(bytes); }

  // One allocation of 128 bytes in the workspace at 64, one of 64 bytes in output 0.
  AllocationPlan plan_{
      {{Placement::Region::kWorkspace, 0, 64, 128}, {Placement::Region::kOutput, 0, 0, 64}}, 192};
  alignas(64) char workspace_[192];
  alignas(64) char output_[64];
  std::vector<void*> outputs_{output_};
  ReplayMemory Memory() {
    ReplayMemory m;
    m.workspace = workspace_;
    m.outputs = outputs_;
    return m;
  }
};

TEST_F(AllocatorTest, BlocksAreAlignedAndCounted) {
  const AllocatorStats before = CpuAllocatorStats();
  ResetAllocatorPeak();
  {
    const c10::DataPtr a = Cpu(100), b = Cpu(1);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(a.get()) % 64, 0u);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(b.get()) % 64, 0u);
    EXPECT_EQ(CpuAllocatorStats().live_bytes, before.live_bytes + 101);
  }
  EXPECT_EQ(CpuAllocatorStats().live_bytes, before.live_bytes);
  EXPECT_EQ(CpuAllocatorStats().peak_bytes, before.live_bytes + 101);
  EXPECT_EQ(CpuAllocatorStats().allocations, before.allocations + 2);
}

TEST_F(AllocatorTest, RawBlocksCanBeGivenBack) {
  const AllocatorStats before = CpuAllocatorStats();
  void* p = c10::GetCPUAllocator()->raw_allocate(64);
  std::memset(p, 1, 64);
  c10::GetCPUAllocator()->raw_deallocate(p);
  EXPECT_EQ(CpuAllocatorStats().live_bytes, before.live_bytes);

  const AllocationPlan plan = plan_;
  const ReplayMemory memory = Memory();
  ReplayScope replay(plan, memory);
  p = c10::GetCPUAllocator()->raw_allocate(128);
  EXPECT_EQ(p, workspace_ + 64);
  c10::GetCPUAllocator()->raw_deallocate(p);
}

TEST_F(AllocatorTest, ARecordingSeesAllocationsAndTheirFreesOnBothDevices) {
  c10::DataPtr before = Cpu(8);
  Recording recording;
  c10::DataPtr a = Cpu(16), b = Meta(1 << 30), none = Cpu(0);
  before.clear();
  a.clear();
  EXPECT_EQ(recording.events(),
            (std::vector<AllocationEvent>{{false, 0, 16}, {false, 1, 1 << 30}, {true, 0, 16}}));
  EXPECT_EQ(recording.IdOf(b), 1);
  EXPECT_EQ(recording.IdOf(none), -1);
  EXPECT_EQ(recording.peak_bytes(), (1 << 30) + 16);
  EXPECT_EQ(recording.live_bytes(), 1 << 30);
}

TEST_F(AllocatorTest, ABlockMayOutliveItsRecordingAndIsUnknownToTheNext) {
  c10::DataPtr a;
  {
    Recording recording;
    a = Cpu(16);
  }
  Recording next;
  EXPECT_EQ(next.IdOf(a), -1);
  a.clear();
  EXPECT_TRUE(next.events().empty());
}

TEST_F(AllocatorTest, ReplayServesTheIthAllocationAtItsPlace) {
  const ReplayMemory memory = Memory();
  const AllocatorStats before = CpuAllocatorStats();
  ReplayScope replay(plan_, memory);
  const c10::DataPtr a = Cpu(128), nothing = Cpu(0), b = Cpu(64);
  EXPECT_EQ(a.get(), workspace_ + 64);
  EXPECT_EQ(nothing.get(), nullptr);
  EXPECT_EQ(b.get(), output_);
  EXPECT_EQ(replay.served(), 2);
  EXPECT_EQ(replay.mismatches(), 0);
  EXPECT_EQ(replay.unplanned_bytes_peak(), 0);
  EXPECT_EQ(CpuAllocatorStats().allocations, before.allocations);
}

TEST_F(AllocatorTest, AnotherSizeOrOneTooManyIsServedByMallocAndCounted) {
  const ReplayMemory memory = Memory();
  ReplayScope replay(plan_, memory);
  c10::DataPtr a = Cpu(120);
  EXPECT_NE(a.get(), workspace_ + 64);
  const c10::DataPtr b = Cpu(64);
  EXPECT_EQ(b.get(), output_);
  a.clear();
  const c10::DataPtr c = Cpu(8);
  EXPECT_EQ(replay.mismatches(), 2);
  EXPECT_EQ(replay.served(), 1);
  EXPECT_EQ(replay.unplanned_bytes_peak(), 120);
}

TEST_F(AllocatorTest, ARegionWithoutMemoryFallsBack) {
  const ReplayMemory nowhere;
  ReplayScope replay(plan_, nowhere);
  const c10::DataPtr a = Cpu(128), b = Cpu(64);
  EXPECT_NE(a.get(), nullptr);
  EXPECT_EQ(replay.mismatches(), 2);
  EXPECT_EQ(replay.unplanned_bytes_peak(), 192);
}

TEST_F(AllocatorTest, OtherThreadsAreNotAffected) {
  const ReplayMemory memory = Memory();
  Recording recording;
  ReplayScope replay(plan_, memory);
  std::thread([] {
    const c10::DataPtr a = Cpu(128);
    EXPECT_NE(a.get(), nullptr);
  }).join();
  EXPECT_EQ(replay.served() + replay.mismatches(), 0);
  EXPECT_TRUE(recording.events().empty());
}

TEST_F(AllocatorTest, AfterTheScopeMallocIsBack) {
  const ReplayMemory memory = Memory();
  { ReplayScope replay(plan_, memory); }
  const c10::DataPtr a = Cpu(128);
  EXPECT_NE(a.get(), workspace_ + 64);
}

}  // namespace
}  // namespace millrace
