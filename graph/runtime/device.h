// What a rank's device can do for the runtime: keep arenas, run work in streams, say when a point of a stream has been
// reached. The engine (rank_engine.h) issues a step to it in the plan's order and is woken only where the host itself
// must act; what waits for what on the device is told by events.
//
//   ASSIGN_OR_RETURN(StreamId compute, device.NewStream("compute"));
//   ASSIGN_OR_RETURN(EventId e, device.NewEvent());
//   RETURN_IF_ERROR(kernel->Issue(context, {&device, compute}));       // behind what the stream already has
//   RETURN_IF_ERROR(device.Record(compute, e));
//   RETURN_IF_ERROR(device.Wait(copies, e));                           // stream `copies` goes on behind e
//   ... device.Reached(e) ...                                          // asked by the completion thread
//
// A stream does its work one after another, in the order of the calls. An event is a point in a stream: the end of what
// was put there before Record. Recorded again (in the next step) it means the new point; that is allowed when all who
// waited for the old one have gone on. Wait before the first Record is an error.
//
// Ways to be a device: CudaDevice (ops/cuda), and EmulatedDevice (emulated_device.h), which runs the CPU's kernels in
// streams that are as asynchronous as a test wants. The CPU back end has none: its compute thread is the stream.
//
// Threads: calls in a step by the rank's issue thread, and they neither block nor allocate; Reached and TimeOf by any
// thread; all others between steps.
#ifndef MILLRACE_GRAPH_RUNTIME_DEVICE_H_
#define MILLRACE_GRAPH_RUNTIME_DEVICE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "graph/ir/graph.h"

namespace millrace {

using StreamId = int32_t;
using EventId = int32_t;
using GraphId = int32_t;

class Device {
 public:
  // A piece of work of an emulated stream: runs, and calls `done` once, from any thread, then or later.
  using Work = std::function<void(std::function<void(absl::Status)> done)>;

  virtual ~Device() = default;

  virtual std::string Describe() const = 0;  // "cuda:0 (NVIDIA H200, 139.8 GiB)"
  // Which kernels run in its streams (ops/kernel_registry.h): "" for the CPU's own, "cuda".
  virtual absl::string_view kernels() const = 0;

  // ---- Memory. Zeroed, aligned as AlignmentOf(tier). Tiers kDevice and kPinned; null for others: the host's.
  virtual absl::StatusOr<void*> Allocate(Tier tier, int64_t bytes) = 0;
  virtual void Release(Tier tier, void* base, int64_t bytes) = 0;
  // Between host memory and the device's; return when the bytes are there. Between steps only.
  virtual absl::Status Read(void* host, const void* device, int64_t bytes) = 0;
  virtual absl::Status Write(void* device, const void* host, int64_t bytes) = 0;

  // ---- Before the first step.
  virtual absl::StatusOr<StreamId> NewStream(const std::string& name) = 0;
  virtual absl::StatusOr<EventId> NewEvent() = 0;
  // cudaStream_t; null where a stream is not one.
  virtual void* native(StreamId stream) const = 0;

  // ---- In a step.
  // Once per step, before anything else, on the thread that will issue it.
  virtual absl::Status BeginIssue() = 0;
  // Streams of emulated devices only; kUnimplemented elsewhere.
  virtual absl::Status Enqueue(StreamId stream, Work work) = 0;
  // From or to device memory; host sides are pinned.
  virtual absl::Status Copy(StreamId stream, void* to, const void* from, int64_t bytes) = 0;
  virtual absl::Status Record(StreamId stream, EventId event) = 0;
  virtual absl::Status Wait(StreamId stream, EventId event) = 0;

  // ---- Captured segments: what is issued to `stream` between the two calls is kept instead of run; Launch runs it,
  // any number of times. Only `stream` itself may be used in between. An event may be recorded there - each Launch then
  // records it anew - but not waited for.
  virtual absl::Status BeginCapture(StreamId stream) = 0;
  virtual absl::StatusOr<GraphId> EndCapture(StreamId stream) = 0;
  virtual absl::Status Launch(StreamId stream, GraphId graph) = 0;

  // ---- Any thread.
  // Whether the point that was last recorded has been reached. An error when the device, or work before the point, has
  // failed.
  virtual absl::StatusOr<bool> Reached(EventId event) = 0;
  // When it was reached, in Ticks() (graph/trace/ticks.h). Only of events that have been reached.
  virtual absl::StatusOr<int64_t> TimeOf(EventId event) = 0;
  // After a failed step: nothing that was issued and has not begun runs any more, as far as the device can; returns
  // without waiting.
  virtual void Abandon(const absl::Status& why) = 0;

  // ---- For profilers: what is issued in between belongs to a node of that name. On the issue thread. By default
  // nothing.
  virtual void PushRange(const std::string& name) {}
  virtual void PopRange() {}
};

// Where a kernel puts its work.
struct DeviceStream {
  Device* device = nullptr;
  StreamId stream = -1;
  void* native() const { return device->native(stream); }
};

}  // namespace millrace

#endif  // MILLRACE_GRAPH_RUNTIME_DEVICE_H_
