// From a pipeline's text to plans that can run: model built and probed, step lowered (or read from the text),
// planned for its machine. Nothing of the model is allocated here; planning a model of any size is cheap.
//
//   Findings findings;
//   absl::StatusOr<CompiledPipeline> c = Compile(loaded, {"pipelines/machines"}, findings);
//   if (!c.ok()) std::cerr << findings.ToText();        // every mistake with file, line and column
#ifndef MILLRACE_PIPELINES_RUNNER_COMPILED_H_
#define MILLRACE_PIPELINES_RUNNER_COMPILED_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "graph/base/findings.h"
#include "graph/ir/machine.pb.h"
#include "graph/ir/model_spec.h"
#include "graph/ir/pipeline_text.h"
#include "graph/plan/costs.pb.h"
#include "graph/plan/plan.h"
#include "models/model.h"
#include "ops/back_end.h"
#include "pipelines/runner/batches.h"
#include "pipelines/runner/memory_choice.h"
#include "pipelines/runner/prefetch_choice.h"
#include "pipelines/runner/recompute_choice.h"
#include "pipelines/runner/staging_choice.h"

namespace millrace {

struct CompiledPipeline {
  LoadedPipeline loaded;
  std::shared_ptr<BackEnd> back_end;  // with on_devices; null: the CPU's
  Machine machine;                    // with what the cost table measured of it
  std::optional<CostTable> costs;
  bool has_model = false;      // false: the step is written by hand, and there is no evaluation;
                               // true with loaded.graph: the model's own step, edited
  ModelDef model, eval_model;  // of train.micro_batch and of train.eval_batch samples
  ModelSpec spec, eval_spec;
  ImageNeeds image_needs;
  int64_t eval_batch = 0;
  std::optional<MemoryChoice> memory;        // with memory.offload.auto; it stands in loaded.proto
  std::optional<RecomputeChoice> recompute;  // with memory.recompute.auto
  std::optional<PrefetchChoice> prefetch;    // stage 3 without parallel.zero.prefetch_depth
  std::optional<StagingChoice> staging;      // storage without memory.offload.staging_buckets
  Plan plan;
  std::optional<Plan> eval_plan;  // has_model only
};

struct CompileOptions {
  bool check_budget = true;  // false: plans beyond the machine's memory are returned all the same
  bool evaluation = true;    // false: leaves eval_model, eval_spec and eval_plan out
  // To be run: opens the machine's devices, on which the stages are then probed, so that the plan has their operators'
  // own bytes. Otherwise stages are probed on the meta device, for devices of their own an estimate (models/probe.h).
  bool on_devices = false;
  // Whose devices; null: as the machine says. Tests give emulated ones.
  std::shared_ptr<BackEnd> back_end;
  // false: leaves model, spec and plan out. The evaluation's plan then keeps parameters alone, all in device memory.
  bool training = true;
};

// The rules of findings that say that the step's plan, or that of evaluation, needs more memory than its budget.
inline constexpr char kBudgetCheck[] = "budget";
inline constexpr char kEvalBudgetCheck[] = "eval_budget";

// `machine_folders`: where `machine: "name"` is looked for as name.textproto.
absl::StatusOr<CompiledPipeline> Compile(LoadedPipeline loaded,
                                         const std::vector<std::string>& machine_folders,
                                         Findings& findings, const CompileOptions& options = {});

// kFailedPrecondition for a machine with devices when the pipeline was not compiled to be run.
absl::Status CheckOnDevices(const CompiledPipeline& c);

// The pipeline's model for batches of another size, probed. Nothing is allocated.
absl::StatusOr<ModelSpec> ProbeModel(const Pipeline& pipeline, int64_t batch);

}  // namespace millrace

#endif  // MILLRACE_PIPELINES_RUNNER_COMPILED_H_
