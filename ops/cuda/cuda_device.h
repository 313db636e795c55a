// A GPU for the engine (graph/runtime/device.h), over the CUDA runtime: lanes are streams, edges between them events,
// arenas are cudaMalloc'ed or pinned once, captured segments are CUDA graphs.
//
//   ASSIGN_OR_RETURN(std::vector<CudaDeviceInfo> found, CudaDevices());   // "no CUDA device is present: <reason>"
//   ASSIGN_OR_RETURN(std::shared_ptr<CudaDevice> device, CudaDevice::Open(0));
//   RankArenas::Options arenas;  arenas.device = device;
//   ASSIGN_OR_RETURN(CudaStepSlot slot, device->NewStepSlot(sizeof(Scalars)));   // read by kernels of every step
//
// From BeginIssue until the step's last event has been reached nothing is allocated and nobody waits: all memory,
// streams and events are made before. The one exception is the second step, which makes the CUDA graphs of captured
// segments. The tests count (fake_cudart.h).
//
// Streams of the same name are one: training and evaluation run in turn, on the same compute stream. Streams of
// communication have the highest priority, all others the lowest: a collective is a few blocks that its peers wait for
// and that compute's thousands of blocks would keep waiting; copies are not run by the processors at all. All are
// non-blocking: nothing of ours is ever put into the default stream.
//
// Numbers that change from step to step (learning rate, bias corrections) reach kernels through step slots: the host
// writes a slot's pinned half in Kernel::BeginStep, BeginIssue copies all slots to the device as the first work of the
// compute stream (one copy per 16 KiB of slots), and kernels read the device half. So a captured launch, whose
// arguments are fixed, sees this step's numbers. Only kernels of the compute stream may read slots: the copy
// is before them by the order of that stream. The pinned half may be written again once the step is over.
//
// Times: the device's clock is tied to Ticks() at BeginIssue, when the device is idle: an event recorded there is
// taken to be reached at the moment of the call. So all times of a step are early by what an idle device takes to look at
// its queue, a few microseconds, as all that is issued to it is late by it; differences within a step are the device's
// own (0.5 us).
//
// Errors name the device, the call and CUDA's own words. After one that breaks the context (an illegal address, say)
// the device is lost: every later call fails with the first error, and the process has to be started again.
//
// Threads: as device.h says. Every call makes the device current in its thread.
#ifndef MILLRACE_OPS_CUDA_CUDA_DEVICE_H_
#define MILLRACE_OPS_CUDA_CUDA_DEVICE_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "graph/runtime/device.h"
#include "models/arena.h"
#include "models/cuda/torch_shim.h"

namespace millrace {

struct CudaDeviceInfo {
  int ordinal = 0;
  std::string name;  // "NVIDIA H200"
  int64_t memory_bytes = 0;
  int capability_major = 0, capability_minor = 0;
  int multiprocessors = 0;
};

// All devices that this process sees. kFailedPrecondition "no CUDA device is present: <reason>" when there is none.
absl::StatusOr<std::vector<CudaDeviceInfo>> CudaDevices();

struct CudaDeviceOptions {
  bool ranges = false;  // NVTX ranges around the issue of every node, for a profiler to show
};

// A few bytes that the host sets before a step and kernels of the compute stream read in it.
struct CudaStepSlot {
  void* host = nullptr;  // pinned; written in Kernel::BeginStep
  const void* device = nullptr;
};

class CudaDevice final : public Device {
 public:
  static absl::StatusOr<std::shared_ptr<CudaDevice>> Open(int ordinal,
                                                          const CudaDeviceOptions& options = {});
  ~CudaDevice() override;  // waits for the streams
  CudaDevice(const CudaDevice&) = delete;
  CudaDevice& operator=(const CudaDevice&) = delete;

  const CudaDeviceInfo& info() const { return info_; }
  int ordinal() const { return info_.ordinal; }
  // Zero, 16-byte aligned, as long as the device. Between steps. At most 16 KiB.
  absl::StatusOr<CudaStepSlot> NewStepSlot(int64_t bytes);
  // Of step slots, device memory alone; not in the plan.
  int64_t step_slot_bytes() const;
  // For kernels that use LibTorch: its table (models/cuda/torch_cuda.h), and memory for what it asks for beyond the
  // plan. Between steps, once.
  absl::Status UseTorch(const TorchCudaShim* torch, int64_t spill_bytes);
  const TorchCudaShim* torch() const { return torch_; }  // null before
  Arena* spill() const { return spill_.get(); }
  // Makes the device the calling thread's.
  absl::Status MakeCurrent();

  std::string Describe() const override;
  absl::string_view kernels() const override { return "cuda"; }
  absl::StatusOr<void*> Allocate(Tier tier, int64_t bytes) override;
  void Release(Tier tier, void* base, int64_t bytes) override;
  absl::Status Read(void* host, const void* device, int64_t bytes) override;
  absl::Status Write(void* device, const void* host, int64_t bytes) override;
  absl::StatusOr<StreamId> NewStream(const std::string& name) override;
  absl::StatusOr<EventId> NewEvent() override;
  void* native(StreamId stream) const override;
  absl::Status BeginIssue() override;
  absl::Status Enqueue(StreamId stream, Work work) override;
  absl::Status Copy(StreamId stream, void* to, const void* from, int64_t bytes) override;
  absl::Status Record(StreamId stream, EventId event) override;
  absl::Status Wait(StreamId stream, EventId event) override;
  absl::Status BeginCapture(StreamId stream) override;
  absl::StatusOr<GraphId> EndCapture(StreamId stream) override;
  absl::Status Launch(StreamId stream, GraphId graph) override;
  absl::StatusOr<bool> Reached(EventId event) override;
  absl::StatusOr<int64_t> TimeOf(EventId event) override;
  // Work in a stream cannot be called back: it runs to its end. (A collective whose peers are gone ends with
  // Communicator::Abort.)
  void Abandon(const absl::Status& why) override {}
  void PushRange(const std::string& name) override;
  void PopRange() override;

 private:
  struct Stream {
    std::string name;
    void* handle = nullptr;  // cudaStream_t
    bool capturing = false;
  };
  struct Event {
    void* handle = nullptr;  // cudaEvent_t
    bool recorded = false;
  };
  struct SlotBlock {
    char* host = nullptr;
    char* device = nullptr;
    int64_t used = 0;
  };
  CudaDevice(CudaDeviceInfo info, const CudaDeviceOptions& options);
  absl::Status Prepare();
  absl::Status Check(int error, const char* call);  // remembers what makes the device lost
  absl::Status Enter();                             // before every call: lost? current?
  Event EventOf(EventId event) const;
  StreamId compute() const;

  const CudaDeviceInfo info_;
  const CudaDeviceOptions options_;
  const std::string name_;   // "cuda:0"
  void* between_ = nullptr;  // the stream of Read, Write and zeroing
  void* base_ = nullptr;     // the event at BeginIssue
  std::atomic<bool> is_lost_{false};
  mutable std::mutex mutex_;
  absl::Status lost_;         // guarded by mutex_
  std::deque<Event> events_;  // guarded by mutex_: the completion thread asks while others are made
  std::vector<Stream> streams_;
  std::vector<void*> graphs_;  // cudaGraphExec_t
  std::vector<SlotBlock> slots_;
  const TorchCudaShim* torch_ = nullptr;
  void* spill_memory_ = nullptr;
  std::unique_ptr<Arena> spill_;
  int64_t base_ticks_ = 0;
  double ticks_per_ms_ = 0;                   // since the device was opened
  const std::pair<int64_t, int64_t> opened_;  // ticks, nanoseconds
};

}  // namespace millrace

#endif  // MILLRACE_OPS_CUDA_CUDA_DEVICE_H_
