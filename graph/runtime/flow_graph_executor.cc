// The executor that training uses: the plan as oneTBB continue_nodes, one graph and one compute thread per rank.
//
//   compute      one node; its body runs the kernel.
//   start, done  two nodes. The body of `start` reserves the graph's wait and launches the kernel. `done` has
//                one predecessor more than its edges, put by whoever sees completion - a communicator's
//                thread, a peer's compute thread, or `start` itself - which then releases the wait.
//   not split,   one node; its body launches the kernel and sleeps until it is complete.
//   asynchronous
//
// All bodies run on the rank's compute thread: its arena has no seat for workers, and try_put from a thread
// outside the arena hands the task to the arena's queue without entering it, so a completion never waits
// behind a long kernel. When no task is ready the compute thread sleeps in wait_for_all, and the put wakes it.
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

struct alignas(64) NodeState {
  RankEngine* engine = nullptr;
  Kernel* kernel = nullptr;
  NodeId id = -1;
  int32_t index = -1;
  std::atomic<uint64_t> begun{0};   // epoch of the last step in which its body began
  std::atomic<uint64_t> ended{0};   // ... and ended
  // Of done halves and nodes that wait for their completion: the epoch whose completion is outstanding,
  // kTaken while it is being dealt with, then 0.
  std::atomic<uint64_t> pending{0};
  NodeState* partner = nullptr;
  int64_t issued = 0;     // ticks
  int64_t completed = 0;  // ticks
  std::unique_ptr<ContinueNode> node;
};

class RankEngine {
 public:
  RankEngine(Program program, RankKernels kernels, StepState* step, TraceRecorder* recorder)
      : program_(std::move(program)),
        kernels_(std::move(kernels)),
        step_(step),
        own_ring_(program_.rank, 1),
        ring_(recorder != nullptr ? recorder->NewRing(program_.rank) : &own_ring_),
        states_(program_.nodes.size()) {}

  // On the compute thread: a graph belongs to the arena it is made in.
  void BuildGraph();
  void DestroyGraph() {
    for (NodeState& s : states_) s.node.reset();
    graph_.reset();
  }
  // On the compute thread.
  void RunStep();

  // Any thread. The completion of the operation that `s` launched in attempt `epoch`.
  void Complete(NodeState& s, uint64_t epoch, const absl::Status& status) noexcept;
  // RunStep's thread: takes operations as ended whose completion did not come.
  void GiveUp(uint64_t epoch);

  int rank() const { return program_.rank; }
  uint64_t progress() const { return progress_.load(std::memory_order_relaxed); }
  RankProgress Snapshot() const;

 private:
  void RunCompute(NodeState& s) noexcept;
  void RunBlocking(NodeState& s) noexcept;
  void RunStart(NodeState& s) noexcept;
  void RunDone(NodeState& s) noexcept;

  bool Begin(NodeState& s) {
    s.begun.store(step_->epoch, std::memory_order_relaxed);
    return !step_->failed.load(std::memory_order_relaxed);
  }
  // `progress_` holds the count of ended nodes above the index of the last one.
  void End(NodeState& s) {
    s.ended.store(step_->epoch, std::memory_order_relaxed);
    const uint64_t count = (progress_.load(std::memory_order_relaxed) >> 32) + 1;
    progress_.store(count << 32 | static_cast<uint32_t>(s.index), std::memory_order_relaxed);
  }
  void Launch(NodeState& launcher, NodeState& completes) noexcept;
  void Fail(const NodeState& s, const char* phase, const absl::Status& why) noexcept;

  Program program_;
  RankKernels kernels_;
  StepState* step_;
  SpanRing own_ring_;
  SpanRing* ring_;
  std::vector<NodeState> states_;
  std::vector<NodeState*> roots_;
  std::unique_ptr<tbb::flow::graph> graph_;
  Parker blocked_;
  int64_t last_ = 0;  // ticks: end of the last node
  std::atomic<uint64_t> progress_{0};
};

void RankEngine::BuildGraph() {
  graph_ = std::make_unique<tbb::flow::graph>();
  for (size_t i = 0; i < states_.size(); ++i) {
    const ProgramNode& p = program_.nodes[i];
    NodeState& s = states_[i];
    s.engine = this;
    s.id = p.id;
    s.index = static_cast<int32_t>(i);
    s.kernel = kernels_.by_node[p.id].get();
    s.partner = p.partner < 0 ? nullptr : &states_[p.partner];
    NodeState* const state = &s;
    const auto make = [&](auto body, int extra_predecessors) {
      s.node = std::make_unique<ContinueNode>(*graph_, extra_predecessors, body);
    };
    if (p.role == AsyncRole::kDone) {
      make([this, state](const continue_msg&) noexcept { RunDone(*state); }, 1);
    } else if (p.role == AsyncRole::kStart) {
      make([this, state](const continue_msg&) noexcept { RunStart(*state); }, 0);
    } else if (s.kernel->asynchronous()) {
      make([this, state](const continue_msg&) noexcept { RunBlocking(*state); }, 0);
    } else {
      make([this, state](const continue_msg&) noexcept { RunCompute(*state); }, 0);
    }
    if (p.predecessors.empty()) roots_.push_back(&s);
  }
  for (size_t i = 0; i < states_.size(); ++i) {
    for (int32_t to : program_.nodes[i].successors) {
      tbb::flow::make_edge(*states_[i].node, *states_[to].node);
    }
  }
}

void RankEngine::RunStep() {
  try {
    last_ = Ticks();
    for (NodeState* root : roots_) root->node->try_put(continue_msg());
    graph_->wait_for_all();
    if (step_->failed.load()) graph_->reset();
  } catch (const std::exception& e) {  // TBB's own, for example no memory for a task
    step_->Fail(absl::InternalError(absl::StrCat("flow graph of rank ", rank(), ": ", e.what())));
    GiveUp(step_->epoch);
    graph_->reset();
  }
  // The last touch of the step's state but for the wake-up; the executor outlives this thread's jobs.
  if (step_->ranks_running.fetch_sub(1, std::memory_order_acq_rel) == 1) step_->supervisor.Wake();
}

void RankEngine::Fail(const NodeState& s, const char* phase, const absl::Status& why) noexcept {
  const Node& node = program_.plan->graph.nodes()[s.id];
  step_->Fail(Annotate(why, "node ", node.name, " (", node.op, ") on rank ", rank(), ", ", phase));
}

void RankEngine::RunCompute(NodeState& s) noexcept {
  if (Begin(s)) {
    try {
      const absl::Status status = s.kernel->Run(step_->context);
      if (!status.ok()) Fail(s, "run", status);
    } catch (const std::exception& e) {
      Fail(s, "run", absl::InternalError(absl::StrCat("exception: ", e.what())));
    } catch (...) {
      Fail(s, "run", absl::InternalError("exception of unknown type"));
    }
    const int64_t now = Ticks();
    ring_->Add(s.id, last_, now);
    last_ = now;
  }
  End(s);
}

// Calls the kernel's Start; the completion is that of `completes`.
void RankEngine::Launch(NodeState& launcher, NodeState& completes) noexcept {
  struct Done {  // fits std::function's own storage: nothing is allocated
    NodeState* state;
    uint64_t epoch;
    void operator()(const absl::Status& status) const {
      state->engine->Complete(*state, epoch, status);
    }
  };
  const uint64_t epoch = step_->epoch;
  completes.pending.store(epoch, std::memory_order_release);
  try {
    launcher.kernel->Start(step_->context, Done{&completes, epoch});
  } catch (const std::exception& e) {
    Fail(launcher, "start", absl::InternalError(absl::StrCat("exception: ", e.what())));
    Complete(completes, epoch, absl::OkStatus());
  } catch (...) {
    Fail(launcher, "start", absl::InternalError("exception of unknown type"));
    Complete(completes, epoch, absl::OkStatus());
  }
}

void RankEngine::RunStart(NodeState& s) noexcept {
  NodeState& done = *s.partner;
  if (Begin(s)) {
    s.issued = last_;
    graph_->reserve_wait();
    Launch(s, done);
    const int64_t now = Ticks();
    ring_->Add(s.id, last_, now);
    last_ = now;
  } else {
    done.node->try_put(continue_msg());  // nobody else will
  }
  End(s);
}

void RankEngine::Complete(NodeState& s, uint64_t epoch, const absl::Status& status) noexcept {
  uint64_t expected = epoch;
  if (!s.pending.compare_exchange_strong(expected, kTaken, std::memory_order_acq_rel)) return;
  s.completed = Ticks();
  if (!status.ok()) Fail(s, "completion", status);
  s.pending.store(0, std::memory_order_release);
  if (program_.nodes[s.index].role == AsyncRole::kDone) {
    s.node->try_put(continue_msg());
    graph_->release_wait();
  } else {
    blocked_.Wake();
  }
}

void RankEngine::RunDone(NodeState& s) noexcept {
  s.begun.store(step_->epoch, std::memory_order_relaxed);
  if (!step_->failed.load(std::memory_order_relaxed)) {
    ring_->Add(s.id, s.partner->issued, s.completed);
    last_ = Ticks();
  }
  End(s);
}

void RankEngine::RunBlocking(NodeState& s) noexcept {
  if (Begin(s)) {
    Launch(s, s);
    blocked_.Wait([&] { return s.pending.load(std::memory_order_acquire) == 0; });
    const int64_t now = Ticks();
    ring_->Add(s.id, last_, now);
    last_ = now;
  }
  End(s);
}

void RankEngine::GiveUp(uint64_t epoch) {
  for (NodeState& s : states_) {
    if (s.pending.load(std::memory_order_acquire) == epoch) {
      Complete(s, epoch, absl::AbortedError("given up"));
    }
  }
}

RankProgress RankEngine::Snapshot() const {
  RankProgress p;
  p.program = &program_;
  const uint64_t epoch = step_->epoch;
  for (const NodeState& s : states_) {
    NodePhase phase = NodePhase::kNotBegun;
    if (s.ended.load(std::memory_order_relaxed) == epoch) {
      phase = NodePhase::kEnded;
    } else if (s.begun.load(std::memory_order_relaxed) == epoch) {
      phase = NodePhase::kRunning;
    } else if (s.pending.load(std::memory_order_relaxed) == epoch) {
      phase = NodePhase::kInFlight;
    }
    p.phase.push_back(phase);
  }
  const uint64_t progress = progress_.load(std::memory_order_relaxed);
  const int32_t last = static_cast<int32_t>(progress & 0xffffffff);
  if (progress != 0 && p.phase[last] == NodePhase::kEnded) p.last_ended = last;
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
  uint64_t Progress() const {
    uint64_t sum = 0;
    for (const auto& rank : ranks_) sum += rank->progress() >> 32;
    return sum;
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
    ranks_.push_back(std::make_unique<RankEngine>(std::move(program), std::move(k), &step_,
                                                  options_.recorder));
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
  uint64_t seen = Progress();
  int64_t seen_at = clock_->Nanoseconds();
  while (!step_.supervisor.WaitFor(ended_or_failed, look_every)) {
    const uint64_t now = Progress();
    if (now != seen) {
      seen = now;
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
  if (!at_rest() && options_.abort_communication) options_.abort_communication(error);
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
