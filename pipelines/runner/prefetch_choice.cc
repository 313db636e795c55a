#include "pipelines/runner/prefetch_choice.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "graph/base/status.h"
#include "graph/lower/lower.h"
#include "graph/sim/simulate.h"

namespace millrace {

absl::StatusOr<PrefetchChoice> ChoosePrefetch(const ModelSpec& spec, LowerOptions options,
                                              const Machine& machine, PlanOptions plan_options) {
  plan_options.check_budget = false;
  PrefetchChoice choice;
  const int64_t budget = machine.device().memory_bytes();
  double shortest = std::numeric_limits<double>::infinity();
  for (int depth : {1, 2, 3, 4, 8}) {
    options.prefetch_depth = depth;
    ASSIGN_OR_RETURN(Graph graph, Lower(spec, options));
    ASSIGN_OR_RETURN(const Plan plan, MakePlan(std::move(graph), machine, plan_options));
    ASSIGN_OR_RETURN(const SimResult result, Simulate(plan, machine, {.details = false}));
    const int64_t peak = result.peak_bytes[static_cast<int>(Tier::kDevice)];
    if (budget > 0 && peak > budget && depth > 1) break;  // deeper needs more
    choice.tried.push_back({depth, result.step_seconds, peak});
    shortest = std::min(shortest, result.step_seconds);
  }
  for (const PrefetchChoice::Tried& t : choice.tried) {
    if (t.step_seconds > shortest * 1.005) continue;
    choice.depth = t.depth;
    break;
  }
  return choice;
}

std::string ToText(const PrefetchChoice& choice) {
  std::string text = absl::StrCat("prefetch depth ", choice.depth, ", chosen from");
  for (const PrefetchChoice::Tried& t : choice.tried) {
    absl::StrAppendFormat(&text, "%s %d (%.4g ms, %.4g MB)", &t == &choice.tried[0] ? "" : ",",
                          t.depth, t.step_seconds * 1e3, t.peak_bytes * 1e-6);
  }
  return text + "\n";
}

}  // namespace millrace
