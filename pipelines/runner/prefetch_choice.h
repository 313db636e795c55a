// The planner's choice of how many buckets are gathered ahead (parallel.zero.prefetch_depth left out): each depth is
// really lowered, planned and simulated; of those that fit the device's memory the least whose step is within half a
// percent of the shortest. Deeper hides more of a slow link behind short stages, at the price of a bucket each.
//
//   ASSIGN_OR_RETURN(PrefetchChoice choice, ChoosePrefetch(spec, options, machine, plan_options));
//   options.prefetch_depth = choice.depth;
#ifndef MILLRACE_PIPELINES_RUNNER_PREFETCH_CHOICE_H_
#define MILLRACE_PIPELINES_RUNNER_PREFETCH_CHOICE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "graph/ir/machine.pb.h"
#include "graph/ir/model_spec.h"
#include "graph/lower/options.h"
#include "graph/plan/planner.h"

namespace millrace {

struct PrefetchChoice {
  int depth = 1;
  struct Tried {
    int depth = 0;
    double step_seconds = 0;
    int64_t peak_bytes = 0;  // of one rank's device memory
  };
  std::vector<Tried> tried;  // by depth
};

// When nothing fits, the depth of least memory.
absl::StatusOr<PrefetchChoice> ChoosePrefetch(const ModelSpec& spec, LowerOptions options,
                                              const Machine& machine, PlanOptions plan_options);

// "prefetch depth 2 of 1 (12.1 ms, 3.2 GB), 2 (...), ..." and a newline.
std::string ToText(const PrefetchChoice& choice);

}  // namespace millrace

#endif  // MILLRACE_PIPELINES_RUNNER_PREFETCH_CHOICE_H_
