// One rank of the flow graph executor: its program as oneTBB continue_nodes, and the thread that runs them.
//
//   compute      one node; its body runs the kernel.
//   start, done  two nodes. The body of `start` launches the kernel. `done` has one predecessor more than its
//                edges, put when the operation has completed.
//   not split,   one node; its body launches the kernel and sleeps until it is complete.
//   asynchronous
//
// All bodies run on the rank's compute thread: its arena has no seat for workers. Whoever completes an
// operation - a communicator's thread, a peer's compute thread, `start` itself - hangs it into the rank's list and
// wakes the compute thread, which puts it when it comes to the end of the body it is in. So a completion never waits
// for the graph, and no other thread enters it.
//
// When no node is ready, wait_for_all returns and the compute thread sleeps in its own Parker rather than in TBB.
// TBB waits with sched_yield: on a machine with more threads than cores (data loading, other processes) each
// yield may hand the core away for a scheduler's slice, while a sleeper that is woken gets it back at once.
//
// With a device (device_issuer.h) the nodes of its streams are continue_nodes, too, but their bodies only issue: the
// compute thread runs ahead of the device in the plan's order. A host node that follows some of them has a gate before
// it, a node that asks the completion thread and is put through like an asynchronous operation. The step is over when
// all streams have come to their end.
//
// One time stamp per node: between two bodies the thread does nothing but TBB's own work (about 30 ns), so
// the end of one node is taken as the begin of the next, except after a done node, whose body comes after
// a wait and stamps anew.
#ifndef MILLRACE_GRAPH_RUNTIME_RANK_ENGINE_H_
#define MILLRACE_GRAPH_RUNTIME_RANK_ENGINE_H_

#include <tbb/flow_graph.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "graph/runtime/device_issuer.h"
#include "graph/runtime/kernel.h"
#include "graph/runtime/parker.h"
#include "graph/runtime/program.h"
#include "graph/runtime/stuck_report.h"
#include "graph/trace/recorder.h"

namespace millrace {

using ContinueNode = tbb::flow::continue_node<tbb::flow::continue_msg>;

// What all ranks of a step share.
struct StepState {
  std::atomic<bool> failed{false};
  std::atomic<int> ranks_running{0};
  Parker supervisor;  // RunStep's thread: woken by the last rank to end and by the first error
  StepContext context;
  uint64_t epoch = 0;  // number of this step's attempt; never used twice

  std::mutex mutex;
  absl::Status error;  // guarded by mutex

  void Fail(absl::Status why) {
    {
      std::lock_guard<std::mutex> lock(mutex);
      if (failed.load(std::memory_order_relaxed)) return;
      error = std::move(why);
      failed.store(true, std::memory_order_release);
    }
    supervisor.Wake();
  }
};

class RankEngine;

// What a body needs to know of its node; lies in the body, so that running it touches no further memory.
struct NodeRef {
  Kernel* kernel = nullptr;
  NodeId id = -1;
  int32_t index = -1;
};

// An operation that completes later: a done half, or a node that waits for its completion.
struct alignas(64) Operation {
  RankEngine* engine = nullptr;
  ContinueNode* node = nullptr;  // null when the compute thread waits
  Operation* next = nullptr;     // in the list of completed ones
  NodeRef ref;                   // whose kernel launches it
  // The epoch whose completion is outstanding, kTaken while it is being dealt with, then 0.
  std::atomic<uint64_t> pending{0};
  int64_t issued = 0;     // ticks
  int64_t completed = 0;  // ticks
};

class RankEngine {
 public:
  RankEngine(Program program, RankKernels kernels, StepState* step, TraceRecorder* recorder)
      : program_(std::move(program)),
        kernels_(std::move(kernels)),
        step_(step),
        own_ring_(program_.rank, 1),
        ring_(recorder != nullptr ? recorder->NewRing(program_.rank) : &own_ring_),
        phase_(program_.nodes.size()),
        operations_(program_.nodes.size()),
        gates_(program_.nodes.size()) {}

  // Before BuildGraph; the device outlives the engine.
  absl::Status OpenDevice(Device* device, const DeviceIssuerOptions& options);
  // Null: no device.
  const DeviceIssuer* issuer() const { return issuer_.get(); }

  // On the compute thread: a graph belongs to the arena it is made in.
  void BuildGraph();
  void DestroyGraph() {
    while (mailbox_.posting.load(std::memory_order_acquire) != 0) std::this_thread::yield();
    nodes_.clear();
    gate_nodes_.clear();
    graph_.reset();
  }
  // On the compute thread.
  void RunStep();

  // Any thread. The completion of the operation launched in attempt `epoch`.
  void Complete(Operation& o, uint64_t epoch, const absl::Status& status) noexcept;
  // RunStep's thread: takes operations as ended whose completion did not come.
  void GiveUp(uint64_t epoch);

  int rank() const { return program_.rank; }
  // As long as the number stays within a step, nothing has ended.
  int64_t progress() const {
    const int64_t last = last_ended_.load(std::memory_order_relaxed);
    return issuer_ == nullptr ? last : last + (issuer_->progress() << 32);
  }
  RankProgress Snapshot() const;

 private:
  void RunCompute(const NodeRef& n) noexcept;
  void RunBlocking(Operation& o) noexcept;
  void RunStart(const NodeRef& n, Operation& o) noexcept;
  void RunDone(const NodeRef& n, Operation& o) noexcept;
  void RunIssue(const NodeRef& n) noexcept;
  void RunGate(int32_t i) noexcept;
  void FinishDevice() noexcept;
  NodePhase DevicePhase(int32_t i) const;
  void Launch(const NodeRef& launcher, Operation& o) noexcept;
  void Fail(NodeId id, const char* phase, const absl::Status& why) noexcept;

  // False: the step has failed, do nothing.
  bool Begin(const NodeRef& n) {
    phase_[n.index].store(BegunIn(step_->epoch), std::memory_order_relaxed);
    return !step_->failed.load(std::memory_order_relaxed);
  }
  void Stamp(const NodeRef& n) {
    const int64_t now = Ticks();
    ring_->Add(n.id, last_, now);
    last_ = now;
  }
  void End(const NodeRef& n) {
    phase_[n.index].store(EndedIn(step_->epoch), std::memory_order_relaxed);
    last_ended_.store(n.index, std::memory_order_relaxed);
    if (mailbox_.completed.load(std::memory_order_relaxed) != nullptr) PutCompleted();
  }
  void PutCompleted() noexcept;
  static uint32_t BegunIn(uint64_t epoch) { return static_cast<uint32_t>(epoch * 2); }
  static uint32_t EndedIn(uint64_t epoch) { return static_cast<uint32_t>(epoch * 2 + 1); }

  // What others call to complete an operation; fits std::function's own storage: nothing is allocated.
  struct Done {
    Operation* operation;
    uint64_t epoch;
    void operator()(const absl::Status& status) const {
      operation->engine->Complete(*operation, epoch, status);
    }
  };

  Program program_;
  RankKernels kernels_;
  std::unique_ptr<DeviceIssuer> issuer_;
  StepState* step_;
  SpanRing own_ring_;
  SpanRing* ring_;
  int64_t last_ = 0;  // ticks: end of the last node
  std::atomic<int32_t> last_ended_{-1};
  // Per node, 4 bytes so that they stay in the cache: stores that miss it hold up TBB's locks.
  std::vector<std::atomic<uint32_t>> phase_;
  std::vector<Operation> operations_;  // at the index of the node that each ends
  std::vector<Operation> gates_;       // of host nodes that follow nodes of the device
  std::atomic<uint64_t> given_up_{0};  // the attempt whose work on the device did not end
  Operation device_end_;               // of the step on the device
  std::vector<std::unique_ptr<ContinueNode>> nodes_;  // null: a done half of the device
  std::vector<std::unique_ptr<ContinueNode>> gate_nodes_;
  std::vector<ContinueNode*> roots_;
  std::unique_ptr<tbb::flow::graph> graph_;
  int outstanding_ = 0;  // operations started, and gates asked for, that have not been put

  // What other threads write, on a cache line of its own.
  struct alignas(64) Mailbox {
    std::atomic<Operation*> completed{nullptr};  // latest first
    std::atomic<int> posting{0};                 // threads that may still touch the mailbox
    Parker parker;
  };
  Mailbox mailbox_;
};

}  // namespace millrace

#endif  // MILLRACE_GRAPH_RUNTIME_RANK_ENGINE_H_
