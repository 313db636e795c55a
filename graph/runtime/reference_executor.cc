// The executor that is obviously right: one thread, the caller's, walks all ranks in turn. A rank goes along its
// issue lane until it comes to a node with an unfinished predecessor; then the next rank has its turn. The last
// member that starts a collective completes it for all, within its Start, when the communicator does its
// work in place; completions from other threads are waited for.
//
// Nothing can be stuck unnoticed: when no rank can go on and every operation in flight lacks a member that is one of
// these ranks, the step is stuck at once, without waiting for stuck_seconds.

#include <atomic>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "graph/base/status.h"
#include "graph/runtime/executor.h"
#include "graph/runtime/parker.h"
#include "graph/runtime/program.h"
#include "graph/runtime/stuck_report.h"

namespace millrace {
namespace {

// One operation in flight, at the index of the node that it ends. `done` may come late, from any thread.
struct Operation {
  std::mutex mutex;
  uint64_t attempt = 0;  // of the step it was launched in; 0 when it is complete
  absl::Status status;
  int64_t issued = 0;  // ticks
  int64_t completed = 0;
};

struct Rank {
  Program program;
  RankKernels kernels;
  RankProgress progress;
  std::unique_ptr<Operation[]> operations;
  int32_t next = 0;  // in the issue lane
  SpanRing* ring = nullptr;
};

class ReferenceExecutor : public Executor {
 public:
  explicit ReferenceExecutor(ExecutorOptions options) : options_(std::move(options)) {
    clock_ = options_.clock != nullptr ? options_.clock : Clock::Real();
  }

  ~ReferenceExecutor() override {
    while (waking_.load(std::memory_order_acquire) != 0) std::this_thread::yield();
  }

  absl::Status Build(const Plan& plan, std::vector<RankKernels> kernels);
  absl::Status RunStep(const StepContext& context) override;

 private:
  absl::Status Walk(const StepContext& context);
  // Goes on with one rank as far as possible; `moved` tells whether anything ended or began.
  absl::Status Advance(Rank& rank, const StepContext& context, bool& moved);
  absl::Status RunNode(Rank& rank, int32_t index, const StepContext& context);
  absl::Status CollectCompletions(Rank& rank, bool& moved);
  // Nothing moves. Waits for a completion, or says that none can come.
  absl::Status AwaitCompletion();
  void Launch(Rank& rank, int32_t launcher, int32_t completes, const StepContext& context);
  void Complete(Operation& operation, uint64_t attempt, absl::Status status);
  void Drain();
  bool Ready(const Rank& rank, int32_t index) const;
  void End(Rank& rank, int32_t index, int64_t begin, int64_t end);
  absl::Status At(const Rank& rank, int32_t index, const char* phase, const absl::Status& status) {
    const Node& node = rank.program.plan->graph.nodes()[rank.program.nodes[index].id];
    return Annotate(status, "node ", node.name, " (", node.op, ") on rank ", rank.program.rank,
                    ", ", phase);
  }
  std::vector<RankProgress> Progress() const {
    std::vector<RankProgress> all;
    for (const auto& rank : ranks_) all.push_back(rank->progress);
    return all;
  }

  ExecutorOptions options_;
  const Clock* clock_ = nullptr;
  std::vector<std::unique_ptr<Rank>> ranks_;
  bool started_ = false;
  uint64_t attempt_ = 0;
  std::atomic<uint64_t> completions_{0};
  Parker waiting_;
  std::atomic<int> waking_{0};  // threads that may still touch waiting_
};

absl::Status ReferenceExecutor::Build(const Plan& plan, std::vector<RankKernels> kernels) {
  for (RankKernels& k : kernels) {
    auto rank = std::make_unique<Rank>();
    ASSIGN_OR_RETURN(rank->program, MakeProgram(plan, k));
    rank->kernels = std::move(k);
    rank->progress.program = &rank->program;
    rank->operations.reset(new Operation[rank->program.nodes.size()]);
    if (options_.recorder != nullptr) rank->ring = options_.recorder->NewRing(rank->program.rank);
    ranks_.push_back(std::move(rank));
  }
  return absl::OkStatus();
}

absl::Status ReferenceExecutor::RunStep(const StepContext& context) {
  if (!started_) {
    for (auto& rank : ranks_) {
      if (options_.thread_start) options_.thread_start(rank->program.rank);
    }
    started_ = true;
  }
  ++attempt_;
  for (auto& rank : ranks_) {
    rank->progress.phase.assign(rank->program.nodes.size(), NodePhase::kNotBegun);
    rank->progress.last_ended = -1;
    rank->next = 0;
  }
  if (options_.recorder != nullptr) options_.recorder->BeginStep(context.step);
  const absl::Status status = Walk(context);
  if (!status.ok()) {
    if (options_.abort_communication) options_.abort_communication(status);
    Drain();
    return status;
  }
  if (options_.recorder != nullptr) options_.recorder->EndStep();
  return absl::OkStatus();
}

absl::Status ReferenceExecutor::Walk(const StepContext& context) {
  while (true) {
    bool moved = false;
    bool finished = true;
    for (auto& rank : ranks_) {
      RETURN_IF_ERROR(Advance(*rank, context, moved));
      for (NodePhase phase : rank->progress.phase) finished &= phase == NodePhase::kEnded;
    }
    if (finished) return absl::OkStatus();
    if (!moved) RETURN_IF_ERROR(AwaitCompletion());
  }
}

bool ReferenceExecutor::Ready(const Rank& rank, int32_t index) const {
  for (int32_t p : rank.program.nodes[index].predecessors) {
    if (rank.progress.phase[p] != NodePhase::kEnded) return false;
  }
  return true;
}

void ReferenceExecutor::End(Rank& rank, int32_t index, int64_t begin, int64_t end) {
  rank.progress.phase[index] = NodePhase::kEnded;
  rank.progress.last_ended = index;
  if (rank.ring != nullptr) rank.ring->Add(rank.program.nodes[index].id, begin, end);
}

absl::Status ReferenceExecutor::Advance(Rank& rank, const StepContext& context, bool& moved) {
  while (true) {
    RETURN_IF_ERROR(CollectCompletions(rank, moved));
    if (rank.next == rank.program.issue_count) return absl::OkStatus();
    const NodePhase phase = rank.progress.phase[rank.next];
    if (phase == NodePhase::kEnded) {
      ++rank.next;
    } else if (phase == NodePhase::kNotBegun && Ready(rank, rank.next)) {
      RETURN_IF_ERROR(RunNode(rank, rank.next, context));
      moved = true;
    } else {
      return absl::OkStatus();
    }
  }
}

absl::Status ReferenceExecutor::RunNode(Rank& rank, int32_t index, const StepContext& context) {
  const ProgramNode& node = rank.program.nodes[index];
  Kernel& kernel = *rank.kernels.by_node[node.id];
  const bool start = node.role == AsyncRole::kStart;
  const char* phase = start || kernel.asynchronous() ? "start" : "run";
  const int64_t begin = Ticks();
  rank.progress.phase[index] = NodePhase::kRunning;
  try {
    if (start) {
      Launch(rank, index, node.partner, context);
    } else if (kernel.asynchronous()) {
      Launch(rank, index, index, context);
      return absl::OkStatus();
    } else {
      RETURN_IF_ERROR(At(rank, index, phase, kernel.Run(context)));
    }
  } catch (const std::exception& e) {
    return At(rank, index, phase, absl::InternalError(absl::StrCat("exception: ", e.what())));
  } catch (...) {
    return At(rank, index, phase, absl::InternalError("exception of unknown type"));
  }
  End(rank, index, begin, Ticks());
  return absl::OkStatus();
}

void ReferenceExecutor::Launch(Rank& rank, int32_t launcher, int32_t completes,
                               const StepContext& context) {
  Operation& operation = rank.operations[completes];
  {
    std::lock_guard<std::mutex> lock(operation.mutex);
    operation.attempt = attempt_;
    operation.issued = Ticks();
  }
  if (completes != launcher) rank.progress.phase[completes] = NodePhase::kInFlight;
  Kernel& kernel = *rank.kernels.by_node[rank.program.nodes[launcher].id];
  try {
    kernel.Start(context, [this, &operation, attempt = attempt_](absl::Status status) {
      Complete(operation, attempt, std::move(status));
    });
  } catch (...) {
    Complete(operation, attempt_, absl::OkStatus());  // nobody waits for it any more
    throw;
  }
}

void ReferenceExecutor::Complete(Operation& operation, uint64_t attempt, absl::Status status) {
  waking_.fetch_add(1, std::memory_order_relaxed);
  bool first = false;
  {
    std::lock_guard<std::mutex> lock(operation.mutex);
    if (operation.attempt == attempt) {
      first = true;
      operation.attempt = 0;  // from here on the step may end
      operation.status = std::move(status);
      operation.completed = Ticks();
    }
  }
  if (first) {
    completions_.fetch_add(1, std::memory_order_release);
    waiting_.Wake();
  }
  waking_.fetch_sub(1, std::memory_order_release);
}

absl::Status ReferenceExecutor::CollectCompletions(Rank& rank, bool& moved) {
  const int32_t count = static_cast<int32_t>(rank.program.nodes.size());
  const auto collect = [&](int32_t i) {
    Operation& operation = rank.operations[i];
    std::lock_guard<std::mutex> lock(operation.mutex);
    if (operation.attempt != 0) return absl::OkStatus();
    RETURN_IF_ERROR(At(rank, i, "completion", operation.status));
    if (!Ready(rank, i)) return absl::OkStatus();
    End(rank, i, operation.issued, operation.completed);
    moved = true;
    return absl::OkStatus();
  };
  if (rank.next < rank.program.issue_count &&
      rank.progress.phase[rank.next] == NodePhase::kRunning) {
    RETURN_IF_ERROR(collect(rank.next));
  }
  for (int32_t i = rank.program.issue_count; i < count; ++i) {
    if (rank.progress.phase[i] == NodePhase::kInFlight) RETURN_IF_ERROR(collect(i));
  }
  return absl::OkStatus();
}

absl::Status ReferenceExecutor::AwaitCompletion() {
  const std::vector<RankProgress> progress = Progress();
  bool may_go_on = false;
  for (const RankProgress& p : progress) {
    for (int32_t i = 0; i < static_cast<int32_t>(p.phase.size()); ++i) {
      if (p.phase[i] != NodePhase::kInFlight && p.phase[i] != NodePhase::kRunning) continue;
      may_go_on |= MayEndElsewhere(progress, p, i);
    }
  }
  const int64_t begin = clock_->Nanoseconds();
  const int64_t limit = static_cast<int64_t>(options_.stuck_seconds * 1e9);
  while (may_go_on) {
    // Completions that came since the ranks were last looked at are seen by the caller's next round.
    bool any = false;
    for (auto& rank : ranks_) {
      for (size_t i = 0; i < rank->progress.phase.size(); ++i) {
        const NodePhase phase = rank->progress.phase[i];
        if (phase != NodePhase::kInFlight && phase != NodePhase::kRunning) continue;
        std::lock_guard<std::mutex> lock(rank->operations[i].mutex);
        any |= rank->operations[i].attempt == 0;
      }
    }
    if (any) return absl::OkStatus();
    if (clock_->Nanoseconds() - begin >= limit) break;
    const uint64_t seen = completions_.load(std::memory_order_acquire);
    waiting_.WaitFor([&] { return completions_.load(std::memory_order_acquire) != seen; },
                     std::chrono::milliseconds(10));
  }
  std::string text = absl::StrCat("the step is stuck: no rank can go on\n", WaitForChain(progress));
  if (options_.describe_communication) {
    absl::StrAppend(&text, "\n", options_.describe_communication());
  }
  return absl::DeadlineExceededError(text);
}

// After an error: what was started ends, or is given up when drain_seconds have passed.
void ReferenceExecutor::Drain() {
  const int64_t begin = clock_->Nanoseconds();
  const int64_t limit = static_cast<int64_t>(options_.drain_seconds * 1e9);
  for (auto& rank : ranks_) {
    for (size_t i = 0; i < rank->program.nodes.size(); ++i) {
      Operation& operation = rank->operations[i];
      const auto ended = [&operation] {
        std::lock_guard<std::mutex> lock(operation.mutex);
        return operation.attempt == 0;
      };
      while (!waiting_.WaitFor(ended, std::chrono::milliseconds(10))) {
        if (clock_->Nanoseconds() - begin < limit) continue;
        std::lock_guard<std::mutex> lock(operation.mutex);
        operation.attempt = 0;
      }
    }
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<Executor>> MakeReferenceExecutor(const Plan& plan,
                                                                std::vector<RankKernels> kernels,
                                                                ExecutorOptions options) {
  auto executor = std::make_unique<ReferenceExecutor>(std::move(options));
  RETURN_IF_ERROR(executor->Build(plan, std::move(kernels)));
  return std::unique_ptr<Executor>(std::move(executor));
}

}  // namespace millrace
