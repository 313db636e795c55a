#include "models/allocator.h"

#include <c10/core/CPUAllocator.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>

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
std::atomic<int64_t> live_bytes{0};
std::atomic<int64_t> peak_bytes{0};
std::atomic<int64_t> allocations{0};

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
  static void RecordAllocation(Header* header) {
    header->recording = 0;
    Recording* r = thread_state.recording;
    if (r == nullptr) return;
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

  static void* Planned(int64_t bytes) {
    ReplayScope* s = thread_state.replay;
    return s == nullptr ? nullptr : s->Place(bytes);
  }

  static void CountUnplanned(Header* header) {
    header->replay = 0;
    ReplayScope* s = thread_state.replay;
    if (s == nullptr) return;
    header->replay = s->serial_;
    s->unplanned_live_ += header->bytes;
    s->unplanned_peak_ = std::max(s->unplanned_peak_, s->unplanned_live_);
  }

  static void UncountUnplanned(const Header* header) {
    ReplayScope* s = thread_state.replay;
    if (s != nullptr && s->serial_ == header->replay) s->unplanned_live_ -= header->bytes;
  }

  static bool InPlannedMemory(const void* p) {
    const ReplayScope* s = thread_state.replay;
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
  const int64_t live = live_bytes.fetch_add(bytes, std::memory_order_relaxed) + bytes;
  int64_t peak = peak_bytes.load(std::memory_order_relaxed);
  while (live > peak && !peak_bytes.compare_exchange_weak(peak, live, std::memory_order_relaxed)) {
  }
  allocations.fetch_add(1, std::memory_order_relaxed);
  AllocatorHooks::RecordAllocation(header);
  AllocatorHooks::CountUnplanned(header);
  return header + 1;
}

void Free(void* data) {
  if (data == nullptr) return;
  Header* header = HeaderOf(data);
  AllocatorHooks::RecordFree(header);
  AllocatorHooks::UncountUnplanned(header);
  live_bytes.fetch_sub(header->bytes, std::memory_order_relaxed);
  std::free(header);
}

void FreePlanned(void*) {}

// For raw_deallocate, which has only the pointer. Raw blocks are scratch of one operator, so a planned
// one is given back under the scope that served it.
void FreeRaw(void* data) {
  if (!AllocatorHooks::InPlannedMemory(data)) Free(data);
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
    if (void* planned = AllocatorHooks::Planned(bytes)) {
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
    AllocatorHooks::RecordAllocation(header);
    return {nullptr, header, &FreeMeta, c10::Device(c10::kMeta)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void*, const void*, size_t) const override {}
};

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

AllocatorStats CpuAllocatorStats() {
  return {live_bytes.load(std::memory_order_relaxed), peak_bytes.load(std::memory_order_relaxed),
          allocations.load(std::memory_order_relaxed)};
}

void ResetAllocatorPeak() { peak_bytes.store(live_bytes.load()); }

Recording::Recording() : serial_(next_serial++), outer_(thread_state.recording) {
  thread_state.recording = this;
}
Recording::~Recording() { thread_state.recording = outer_; }

int32_t Recording::IdOf(const c10::DataPtr& data) const {
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
