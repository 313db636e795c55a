// The ranks of this process at work: arenas, communicators, kernels and the executor of one plan. Training and
// evaluation each have one, on the same arenas and compute threads.
#ifndef MILLRACE_PIPELINES_RUNNER_RANKS_H_
#define MILLRACE_PIPELINES_RUNNER_RANKS_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "graph/runtime/buffers.h"
#include "graph/runtime/compute_threads.h"
#include "graph/runtime/executor.h"
#include "graph/runtime/lane_workers.h"
#include "ops/back_end.h"
#include "ops/kernel_registry.h"
#include "ops/model_runtime.h"

namespace millrace {

struct RanksOptions {
  const Plan* plan = nullptr;
  std::vector<std::shared_ptr<RankArenas>> arenas;  // one per rank
  // Whose devices the arenas are on; null: the CPU back end.
  std::shared_ptr<BackEnd> back_end;
  bool capture = false;                     // devices: see ExecutorOptions::capture
  std::shared_ptr<ComputeThreads> threads;  // null with the reference executor
  std::vector<StorageFile*> storage;        // one per rank; empty: the plan has no storage tier
  std::shared_ptr<LaneWorkers> lanes;       // null with the reference executor
  bool reference = false;
  int threads_per_rank =
      1;  // of LibTorch's operators; the reference executor sets it for its caller's thread
  double stuck_seconds = 120;
  TraceRecorder* recorder = nullptr;
  BatchSource* batches = nullptr;
  const ModelDef* model = nullptr;  // null for hand-written steps
  const ModelSpec* spec = nullptr;
  OptimizerSettings optimizer;
};

class Ranks {
 public:
  static absl::StatusOr<std::unique_ptr<Ranks>> Create(const RanksOptions& options);

  absl::Status RunStep(int64_t step, const StepScalars& scalars);
  const RankBuffers& buffers(int rank) const { return buffers_[rank]; }
  std::vector<const RankBuffers*> all_buffers() const;
  int size() const { return static_cast<int>(buffers_.size()); }
  // With a loss scale: the first gradient of the last step that was not finite, on one rank.
  Overflow overflow(int rank) const {
    return models_.empty() ? Overflow() : models_[rank]->overflow();
  }
  // Sums and maxima over the ranks; see ModelRuntime.
  int64_t unplanned_allocations() const;
  int64_t unplanned_bytes() const;  // of the rank that had most
  IssueCost issue_cost() const { return executor_->issue_cost(); }

 private:
  Ranks() = default;
  // In order of construction: kernels point to contexts, contexts to communicators and runtimes.
  std::vector<std::vector<std::unique_ptr<Communicator>>> groups_;
  std::vector<std::unique_ptr<ModelRuntime>> models_;
  std::vector<std::unique_ptr<RankContext>> contexts_;
  std::vector<RankBuffers> buffers_;
  std::unique_ptr<Executor> executor_;
};

// The memory of every rank, as large as the largest of the plans needs; with a back end, on devices that it opens.
absl::StatusOr<std::vector<std::shared_ptr<RankArenas>>> AllocateArenas(
    const std::vector<const Plan*>& plans, BackEnd* back_end);

// A compute thread per rank, each with `threads_per_rank` threads for LibTorch's operators.
absl::StatusOr<std::shared_ptr<ComputeThreads>> MakeComputeThreads(int ranks, int threads_per_rank);

}  // namespace millrace

#endif  // MILLRACE_PIPELINES_RUNNER_RANKS_H_
