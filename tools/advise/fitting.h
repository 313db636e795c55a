// What would bring a pipeline within its memory budget: changes of its settings that were really compiled, with the
// bytes that they then take and the step that is then predicted. For the message that refuses a pipeline.
//
//   const std::vector<Fitting> fits = FindFitting(loaded, sets, machine_folders, Budgeted::kStep);
//   std::cerr << ToText(fits);      // "--set parallel.zero.stage=3 (412.3 MB, step 1.31 s); ..."
//
// Tried are, one at a time: higher ZeRO stages, recompute (the fewest stages), offload (of optimizer states, of
// parameters at stage 3; to the host, to storage), smaller micro-batches with the same global batch, smaller evaluation
// batches; together only where nothing fits alone, at last as memory.offload.auto chooses. Nothing is allocated.
#ifndef MILLRACE_TOOLS_ADVISE_FITTING_H_
#define MILLRACE_TOOLS_ADVISE_FITTING_H_

#include <cstdint>
#include <string>
#include <vector>

#include "graph/ir/pipeline_text.h"

namespace millrace {

struct Fitting {
  std::vector<std::string> settings;  // for --set
  int64_t peak_bytes = 0;             // of one rank's device memory, evaluation included
  int64_t excess_bytes =
      0;  // > 0: the least that was found, and what it still needs more than the budget
  double step_seconds = 0;  // predicted
};

enum class Budgeted { kStep, kEvaluation };  // which plan is too large

// `loaded` is the pipeline that was refused, `sets` what its --set were. What fits, the fastest first; else the one
// that needs least, with its excess. Empty for a step written by hand.
std::vector<Fitting> FindFitting(const LoadedPipeline& loaded, const std::vector<std::string>& sets,
                                 const std::vector<std::string>& machine_folders,
                                 Budgeted too_large);

std::string ToText(const std::vector<Fitting>& fits);

}  // namespace millrace

#endif  // MILLRACE_TOOLS_ADVISE_FITTING_H_
