// The planner's choice of what to recompute (memory.recompute.auto): as few stages as let the plan fit its budget,
// those first that save most bytes per second of recomputing.
//
//   ASSIGN_OR_RETURN(RecomputeChoice choice, ChooseRecompute(spec, options, machine, plan_options));
//   options.recompute.stages = choice.stages;          // empty: all fits as it is
//   std::cerr << ToText(choice);                       // which, and why
//
// Of equal stages the earlier goes first: when its backward comes, late in the step, all other saved blocks are gone,
// so running it again adds least to what lies there. Each try is a real plan; their number grows with the logarithm
// of the number of stages.
#ifndef MILLRACE_PIPELINES_RUNNER_RECOMPUTE_CHOICE_H_
#define MILLRACE_PIPELINES_RUNNER_RECOMPUTE_CHOICE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "graph/ir/machine.pb.h"
#include "graph/ir/model_spec.h"
#include "graph/lower/options.h"
#include "graph/plan/planner.h"

namespace millrace {

struct RecomputeChoice {
  std::vector<std::string> stages;  // chosen, in the model's order
  int candidates = 0;               // stages that could be recomputed
  int64_t budget_bytes = 0;
  int64_t plain_peak_bytes = 0, peak_bytes = 0;  // of one rank's device memory, without and with it
  int64_t saved_bytes = 0;                       // not kept, per micro-batch
  double recompute_seconds = 0;                  // predicted, per step
};

// The budget is the machine's device.memory_bytes; seconds are those of plan_options.costs, where there is a table.
// Of `options.recompute` only offload_inputs counts. kResourceExhausted when recomputing everything does not suffice: says what lies in
// memory then and how much is missing.
absl::StatusOr<RecomputeChoice> ChooseRecompute(const ModelSpec& spec, LowerOptions options,
                                                const Machine& machine,
                                                PlanOptions plan_options = {});

// "recompute auto: 12 of 33 stages (layers.0 to layers.11): ..." and a newline.
std::string ToText(const RecomputeChoice& choice);

}  // namespace millrace

#endif  // MILLRACE_PIPELINES_RUNNER_RECOMPUTE_CHOICE_H_
