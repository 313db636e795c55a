// The executor that training uses: the plan as oneTBB continue_nodes, one graph and one compute thread per rank.
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
// One time stamp per node: between two bodies the thread does nothing but TBB's own work (about 30 ns), so
// the end of one node is taken as the begin of the next, except after a done node, whose body comes after
// a wait and stamps anew.

#include <tbb/flow_graph.h>

#include <atomic>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/blocking_counter.h"
#include "graph/base/status.h"
#include "graph/runtime/executor.h"
#include "graph/runtime/parker.h"
#include "graph/runtime/program.h"
#include "graph/runtime/stuck_report.h"

namespace millrace {
namespace {

using tbb::flow::continue_msg;
using ContinueNode = tbb::flow::continue_node<continue_msg>;

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

constexpr uint64_t kTaken = ~uint64_t{0};

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
        operations_(program_.nodes.size()) {}

  // On the compute thread: a graph belongs to the arena it is made in.
  void BuildGraph();
  void DestroyGraph() {
    while (mailbox_.posting.load(std::memory_order_acquire) != 0) std::this_thread::yield();
    nodes_.clear();
    graph_.reset();
  }
  // On the compute thread.
  void RunStep();

  // Any thread. The completion of the operation launched in attempt `epoch`.
  void Complete(Operation& o, uint64_t epoch, const absl::Status& status) noexcept;
  // RunStep's thread: takes operations as ended whose completion did not come.
  void GiveUp(uint64_t epoch);

  int rank() const { return program_.rank; }
  // Index of the node that ended last. Within a step every node ends once: as long as the number stays,
  // nothing has ended.
  int32_t last_ended() const { return last_ended_.load(std::memory_order_relaxed); }
  RankProgress Snapshot() const;

 private:
  void RunCompute(const NodeRef& n) noexcept;
  void RunBlocking(Operation& o) noexcept;
  void RunStart(const NodeRef& n, Operation& o) noexcept;
  void RunDone(const NodeRef& n, Operation& o) noexcept;
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

  Program program_;
  RankKernels kernels_;
  StepState* step_;
  SpanRing own_ring_;
  SpanRing* ring_;
  int64_t last_ = 0;  // ticks: end of the last node
  std::atomic<int32_t> last_ended_{-1};
  // Per node, 4 bytes so that they stay in the cache: stores that miss it hold up TBB's locks.
  std::vector<std::atomic<uint32_t>> phase_;
  std::vector<Operation> operations_;  // at the index of the node that each ends
  std::vector<std::unique_ptr<ContinueNode>> nodes_;
  std::vector<ContinueNode*> roots_;
  std::unique_ptr<tbb::flow::graph> graph_;
  int outstanding_ = 0;  // operations started whose done half has not been put

  // What other threads write, on a cache line of its own.
  struct alignas(64) Mailbox {
    std::atomic<Operation*> completed{nullptr};  // latest first
    std::atomic<int> posting{0};                 // threads that may still touch the mailbox
    Parker parker;
  };
  Mailbox mailbox_;
};

void RankEngine::BuildGraph() {
  graph_ = std::make_unique<tbb::flow::graph>();
  const int32_t count = static_cast<int32_t>(program_.nodes.size());
  for (int32_t i = 0; i < count; ++i) {
    const ProgramNode& p = program_.nodes[i];
    const NodeRef n{kernels_.by_node[p.id].get(), p.id, i};
    const auto add = [&](auto body, int extra_predecessors) {
      nodes_.push_back(std::make_unique<ContinueNode>(*graph_, extra_predecessors, body));
    };
    if (p.role == AsyncRole::kDone) {
      Operation* const o = &operations_[i];
      add([this, n, o](const continue_msg&) noexcept { RunDone(n, *o); }, 1);
      o->engine = this;
      o->node = nodes_.back().get();
      o->ref = {nullptr, p.id, i};
    } else if (p.role == AsyncRole::kStart) {
      Operation* const o = &operations_[p.partner];
      add([this, n, o](const continue_msg&) noexcept { RunStart(n, *o); }, 0);
    } else if (n.kernel->asynchronous()) {
      Operation* const o = &operations_[i];
      add([this, o](const continue_msg&) noexcept { RunBlocking(*o); }, 0);
      o->engine = this;
      o->ref = n;
    } else {
      add([this, n](const continue_msg&) noexcept { RunCompute(n); }, 0);
    }
    if (p.predecessors.empty()) roots_.push_back(nodes_.back().get());
  }
  for (int32_t i = 0; i < count; ++i) {
    for (int32_t to : program_.nodes[i].successors) tbb::flow::make_edge(*nodes_[i], *nodes_[to]);
  }
}

void RankEngine::RunStep() {
  try {
    last_ = Ticks();
    outstanding_ = 0;
    for (ContinueNode* root : roots_) root->try_put(continue_msg());
    graph_->wait_for_all();
    while (outstanding_ > 0) {
      mailbox_.parker.Wait(
          [this] { return mailbox_.completed.load(std::memory_order_acquire) != nullptr; });
      PutCompleted();
      graph_->wait_for_all();
    }
    if (step_->failed.load()) graph_->reset();
  } catch (const std::exception& e) {  // TBB's own, for example no memory for a task
    step_->Fail(absl::InternalError(absl::StrCat("flow graph of rank ", rank(), ": ", e.what())));
    GiveUp(step_->epoch);
    mailbox_.completed.store(nullptr);
    graph_->reset();
  }
  // The last touch of the step's state but for the wake-up; the executor outlives this thread's jobs.
  if (step_->ranks_running.fetch_sub(1, std::memory_order_acq_rel) == 1) step_->supervisor.Wake();
}

void RankEngine::Fail(NodeId id, const char* phase, const absl::Status& why) noexcept {
  const Node& node = program_.plan->graph.nodes()[id];
  step_->Fail(Annotate(why, "node ", node.name, " (", node.op, ") on rank ", rank(), ", ", phase));
}

void RankEngine::RunCompute(const NodeRef& n) noexcept {
  if (Begin(n)) {
    try {
      const absl::Status status = n.kernel->Run(step_->context);
      if (!status.ok()) Fail(n.id, "run", status);
    } catch (const std::exception& e) {
      Fail(n.id, "run", absl::InternalError(absl::StrCat("exception: ", e.what())));
    } catch (...) {
      Fail(n.id, "run", absl::InternalError("exception of unknown type"));
    }
    Stamp(n);
  }
  End(n);
}

// Calls the kernel's Start; the completion is that of `o`.
void RankEngine::Launch(const NodeRef& launcher, Operation& o) noexcept {
  struct Done {  // fits std::function's own storage: nothing is allocated
    Operation* operation;
    uint64_t epoch;
    void operator()(const absl::Status& status) const {
      operation->engine->Complete(*operation, epoch, status);
    }
  };
  const uint64_t epoch = step_->epoch;
  o.issued = last_;
  o.pending.store(epoch, std::memory_order_release);
  try {
    launcher.kernel->Start(step_->context, Done{&o, epoch});
    // The lane's next operation was last written by the thread that completed it: fetch it while waiting.
    __builtin_prefetch(&o + 1, /*for writing=*/1);
  } catch (const std::exception& e) {
    Fail(launcher.id, "start", absl::InternalError(absl::StrCat("exception: ", e.what())));
    Complete(o, epoch, absl::OkStatus());
  } catch (...) {
    Fail(launcher.id, "start", absl::InternalError("exception of unknown type"));
    Complete(o, epoch, absl::OkStatus());
  }
}

void RankEngine::RunStart(const NodeRef& n, Operation& o) noexcept {
  if (Begin(n)) {
    ++outstanding_;
    Launch(n, o);
    Stamp(n);
  } else {
    o.node->try_put(continue_msg());  // nobody else will
  }
  End(n);
}

void RankEngine::Complete(Operation& o, uint64_t epoch, const absl::Status& status) noexcept {
  uint64_t expected = epoch;
  if (!o.pending.compare_exchange_strong(expected, kTaken, std::memory_order_acq_rel)) return;
  o.completed = Ticks();
  if (!status.ok()) Fail(o.ref.id, "completion", status);
  mailbox_.posting.fetch_add(1, std::memory_order_relaxed);
  o.pending.store(0,
                  std::memory_order_release);  // from here on the step may end, if `o` is not split
  if (o.node != nullptr) {
    Operation* latest = mailbox_.completed.load(std::memory_order_relaxed);
    do {
      o.next = latest;
    } while (!mailbox_.completed.compare_exchange_weak(latest, &o, std::memory_order_release,
                                                       std::memory_order_relaxed));
  }
  mailbox_.parker.Wake();
  mailbox_.posting.fetch_sub(1, std::memory_order_release);
}

void RankEngine::PutCompleted() noexcept {
  Operation* latest = mailbox_.completed.exchange(nullptr, std::memory_order_acquire);
  Operation* first = nullptr;
  while (latest != nullptr) {  // in the order in which they completed
    Operation* const next = latest->next;
    latest->next = first;
    first = latest;
    latest = next;
  }
  for (Operation* o = first; o != nullptr;) {
    Operation* const next = o->next;
    --outstanding_;
    o->node->try_put(continue_msg());
    o = next;
  }
}

void RankEngine::RunDone(const NodeRef& n, Operation& o) noexcept {
  if (Begin(n)) {
    ring_->Add(n.id, o.issued, o.completed);
    last_ = Ticks();
  }
  End(n);
}

void RankEngine::RunBlocking(Operation& o) noexcept {
  if (Begin(o.ref)) {
    Launch(o.ref, o);
    mailbox_.parker.Wait([&] { return o.pending.load(std::memory_order_acquire) == 0; });
    Stamp(o.ref);
  }
  End(o.ref);
}

void RankEngine::GiveUp(uint64_t epoch) {
  for (Operation& o : operations_) {
    if (o.pending.load(std::memory_order_acquire) == epoch) {
      Complete(o, epoch, absl::AbortedError("given up"));
    }
  }
}

RankProgress RankEngine::Snapshot() const {
  RankProgress p;
  p.program = &program_;
  const uint64_t epoch = step_->epoch;
  for (size_t i = 0; i < program_.nodes.size(); ++i) {
    const uint32_t seen = phase_[i].load(std::memory_order_relaxed);
    NodePhase phase = NodePhase::kNotBegun;
    if (seen == EndedIn(epoch)) {
      phase = NodePhase::kEnded;
    } else if (seen == BegunIn(epoch)) {
      phase = NodePhase::kRunning;
    } else if (operations_[i].pending.load(std::memory_order_relaxed) == epoch) {
      phase = NodePhase::kInFlight;
    }
    p.phase.push_back(phase);
  }
  const int32_t last = last_ended();
  if (last >= 0 && p.phase[last] == NodePhase::kEnded) p.last_ended = last;
  return p;
}

class FlowGraphExecutor : public Executor {
 public:
  explicit FlowGraphExecutor(ExecutorOptions options) : options_(std::move(options)) {
    clock_ = options_.clock != nullptr ? options_.clock : Clock::Real();
  }
  ~FlowGraphExecutor() override {
    OnEveryRank([](RankEngine& e) { e.DestroyGraph(); });
  }

  absl::Status Build(const Plan& plan, std::vector<RankKernels> kernels);
  absl::Status RunStep(const StepContext& context) override;
  bool at_rest() const override { return step_.ranks_running.load(std::memory_order_acquire) == 0; }

 private:
  template <typename Job>
  void OnEveryRank(const Job& job) {
    absl::BlockingCounter running(static_cast<int>(ranks_.size()));
    for (auto& rank : ranks_) {
      threads_->Post(rank->rank(), [&job, &running, engine = rank.get()] {
        job(*engine);
        running.DecrementCount();
      });
    }
    running.Wait();
  }
  std::vector<int32_t> LastEnded() const {
    std::vector<int32_t> last;
    for (const auto& rank : ranks_) last.push_back(rank->last_ended());
    return last;
  }
  void Supervise();
  bool AwaitRest(const Clock* clock, double seconds);
  absl::Status StuckStatus() const;

  ExecutorOptions options_;
  const Clock* clock_ = nullptr;
  std::shared_ptr<ComputeThreads> threads_;
  StepState step_;
  std::vector<std::unique_ptr<RankEngine>> ranks_;
};

absl::Status FlowGraphExecutor::Build(const Plan& plan, std::vector<RankKernels> kernels) {
  std::vector<int> ranks;
  for (const RankKernels& k : kernels) ranks.push_back(k.rank);
  threads_ = options_.threads;
  if (threads_ == nullptr) {
    ASSIGN_OR_RETURN(threads_, ComputeThreads::Create(ranks, options_.thread_start));
  }
  for (RankKernels& k : kernels) {
    if (!threads_->Has(k.rank)) {
      return absl::InvalidArgumentError(absl::StrCat("rank ", k.rank, " has no compute thread"));
    }
    ASSIGN_OR_RETURN(Program program, MakeProgram(plan, k));
    ranks_.push_back(
        std::make_unique<RankEngine>(std::move(program), std::move(k), &step_, options_.recorder));
  }
  OnEveryRank([](RankEngine& e) { e.BuildGraph(); });
  return absl::OkStatus();
}

absl::Status FlowGraphExecutor::RunStep(const StepContext& context) {
  if (!at_rest()) {
    return absl::FailedPreconditionError(
        "a kernel of a step that was given up still runs; this executor cannot run another step");
  }
  step_.context = context;
  ++step_.epoch;
  step_.error = absl::OkStatus();
  step_.failed.store(false);
  step_.ranks_running.store(static_cast<int>(ranks_.size()));
  if (options_.recorder != nullptr) options_.recorder->BeginStep(context.step);
  for (auto& rank : ranks_) {
    threads_->Post(rank->rank(), [engine = rank.get()] { engine->RunStep(); });
  }
  Supervise();
  if (options_.recorder != nullptr && at_rest()) options_.recorder->EndStep();
  std::lock_guard<std::mutex> lock(step_.mutex);
  return step_.error;
}

// Until the step has come to rest, or cannot be brought to rest.
void FlowGraphExecutor::Supervise() {
  const auto ended_or_failed = [this] { return at_rest() || step_.failed.load(); };
  const int64_t stuck_ns = static_cast<int64_t>(options_.stuck_seconds * 1e9);
  const std::chrono::nanoseconds look_every(
      std::min<int64_t>(std::max<int64_t>(stuck_ns / 8, 1'000'000), 50'000'000));
  std::vector<int32_t> seen = LastEnded();
  int64_t seen_at = clock_->Nanoseconds();
  while (!step_.supervisor.WaitFor(ended_or_failed, look_every)) {
    std::vector<int32_t> now = LastEnded();
    if (now != seen) {
      seen = std::move(now);
      seen_at = clock_->Nanoseconds();
    } else if (clock_->Nanoseconds() - seen_at >= stuck_ns) {
      step_.Fail(StuckStatus());
    }
  }
  if (!step_.failed.load()) return;

  absl::Status error;
  {
    std::lock_guard<std::mutex> lock(step_.mutex);
    error = step_.error;
  }
  // Also when all is at rest here: peers in other processes may wait for what these ranks did not start.
  if (options_.abort_communication) options_.abort_communication(error);
  if (AwaitRest(clock_, options_.drain_seconds)) return;
  for (auto& rank : ranks_) rank->GiveUp(step_.epoch);
  if (AwaitRest(Clock::Real(), 1.0)) return;
  std::string busy;
  for (auto& rank : ranks_) {
    const RankProgress p = rank->Snapshot();
    for (int32_t i = 0; i < p.program->issue_count; ++i) {
      if (p.phase[i] != NodePhase::kRunning) continue;
      absl::StrAppend(&busy, "; the kernel of ",
                      p.program->plan->graph.nodes()[p.program->nodes[i].id].name, " on rank ",
                      p.program->rank, " still runs and cannot be ended");
    }
  }
  std::lock_guard<std::mutex> lock(step_.mutex);
  step_.error = absl::Status(error.code(), absl::StrCat(error.message(), busy));
}

bool FlowGraphExecutor::AwaitRest(const Clock* clock, double seconds) {
  const int64_t begin = clock->Nanoseconds();
  while (!step_.supervisor.WaitFor([this] { return at_rest(); }, std::chrono::milliseconds(10))) {
    if (clock->Nanoseconds() - begin > static_cast<int64_t>(seconds * 1e9)) return at_rest();
  }
  return true;
}

absl::Status FlowGraphExecutor::StuckStatus() const {
  std::vector<RankProgress> progress;
  for (const auto& rank : ranks_) progress.push_back(rank->Snapshot());
  std::string text =
      absl::StrCat("step ", step_.context.step, " is stuck: no node has finished for ",
                   options_.stuck_seconds, " s\n", WaitForChain(progress));
  if (options_.describe_communication) {
    absl::StrAppend(&text, "\n", options_.describe_communication());
  }
  return absl::DeadlineExceededError(text);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Executor>> MakeFlowGraphExecutor(const Plan& plan,
                                                                std::vector<RankKernels> kernels,
                                                                ExecutorOptions options) {
  auto executor = std::make_unique<FlowGraphExecutor>(std::move(options));
  RETURN_IF_ERROR(executor->Build(plan, std::move(kernels)));
  return std::unique_ptr<Executor>(std::move(executor));
}

}  // namespace millrace
