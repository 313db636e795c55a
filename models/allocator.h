// Memory of every CPU and meta tensor, made visible: what a stage allocates can be counted, written down
// as a trace, and served from planned places.
//
// The plan of a step promises where every byte lies. LibTorch, though, allocates inside its operators,
// where no schedule can see it. But an operator asks for the same sizes in the same order whenever it
// sees the same shapes. So the trace of one run (on the meta device: nothing is allocated) is a list of
// places for all later runs, and a planned step needs no malloc at all.
//
//   InstallAllocators();                          // once per process, before the tensors of interest
//
//   Recording recording;                          // from here on, this thread's allocations are written down
//   at::Tensor y = at::add(x, x);
//   recording.events();                           // {allocation 0, 4096 bytes}
//
//   ReplayScope replay(plan, memory);             // this thread's i-th allocation is plan.allocations[i]
//   at::Tensor z = at::add(x, x);
//   replay.mismatches();                          // 0 when the sizes were as planned
//
// Only the thread that holds a Recording or a ReplayScope is affected; all others (OpenMP workers, other
// ranks) get 64-byte aligned malloc, counted. Zero-byte requests are neither recorded nor replayed: they
// have no memory.
//
// On CUDA it is LibTorch's own allocator that asks the thread's scopes, by CudaAllocatorHooks(). Planned memory is
// the arenas'; what no plan foresaw comes from a spill arena, and only what does not fit there from LibTorch's caching
// allocator: that is growth on the step's path, and counted.
#ifndef MILLRACE_MODELS_ALLOCATOR_H_
#define MILLRACE_MODELS_ALLOCATOR_H_

#include <c10/core/Allocator.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/types/span.h"
#include "graph/ir/model_spec.h"
#include "models/arena.h"
#include "models/cuda/torch_shim.h"

namespace millrace {

// Replaces LibTorch's allocators for the CPU and the meta device. Blocks allocated before stay valid.
// Idempotent and thread-safe.
void InstallAllocators();

struct AllocatorStats {
  int64_t live_bytes = 0;   // malloc'ed through the CPU allocator and not yet freed
  int64_t peak_bytes = 0;   // highest live_bytes since ResetAllocatorPeak
  int64_t allocations = 0;  // mallocs so far
};
AllocatorStats CpuAllocatorStats();
void ResetAllocatorPeak();

// What the allocator in libmillrace_torch_cuda.so calls (models/cuda/torch_shim.h).
const TorchCudaHooks* CudaAllocatorHooks();
// Of what LibTorch's caching allocator served, beside plans and spill arenas; all devices together.
AllocatorStats CudaAllocatorStats();

struct AllocationEvent {
  bool is_free = false;
  int32_t id = 0;     // 0, 1, 2, ... in order of allocation
  int64_t bytes = 0;  // as asked of the allocator
  bool operator==(const AllocationEvent& o) const {
    return is_free == o.is_free && id == o.id && bytes == o.bytes;
  }
};

// While it lives, writes down the allocations that its thread makes on any device, or on one kind of device only, and
// the frees of these allocations. Recordings nest; the innermost records. Not thread-safe.
class Recording {
 public:
  // A step on CUDA makes tensors of a number on the CPU, which are in no plan: `only` leaves them out.
  explicit Recording(std::optional<c10::DeviceType> only = std::nullopt);
  ~Recording();
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;

  const std::vector<AllocationEvent>& events() const { return events_; }
  // The allocation behind a tensor's storage; -1 when it was not made under this recording.
  int32_t IdOf(const c10::DataPtr& data) const;
  int64_t live_bytes() const { return live_; }
  int64_t peak_bytes() const { return peak_; }

 private:
  friend class AllocatorHooks;
  uint64_t serial_;
  std::optional<c10::DeviceType> only_;
  Recording* outer_;
  std::vector<AllocationEvent> events_;
  int32_t next_id_ = 0;
  int64_t live_ = 0, peak_ = 0;
};

// Where the regions of an AllocationPlan lie. A null pointer means "no place for it": such allocations
// fall back to malloc and count as mismatches.
struct ReplayMemory {
  c10::DeviceType device = c10::kCPU;  // whose allocations are meant: CPU or CUDA
  // CUDA: for allocations that the plan has not. Outlives all tensors made under the scope.
  Arena* spill = nullptr;
  void* workspace = nullptr;
  void* saved = nullptr;
  absl::Span<void* const> outputs;
  absl::Span<void* const> input_grads;
  absl::Span<void* const> param_grads;
};

// While it lives, serves its thread's i-th allocation on memory.device at the place of plan.allocations[i]. An
// allocation of another size than planned, or beyond the plan, is served from the spill arena, else by malloc or
// CUDA's caching allocator. Tensors at planned places own nothing: the memory must outlive them. `plan` and
// `memory` must outlive the scope.
class ReplayScope {
 public:
  ReplayScope(const AllocationPlan& plan, const ReplayMemory& memory);
  ~ReplayScope();
  ReplayScope(const ReplayScope&) = delete;
  ReplayScope& operator=(const ReplayScope&) = delete;

  // Allocations so far that could not be served as planned. After the scope's work is done, also compare
  // served() with the plan's length: fewer means that the run was another one than the probed.
  int64_t mismatches() const { return mismatches_; }
  int64_t served() const { return served_; }
  // Allocations served from the spill arena; no mismatches.
  int64_t spilled() const { return spilled_; }
  // Highest number of bytes malloc'ed (cached by CUDA's allocator) at one time for unplanned allocations.
  int64_t unplanned_bytes_peak() const { return unplanned_peak_; }

 private:
  friend class AllocatorHooks;
  void* Place(int64_t bytes);
  bool Owns(const void* p) const;

  const AllocationPlan& plan_;
  const ReplayMemory& memory_;
  uint64_t serial_;
  ReplayScope* outer_;
  size_t next_ = 0;
  int64_t served_ = 0, spilled_ = 0, mismatches_ = 0;
  int64_t unplanned_live_ = 0, unplanned_peak_ = 0;
};

}  // namespace millrace

#endif  // MILLRACE_MODELS_ALLOCATOR_H_
