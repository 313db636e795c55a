// The executor that training uses: a compute thread and a flow graph per rank (rank_engine.h), and RunStep's
// thread, which starts them, watches over their progress and brings a failed step to rest.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/blocking_counter.h"
#include "graph/base/status.h"
#include "graph/plan/stream_edges.h"
#include "graph/runtime/executor.h"
#include "graph/runtime/rank_engine.h"

namespace millrace {
namespace {

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
  IssueCost issue_cost() const override;
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
  std::vector<int64_t> Progress() const {
    std::vector<int64_t> progress;
    for (const auto& rank : ranks_) progress.push_back(rank->progress());
    return progress;
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
    const auto device = options_.devices.find(k.rank);
    std::vector<Edge> streamed;
    // Of memory that is not the device's own nothing is proven with fewer orders than the plan's.
    const bool streams = device != options_.devices.end() && plan.separate_memory;
    if (streams) {
      ASSIGN_OR_RETURN(streamed, StreamEdges(plan, plan.ForRank(k.rank)));
    }
    ASSIGN_OR_RETURN(Program program, MakeProgram(plan, k, streams ? &streamed : nullptr));
    ranks_.push_back(
        std::make_unique<RankEngine>(std::move(program), std::move(k), &step_, options_.recorder));
    if (device == options_.devices.end()) continue;
    RETURN_IF_ERROR(ranks_.back()->OpenDevice(
        device->second, {.timed = options_.recorder != nullptr, .capture = options_.capture}));
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

IssueCost FlowGraphExecutor::issue_cost() const {
  IssueCost cost;
  for (const auto& rank : ranks_) {
    if (rank->issuer() == nullptr) continue;
    cost.ticks += rank->issuer()->issue_ticks();
    cost.nodes += rank->issuer()->issued_nodes();
    cost.captured_runs += rank->issuer()->captured_runs();
  }
  return cost;
}

// Until the step has come to rest, or cannot be brought to rest.
void FlowGraphExecutor::Supervise() {
  const auto ended_or_failed = [this] { return at_rest() || step_.failed.load(); };
  const int64_t stuck_ns = static_cast<int64_t>(options_.stuck_seconds * 1e9);
  const std::chrono::nanoseconds look_every(
      std::min<int64_t>(std::max<int64_t>(stuck_ns / 8, 1'000'000), 50'000'000));
  std::vector<int64_t> seen = Progress();
  int64_t seen_at = clock_->Nanoseconds();
  while (!step_.supervisor.WaitFor(ended_or_failed, look_every)) {
    std::vector<int64_t> now = Progress();
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
