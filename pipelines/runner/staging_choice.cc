#include "pipelines/runner/staging_choice.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "graph/base/status.h"
#include "graph/lower/lower.h"
#include "graph/sim/simulate.h"

namespace millrace {

absl::StatusOr<StagingChoice> ChooseStaging(const ModelSpec& spec, LowerOptions options,
                                            const Machine& machine, PlanOptions plan_options) {
  plan_options.check_budget = false;
  int64_t budget = machine.host_memory_bytes();
  if (budget > 0 && SeparateMemoryOf(machine)) budget += machine.pinned_memory_bytes();
  const auto fits = [budget](const StagingChoice::Tried& t) {
    return budget == 0 || t.host_bytes <= budget;
  };
  StagingChoice choice;
  double shortest = std::numeric_limits<double>::infinity();
  for (int buckets : {2, 3, 4, 6, 8, 12, 16}) {
    options.offload.staging_buckets = buckets;
    ASSIGN_OR_RETURN(Graph graph, Lower(spec, options));
    const bool all = buckets >= static_cast<int>(graph.buckets().size());
    ASSIGN_OR_RETURN(const Plan plan, MakePlan(std::move(graph), machine, plan_options));
    ASSIGN_OR_RETURN(const SimResult result, Simulate(plan, machine, {.details = false}));
    choice.tried.push_back({buckets, result.step_seconds,
                            result.peak_bytes[static_cast<int>(Tier::kHost)] +
                                result.peak_bytes[static_cast<int>(Tier::kPinned)]});
    if (fits(choice.tried.back())) shortest = std::min(shortest, result.step_seconds);
    if (all) break;  // more would change nothing
  }
  for (const StagingChoice::Tried& t : choice.tried) {
    if (!fits(t) || t.step_seconds > shortest * 1.01) continue;
    choice.buckets = t.buckets;
    return choice;
  }
  choice.buckets =
      std::min_element(choice.tried.begin(), choice.tried.end(), [](const auto& a, const auto& b) {
        return a.host_bytes < b.host_bytes;
      })->buckets;
  return choice;
}

std::string ToText(const StagingChoice& choice) {
  std::string text = absl::StrCat("staging buckets ", choice.buckets, ", chosen from");
  for (const StagingChoice::Tried& t : choice.tried) {
    absl::StrAppendFormat(&text, "%s %d (%.4g ms, host %.4g MB)", &t == &choice.tried[0] ? "" : ",",
                          t.buckets, t.step_seconds * 1e3, t.host_bytes * 1e-6);
  }
  return text + "\n";
}

}  // namespace millrace
