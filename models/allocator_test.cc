#include "models/allocator.h"

#include <c10/core/CPUAllocator.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <map>
#include <memory>
#include <thread>
#include <utility>
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

TEST_F(AllocatorTest, ARecordingOfOneDeviceLeavesTheOthersOut) {
  Recording recording(c10::kMeta);
  const c10::DataPtr a = Cpu(16), b = Meta(32);
  EXPECT_EQ(recording.events(), (std::vector<AllocationEvent>{{false, 0, 32}}));
  EXPECT_EQ(recording.IdOf(a), -1);
}

// What libmillrace_torch_cuda.so does, with malloc for LibTorch's caching allocator.
class FakeCuda {
 public:
  explicit FakeCuda(size_t bytes) {
    int must_free = 0;
    data_ = hooks_.place(bytes, &must_free);
    asks_ = data_ == nullptr || must_free != 0;
    if (data_ != nullptr) return;
    data_ = own_ = std::malloc(bytes);
    hooks_.allocated(data_, bytes);
  }
  ~FakeCuda() { Free(); }
  void Free() {
    if (data_ != nullptr && asks_ && hooks_.freed(data_) == 0)
      std::free(std::exchange(own_, nullptr));
    EXPECT_EQ(own_, nullptr) << "memory of the caching allocator was taken for ours";
    data_ = nullptr;
  }
  void* get() const { return data_; }
  // The block's DataPtr, which owns nothing.
  c10::DataPtr ptr() const { return {data_, c10::Device(c10::kCUDA, 0)}; }

 private:
  const TorchCudaHooks& hooks_ = *CudaAllocatorHooks();
  void *data_ = nullptr, *own_ = nullptr;
  bool asks_ = false;
};

TEST_F(AllocatorTest, CudaAllocationsAreRecorded) {
  const AllocatorStats before = CudaAllocatorStats();
  Recording recording(c10::kCUDA);
  FakeCuda a(16), b(32);
  const c10::DataPtr cpu = Cpu(64);
  a.Free();
  EXPECT_EQ(recording.events(),
            (std::vector<AllocationEvent>{{false, 0, 16}, {false, 1, 32}, {true, 0, 16}}));
  EXPECT_EQ(recording.IdOf(b.ptr()), 1);
  EXPECT_EQ(CudaAllocatorStats().allocations, before.allocations + 2);
  EXPECT_EQ(CudaAllocatorStats().live_bytes, before.live_bytes + 32);
}

TEST_F(AllocatorTest, OnCudaAPlanServesCudaAllocationsAloneAndTheSpillArenaTheRest) {
  alignas(512) static char spill_memory[1024];
  Arena spill(spill_memory, sizeof(spill_memory));
  ReplayMemory memory = Memory();
  memory.device = c10::kCUDA;
  memory.spill = &spill;
  const AllocatorStats before = CudaAllocatorStats();
  auto late = std::make_unique<FakeCuda>(8);  // lives longer than the scope that knows it
  {
    ReplayScope replay(plan_, memory);
    const c10::DataPtr number = Cpu(8);  // a tensor of a number, made on the CPU
    late = std::make_unique<FakeCuda>(128);
    EXPECT_EQ(late->get(), workspace_ + 64);
    late = std::make_unique<FakeCuda>(100);  // planned: 64
    EXPECT_EQ(late->get(), spill_memory);
    const FakeCuda fits(512);  // not planned at all
    EXPECT_EQ(fits.get(), spill_memory + 512);
    EXPECT_EQ(replay.served(), 1);
    EXPECT_EQ(replay.spilled(), 2);
    EXPECT_EQ(replay.mismatches(), 0);
    EXPECT_EQ(CudaAllocatorStats().allocations, before.allocations + 1);
    const FakeCuda grows(1);
    EXPECT_EQ(replay.mismatches(), 1);
    EXPECT_EQ(replay.unplanned_bytes_peak(), 1);
    EXPECT_EQ(CudaAllocatorStats().allocations, before.allocations + 2);
  }
  EXPECT_EQ(spill.in_use(), 512);
  late.reset();
  EXPECT_EQ(spill.in_use(), 0);
  EXPECT_EQ(CudaAllocatorStats().live_bytes, before.live_bytes);
}

TEST_F(AllocatorTest, AScopeForCudaDoesNotServeTheCpu) {
  ReplayMemory memory = Memory();
  memory.device = c10::kCUDA;
  ReplayScope replay(plan_, memory);
  const c10::DataPtr a = Cpu(128);
  EXPECT_NE(a.get(), workspace_ + 64);
  EXPECT_EQ(replay.mismatches() + replay.unplanned_bytes_peak(), 0);
}

TEST(Arena, CutsByBestFitAndJoinsWhatIsFree) {
  constexpr int64_t k = Arena::kAlignment;
  char memory[8 * k];
  Arena arena(memory, sizeof(memory));
  void* a = arena.Allocate(2 * k);
  void* b = arena.Allocate(1);
  void* c = arena.Allocate(k + 1);
  void* d = arena.Allocate(2 * k);
  EXPECT_EQ(arena.in_use(), 7 * k);
  EXPECT_EQ(arena.Allocate(2 * k), nullptr);
  EXPECT_TRUE(arena.Free(b));
  EXPECT_FALSE(arena.Free(b));
  EXPECT_EQ(arena.Allocate(k), b);  // of the holes of one unit, the first; not the end
  EXPECT_TRUE(arena.Free(c));
  EXPECT_EQ(arena.Allocate(k), memory + 7 * k);  // the smallest hole that is large enough
  EXPECT_TRUE(arena.Free(a));
  EXPECT_TRUE(arena.Free(b));
  EXPECT_TRUE(arena.Free(memory + 7 * k));
  EXPECT_TRUE(arena.Free(d));
  EXPECT_EQ(arena.in_use(), 0);
  EXPECT_EQ(arena.peak(), 7 * k);
  EXPECT_EQ(arena.Allocate(8 * k), memory);  // all of it again
}

TEST(Arena, RandomUseNeverOverlapsAndLosesNothing) {
  static char memory[64 * Arena::kAlignment];
  Arena arena(memory, sizeof(memory));
  std::map<char*, int64_t> live;
  uint32_t random = 1;
  for (int i = 0; i < 20000; ++i) {
    random = random * 1664525u + 1013904223u;
    if (live.empty() || random % 3 != 0) {
      const int64_t bytes = 1 + (random >> 8) % (12 * Arena::kAlignment);
      char* p = static_cast<char*>(arena.Allocate(bytes));
      if (p == nullptr) continue;
      EXPECT_GE(p, memory);
      EXPECT_LE(p + bytes, memory + sizeof(memory));
      const auto next = live.lower_bound(p);
      EXPECT_TRUE(next == live.end() || p + bytes <= next->first);
      EXPECT_TRUE(next == live.begin() || std::prev(next)->first + std::prev(next)->second <= p);
      live[p] = bytes;
    } else {
      const auto it = std::next(live.begin(), (random >> 8) % live.size());
      EXPECT_TRUE(arena.Free(it->first));
      live.erase(it);
    }
  }
  for (const auto& [p, bytes] : live) EXPECT_TRUE(arena.Free(p));
  EXPECT_NE(arena.Allocate(sizeof(memory)), nullptr);
}

}  // namespace
}  // namespace millrace
