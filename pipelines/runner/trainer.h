// Trains a compiled pipeline on in-process ranks: memory, communicators, kernels and executors are made once,
// then the plan is run step by step, with evaluation, checkpoints, metrics and a clean stop on Ctrl-C.
//
//   ASSIGN_OR_RETURN(auto trainer, Trainer::Create(compiled, options));   // opens data, allocates, loads
//   ASSIGN_OR_RETURN(RunResult result, trainer->Run());
//
// Create reports bad input (missing files, checkpoints that do not fit); Run fails with the step's own status:
// kDeadlineExceeded for a stuck step, anything else for a failed one, or for a loss scale that cannot go lower.
#ifndef MILLRACE_PIPELINES_RUNNER_TRAINER_H_
#define MILLRACE_PIPELINES_RUNNER_TRAINER_H_

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "data/storage/storage_probe.h"
#include "graph/trace/trace.h"
#include "pipelines/runner/compiled.h"
#include "pipelines/runner/metrics.h"

namespace millrace {

// What the resident memory of a process takes beside the tiers that its plans state: LibTorch's pages and its table of
// operators (some 245 MB when this was measured), threads' stacks, a few batches, the largest parameter once or twice.
// A data set held in memory comes on top. So peak RSS <= sum of all ranks' tiers + 5 % + this.
inline constexpr int64_t kRssOutsidePlanBytes = int64_t{288} << 20;

struct RunOptions {
  std::vector<std::string> data_folders;  // where relative data paths are looked for
  std::string run_folder;                 // metrics, trace, checkpoints; made when absent
  std::string storage_folder;  // of the storage tier's files; "": the pipeline's, else run_folder
  bool resume = false;
  std::string resume_from;  // a checkpoint, or a folder of them; "": the newest of the run folder
  bool quiet = false;
  bool keep_losses = false;
  bool evaluate = true;  // false: not even at the end
  // The simulator's step: its length goes into the result, its spans into predicted_trace.json beside
  // the measured trace.json. Outlives the trainer; null: none.
  const Trace* predicted = nullptr;
};

struct RunResult {
  int64_t steps = 0;      // run now
  int64_t last_step = 0;  // of the whole training
  double step_seconds_median = 0, samples_per_second = 0;
  double loss_first = 0, loss_last = 0;
  std::vector<double> losses;
  bool evaluated = false;
  EvalMetrics metrics;
  std::string weights_sha256;
  std::array<int64_t, kTiers> peak_bytes_predicted{}, peak_bytes_measured{};
  int64_t unplanned_allocations = 0;
  int64_t peak_rss_bytes = 0;  // of the process; 0: the system does not say
  int64_t rss_outside_plan_bytes =
      0;  // of that: beside the memory tiers of all ranks (kRssOutsidePlanBytes)
  double seconds_to_first_step = 0;  // from the start of the process to the end of the first step
  double simulated_step_seconds = 0;
  // Model FLOPs (no recomputation) of the median step, of a rank, over what its device could do in that time.
  double mfu = 0;
  // Devices: what it takes to put a node, and all nodes of a rank's step, into streams; 0: no devices.
  double issue_seconds_per_node = 0, issue_seconds_per_step = 0;
  int64_t captured_runs = 0;  // of a rank's step; a run is issued as one
  bool interrupted = false;
  double loss_scale = 0;      // at the end; 0: none
  int64_t skipped_steps = 0;  // of `steps`: their gradients overflowed
  int64_t nonfinite_loss_step =
      0;  // the first whose loss was not finite although it was not skipped; 0: none
  std::vector<BadSample> bad_samples;  // files left out (data.on_error SKIP), training's first
  std::string storage;  // how the storage tier's files are reached; "": there are none
  std::string metrics_path, trace_path, checkpoint_path;
  Trace trace;  // of the last runtime.trace_steps steps; refers to the compiled pipeline's plan
};

class Trainer {
 public:
  virtual ~Trainer() = default;
  // `compiled` outlives the trainer.
  static absl::StatusOr<std::unique_ptr<Trainer>> Create(const CompiledPipeline& compiled,
                                                         const RunOptions& options);
  virtual absl::StatusOr<RunResult> Run() = 0;
  // The storage tier's drive, where the pipeline left the requests' size to a probe; null: it did not.
  virtual const StorageRates* probed() const = 0;
};

}  // namespace millrace

#endif  // MILLRACE_PIPELINES_RUNNER_TRAINER_H_
