// One rank's way to its device: issues the nodes of a stream program in their order, with the waits and events that
// the program asks for, captured runs included; tells what has ended and when.
//
//   ASSIGN_OR_RETURN(auto issuer, DeviceIssuer::Create(device, program, kernels, options));
//   RETURN_IF_ERROR(issuer->BeginStep(context));
//   for (int32_t i : issuer->program().issue_order) RETURN_IF_ERROR(issuer->Issue(i));
//   issuer->AwaitAll([](const absl::Status& status) { ... });
//
// Captured runs: the first step issues their nodes one by one (libraries may set themselves up), the second captures,
// and from then on a run is one launch. A run is what CapturableRuns finds among nodes whose kernels say that they may
// be captured.
//
// Threads: one issue thread; ended() and progress() by any.
#ifndef MILLRACE_GRAPH_RUNTIME_DEVICE_ISSUER_H_
#define MILLRACE_GRAPH_RUNTIME_DEVICE_ISSUER_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "graph/runtime/device.h"
#include "graph/runtime/kernel.h"
#include "graph/runtime/program.h"
#include "graph/runtime/stream_program.h"
#include "graph/runtime/stream_watch.h"
#include "graph/trace/recorder.h"

namespace millrace {

struct DeviceIssuerOptions {
  bool timed = false;    // notes when nodes begin, too
  bool capture = false;  // captured runs
};

class DeviceIssuer {
 public:
  using Then = StreamWatch::Then;

  // All outlive the issuer.
  static absl::StatusOr<std::unique_ptr<DeviceIssuer>> Create(Device* device,
                                                              const Program& program,
                                                              const RankKernels& kernels,
                                                              const DeviceIssuerOptions& options);

  const StreamProgram& program() const { return streams_; }
  absl::Status BeginStep(const StepContext& context);
  // The next node of issue_order. Throws what kernels throw.
  absl::Status Issue(int32_t i);
  // When the gate of host node `i` is open.
  void AwaitGate(int32_t i, Then then) { watch_->Await(streams_.nodes[i].waits, std::move(then)); }
  // When all that was issued has ended.
  void AwaitAll(Then then);
  // After a failed step, before AwaitAll.
  void Abandon(const absl::Status& why);

  // Whether a device node, or done half, of this step has ended; has been issued.
  bool ended(int32_t i) const {
    return watch_->ended(streams_.nodes[i].stream) > streams_.nodes[i].seq;
  }
  bool issued(int32_t i) const {
    return issued_[streams_.nodes[i].stream].load(std::memory_order_relaxed) >
           streams_.nodes[i].seq;
  }
  int64_t progress() const { return watch_->ended_in_all(); }

  // After a step whose work has all ended: a span for every device node. Only of timed issuers.
  absl::Status AddSpans(SpanRing* ring) const;

  int64_t issue_ticks() const { return issue_ticks_; }  // of all steps, spent in Issue
  int64_t issued_nodes() const { return issued_nodes_; }
  int captured_runs() const { return static_cast<int>(runs_.size()); }

 private:
  struct Run {
    int32_t begin = 0, end = 0;  // places in issue_order
    GraphId graph = -1;
  };
  DeviceIssuer(Device* device, const Program& program, const RankKernels& kernels,
               const DeviceIssuerOptions& options)
      : device_(device), program_(program), kernels_(kernels), options_(options) {}
  absl::Status Prepare();
  absl::Status Put(int32_t i);  // the node's work, between its events
  absl::Status WaitFor(const StreamNode& node);

  Device* const device_;
  const Program& program_;
  const RankKernels& kernels_;
  const DeviceIssuerOptions options_;
  StreamProgram streams_;
  std::vector<StreamId> ids_;              // per stream
  std::vector<std::vector<EventId>> end_;  // per stream and op
  std::vector<std::vector<EventId>>
      watched_;                   // ... what tells that it has ended: of a run, the last op's
  std::vector<EventId> begin_;    // per node, when timed
  std::vector<EventId> drained_;  // per stream
  std::unique_ptr<std::atomic<int32_t>[]> issued_;  // per stream
  std::vector<Run> runs_;
  std::vector<int32_t>
      run_at_;  // per place in issue_order: the run that begins or goes on there, -1
  std::unique_ptr<StreamWatch> watch_;
  StepContext context_;
  int32_t place_ = 0;  // in issue_order
  int64_t steps_ = 0;  // begun
  bool abandoned_ = false;
  int64_t issue_ticks_ = 0, issued_nodes_ = 0;
};

}  // namespace millrace

#endif  // MILLRACE_GRAPH_RUNTIME_DEVICE_ISSUER_H_
