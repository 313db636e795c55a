// The planner's choice of how many buckets are staged in host memory at a time on their way to or from storage
// (memory.offload.staging_buckets left out): each number is really lowered, planned and simulated; of those that
// fit the host's memory the least whose step is within one percent of the shortest. A bucket on its way passes the
// compute thread once for each operation - gradient, read, update, write - so where its stages are long, several
// must be on their way for the drive to stay at work.
//
//   ASSIGN_OR_RETURN(StagingChoice choice, ChooseStaging(spec, options, machine, plan_options));
//   options.offload.staging_buckets = choice.buckets;
#ifndef MILLRACE_PIPELINES_RUNNER_STAGING_CHOICE_H_
#define MILLRACE_PIPELINES_RUNNER_STAGING_CHOICE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "graph/ir/machine.pb.h"
#include "graph/ir/model_spec.h"
#include "graph/lower/options.h"
#include "graph/plan/planner.h"

namespace millrace {

struct StagingChoice {
  int buckets = 3;
  struct Tried {
    int buckets = 0;
    double step_seconds = 0;
    int64_t host_bytes = 0;  // of one rank
  };
  std::vector<Tried> tried;  // by number of buckets
};

// When nothing fits, the number of least host memory.
absl::StatusOr<StagingChoice> ChooseStaging(const ModelSpec& spec, LowerOptions options,
                                            const Machine& machine, PlanOptions plan_options);

// "staging buckets 8, chosen from 2 (17.6 s, 2.09 GB), 3 (...), ..." and a newline.
std::string ToText(const StagingChoice& choice);

}  // namespace millrace

#endif  // MILLRACE_PIPELINES_RUNNER_STAGING_CHOICE_H_
