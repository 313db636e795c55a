// The planner's choice of how a step fits its memory (memory.offload.auto): what leaves the device, what is recomputed
// and how large the buckets in flight are. Every combination that could fit is really lowered, planned and simulated;
// of those within the device's and the host's memory the one with the shortest step is taken, of those within half a
// percent of it the one that moves least. None of them changes the weights: micro-batches stay as they are.
//
//   ASSIGN_OR_RETURN(MemoryChoice choice, ChooseMemory(spec, options, open, machine, plan_options));
//   options = choice.options;
//   std::cerr << ToText(choice);       // which, and why not those beside it
//
// Tried are, least work first: nothing; a quarter, a half, three quarters, all of the optimizer states on the host;
// parameters, too (stage 3); states on storage; parameters, too (stage 3). Each with recompute of the fewest stages
// that fit, and with buckets of a 4th, a 16th and a 64th of their size where what is gathered or reduced is in the way.
#ifndef MILLRACE_PIPELINES_RUNNER_MEMORY_CHOICE_H_
#define MILLRACE_PIPELINES_RUNNER_MEMORY_CHOICE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "graph/ir/machine.pb.h"
#include "graph/ir/model_spec.h"
#include "graph/lower/options.h"
#include "graph/plan/planner.h"

namespace millrace {

struct MemoryChoice {
  struct Tried {
    std::string what;  // "optimizer states on the host, 3 stages recomputed"
    int64_t device_bytes = 0, host_bytes = 0;  // at a rank's peaks; the host's with pinned memory
    double step_seconds = 0;
    bool fits = false;
  };
  LowerOptions options;                        // with what was chosen
  std::vector<std::string> settings;           // the same for --set; empty: all fits as it is
  int64_t device_budget = 0, host_budget = 0;  // 0: none
  Tried plain, chosen;
  std::vector<Tried> tried;  // all, `plain` first
};

// What the pipeline leaves open.
struct MemoryOpen {
  bool recompute = true;  // which stages are recomputed
  bool buckets = true;    // reduce_bucket_bytes
  bool prefetch = true;   // prefetch_depth
};

// Budgets are the machine's device.memory_bytes, which must be there, host_memory_bytes and pinned_memory_bytes. kResourceExhausted where
// nothing fits: says the least that was found, what lies there, and what would help.
absl::StatusOr<MemoryChoice> ChooseMemory(const ModelSpec& spec, LowerOptions options,
                                          const MemoryOpen& open, const Machine& machine,
                                          PlanOptions plan_options = {});

// "offload auto: ..." in lines: what was chosen with bytes and seconds, then the fastest of those beside it.
std::string ToText(const MemoryChoice& choice);

}  // namespace millrace

#endif  // MILLRACE_PIPELINES_RUNNER_MEMORY_CHOICE_H_
