#include "models/allocator.h"

#include <c10/core/CPUAllocator.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>

#include "absl/container/flat_hash_map.h"

namespace millrace {
namespace {

constexpr size_t kAlignment = 64;

// Stands in front of every block that was malloc'ed, and is all there is of a meta block. LibTorch's
// raw_allocate demands that a block's context is its data pointer, so the bookkeeping cannot be a context
// of its own.
struct alignas(kAlignment) Header {
  int64_t bytes;
  uint64_t recording;  // serial of the Recording, 0 when none
  uint64_t replay;     // serial of the ReplayScope that had no place for it, 0 when none
  int32_t id;          // within the recording
};
static_assert(sizeof(Header) == kAlignment);

std::atomic<uint64_t> next_serial{1};

struct Counters {
  std::atomic<int64_t> live{0}, peak{0}, allocations{0};

  void Allocated(int64_t bytes) {
    const int64_t now = live.fetch_add(bytes, std::memory_order_relaxed) + bytes;
    int64_t highest = peak.load(std::memory_order_relaxed);
    while (now > highest && !peak.compare_exchange_weak(highest, now, std::memory_order_relaxed)) {
    }
    allocations.fetch_add(1, std::memory_order_relaxed);
  }
  void Freed(int64_t bytes) { live.fetch_sub(bytes, std::memory_order_relaxed); }
  AllocatorStats stats() const {
    return {live.load(std::memory_order_relaxed), peak.load(std::memory_order_relaxed),
            allocations.load(std::memory_order_relaxed)};
  }
};
Counters cpu_counters, cuda_counters;

struct ThreadState {
  Recording* recording = nullptr;
  ReplayScope* replay = nullptr;
};
thread_local ThreadState thread_state;

Header* HeaderOf(void* data) { return static_cast<Header*>(data) - 1; }

}  // namespace

// The private side of Recording and ReplayScope, for the allocators.
class AllocatorHooks {
 public:
  static void RecordAllocation(Header* header, c10::DeviceType device) {
    header->recording = 0;
    Recording* r = thread_state.recording;
    if (r == nullptr || (r->only_.has_value() && *r->only_ != device)) return;
    header->recording = r->serial_;
    header->id = r->next_id_++;
    r->events_.push_back({false, header->id, header->bytes});
    r->live_ += header->bytes;
    r->peak_ = std::max(r->peak_, r->live_);
  }

  static void RecordFree(const Header* header) {
    Recording* r = thread_state.recording;
    if (header->recording == 0 || r == nullptr || r->serial_ != header->recording) return;
    r->events_.push_back({true, header->id, header->bytes});
    r->live_ -= header->bytes;
  }

  // The thread's scope, if it is one for this device.
  static ReplayScope* Scope(c10::DeviceType device) {
    ReplayScope* s = thread_state.replay;
    return s != nullptr && s->memory_.device == device ? s : nullptr;
  }

  static void* Planned(int64_t bytes, c10::DeviceType device) {
    ReplayScope* s = Scope(device);
    return s == nullptr ? nullptr : s->Place(bytes);
  }

  // The arena of the thread's scope, for an allocation that Planned has just refused.
  static Arena* Spill(c10::DeviceType device) {
    ReplayScope* s = Scope(device);
    return s == nullptr ? nullptr : s->memory_.spill;
  }
  static void CountSpilled() {
    ++thread_state.replay->spilled_;
    --thread_state.replay->mismatches_;
  }

  static void CountUnplanned(Header* header, c10::DeviceType device) {
    header->replay = 0;
    ReplayScope* s = Scope(device);
    if (s == nullptr) return;
    header->replay = s->serial_;
    s->unplanned_live_ += header->bytes;
    s->unplanned_peak_ = std::max(s->unplanned_peak_, s->unplanned_live_);
  }

  static void UncountUnplanned(const Header* header) {
    ReplayScope* s = thread_state.replay;
    if (s != nullptr && s->serial_ == header->replay) s->unplanned_live_ -= header->bytes;
  }

  static bool InPlannedMemory(const void* p, c10::DeviceType device) {
    const ReplayScope* s = Scope(device);
    return s != nullptr && s->Owns(p);
  }
};

namespace {

void* Malloc(int64_t bytes) {
  void* block = nullptr;
  if (posix_memalign(&block, kAlignment, sizeof(Header) + static_cast<size_t>(bytes)) != 0) {
    throw std::
        bad_alloc();  // as LibTorch's own allocator; stopped at the door like its other errors
  }
  Header* header = static_cast<Header*>(block);
  header->bytes = bytes;
  cpu_counters.Allocated(bytes);
  AllocatorHooks::RecordAllocation(header, c10::kCPU);
  AllocatorHooks::CountUnplanned(header, c10::kCPU);
  return header + 1;
}

void Free(void* data) {
  if (data == nullptr) return;
  Header* header = HeaderOf(data);
  AllocatorHooks::RecordFree(header);
  AllocatorHooks::UncountUnplanned(header);
  cpu_counters.Freed(header->bytes);
  std::free(header);
}

void FreePlanned(void*) {}

// For raw_deallocate, which has only the pointer. Raw blocks are scratch of one operator, so a planned
// one is given back under the scope that served it.
void FreeRaw(void* data) {
  if (!AllocatorHooks::InPlannedMemory(data, c10::kCPU)) Free(data);
}

void FreeMeta(void* context) {
  Header* header = static_cast<Header*>(context);
  AllocatorHooks::RecordFree(header);
  std::free(header);
}

class CpuAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t n) override {
    if (n == 0) return {nullptr, nullptr, &Free, c10::Device(c10::kCPU)};
    const int64_t bytes = static_cast<int64_t>(n);
    if (void* planned = AllocatorHooks::Planned(bytes, c10::kCPU)) {
      return {planned, planned, &FreePlanned, c10::Device(c10::kCPU)};
    }
    void* data = Malloc(bytes);
    return {data, data, &Free, c10::Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &FreeRaw; }
  void copy_data(void* to, const void* from, size_t n) const override { std::memcpy(to, from, n); }
};

class MetaAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t n) override {
    if (n == 0) return {nullptr, nullptr, &FreeMeta, c10::Device(c10::kMeta)};
    Header* header = static_cast<Header*>(std::aligned_alloc(kAlignment, sizeof(Header)));
    if (header == nullptr) throw std::bad_alloc();
    header->bytes = static_cast<int64_t>(n);
    header->replay = 0;
    AllocatorHooks::RecordAllocation(header, c10::kMeta);
    return {nullptr, header, &FreeMeta, c10::Device(c10::kMeta)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void*, const void*, size_t) const override {}
};

// Blocks on CUDA devices have no header that the host could read: those that no plan placed are listed here. A planned
// step allocates none of them, so the lock is not on its path.
class CudaBlocks {
 public:
  static CudaBlocks& Global() {
    static CudaBlocks* blocks = new CudaBlocks;
    return *blocks;
  }
  void Add(void* data, int64_t bytes, Arena* arena) {
    Block block{{bytes, 0, 0, 0}, arena};
    if (arena == nullptr) {
      cuda_counters.Allocated(bytes);
      AllocatorHooks::RecordAllocation(&block.header, c10::kCUDA);
      AllocatorHooks::CountUnplanned(&block.header, c10::kCUDA);
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    blocks_.insert_or_assign(data, block);
  }
  // False: not one of them.
  bool Remove(void* data, Arena** arena) {
    Block block;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      const auto it = blocks_.find(data);
      if (it == blocks_.end()) return false;
      block = it->second;
      blocks_.erase(it);
    }
    *arena = block.arena;
    if (block.arena == nullptr) {
      cuda_counters.Freed(block.header.bytes);
      AllocatorHooks::RecordFree(&block.header);
      AllocatorHooks::UncountUnplanned(&block.header);
    }
    return true;
  }
  int32_t IdOf(void* data, uint64_t recording) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto it = blocks_.find(data);
    return it != blocks_.end() && it->second.header.recording == recording ? it->second.header.id
                                                                           : -1;
  }

 private:
  struct Block {
    Header header;
    Arena* arena = nullptr;  // where it was spilled; null: LibTorch's caching allocator
  };
  std::mutex mutex_;
  absl::flat_hash_map<void*, Block> blocks_;
};

void* CudaPlace(size_t n, int* must_free) {
  *must_free = 0;
  const int64_t bytes = static_cast<int64_t>(n);
  if (void* planned = AllocatorHooks::Planned(bytes, c10::kCUDA)) return planned;
  Arena* spill = AllocatorHooks::Spill(c10::kCUDA);
  void* data = spill == nullptr ? nullptr : spill->Allocate(bytes);
  if (data == nullptr) return nullptr;
  AllocatorHooks::CountSpilled();
  CudaBlocks::Global().Add(data, bytes, spill);
  *must_free = 1;
  return data;
}

void CudaAllocated(void* data, size_t bytes) {
  CudaBlocks::Global().Add(data, static_cast<int64_t>(bytes), nullptr);
}

int CudaFreed(void* data) {
  Arena* arena = nullptr;
  if (CudaBlocks::Global().Remove(data, &arena)) {
    if (arena == nullptr) return 0;
    arena->Free(data);
    return 1;
  }
  // Raw blocks come back by their pointer alone.
  return AllocatorHooks::InPlannedMemory(data, c10::kCUDA) ? 1 : 0;
}

}  // namespace

void InstallAllocators() {
  static std::once_flag once;
  std::call_once(once, [] {
    static CpuAllocator* cpu = new CpuAllocator;
    static MetaAllocator* meta = new MetaAllocator;
    c10::SetCPUAllocator(cpu, /*priority=*/100);
    c10::SetAllocator(c10::kMeta, meta, /*priority=*/100);
  });
}

AllocatorStats CpuAllocatorStats() { return cpu_counters.stats(); }

void ResetAllocatorPeak() { cpu_counters.peak.store(cpu_counters.live.load()); }

const TorchCudaHooks* CudaAllocatorHooks() {
  static const TorchCudaHooks hooks{&CudaPlace, &CudaAllocated, &CudaFreed};
  return &hooks;
}
AllocatorStats CudaAllocatorStats() { return cuda_counters.stats(); }

Recording::Recording(std::optional<c10::DeviceType> only)
    : serial_(next_serial++), only_(only), outer_(thread_state.recording) {
  thread_state.recording = this;
}
Recording::~Recording() { thread_state.recording = outer_; }

int32_t Recording::IdOf(const c10::DataPtr& data) const {
  if (data.device().is_cuda()) return CudaBlocks::Global().IdOf(data.get(), serial_);
  void* context = data.get_context();
  if (context == nullptr) return -1;
  const Header* header = nullptr;
  if (data.get_deleter() == &Free) header = HeaderOf(context);
  if (data.get_deleter() == &FreeMeta) header = static_cast<Header*>(context);
  return header != nullptr && header->recording == serial_ ? header->id : -1;
}

ReplayScope::ReplayScope(const AllocationPlan& plan, const ReplayMemory& memory)
    : plan_(plan), memory_(memory), serial_(next_serial++), outer_(thread_state.replay) {
  thread_state.replay = this;
}
ReplayScope::~ReplayScope() { thread_state.replay = outer_; }

void* ReplayScope::Place(int64_t bytes) {
  const size_t i = next_++;
  void* place = nullptr;
  if (i < plan_.allocations.size() && plan_.allocations[i].bytes == bytes) {
    const Placement& p = plan_.allocations[i];
    const auto at = [&p](absl::Span<void* const> list) -> void* {
      return static_cast<size_t>(p.index) < list.size() ? list[p.index] : nullptr;
    };
    const auto inside = [&p](void* base) -> void* {
      return base == nullptr ? nullptr : static_cast<char*>(base) + p.offset;
    };
    switch (p.region) {
      case Placement::Region::kWorkspace:
        place = inside(memory_.workspace);
        break;
      case Placement::Region::kSaved:
        place = inside(memory_.saved);
        break;
      case Placement::Region::kOutput:
        place = at(memory_.outputs);
        break;
      case Placement::Region::kInputGrad:
        place = at(memory_.input_grads);
        break;
      case Placement::Region::kParamGrad:
        place = at(memory_.param_grads);
        break;
    }
  }
  if (place == nullptr) {
    ++mismatches_;
  } else {
    ++served_;
  }
  return place;
}

bool ReplayScope::Owns(const void* p) const {
  for (size_t i = 0; i < next_ && i < plan_.allocations.size(); ++i) {
    const Placement& a = plan_.allocations[i];
    const void* base = a.region == Placement::Region::kWorkspace ? memory_.workspace
                       : a.region == Placement::Region::kSaved   ? memory_.saved
                                                                 : nullptr;
    if (base != nullptr && static_cast<const char*>(base) + a.offset == p) return true;
  }
  return false;
}

}  // namespace millrace
