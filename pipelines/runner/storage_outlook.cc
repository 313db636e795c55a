#include "pipelines/runner/storage_outlook.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "graph/base/status.h"
#include "graph/lower/lower.h"
#include "graph/plan/planner.h"
#include "graph/sim/simulate.h"
#include "graph/sim/what_if.h"

namespace millrace {
namespace {

constexpr double kWorthSaying = 1 - 1.0 / 30;

absl::StatusOr<SimResult> SimulateOn(const Plan& plan, const Machine& planned,
                                     const Machine& machine) {
  SimOptions options;
  options.seconds = SecondsOn(plan, planned, machine);
  return Simulate(plan, machine, options);
}

double BusyOnStorage(const SimResult& result, const Plan& plan) {
  double busy = 0;
  for (const LaneUse& use : result.lanes) {
    if (plan.ForRank(use.rank).lanes[use.lane].kind == LaneKind::kStorage) {
      busy = std::max(busy, use.busy);
    }
  }
  return busy;
}

// The step with another ratio, planned within the same budget.
absl::StatusOr<double> WithRatio(const CompiledPipeline& c, const Machine& machine, double ratio) {
  LowerOptions options = FromPipeline(c.loaded.proto, machine);
  if (c.recompute) {
    options.recompute = {};
    options.recompute.stages = c.recompute->stages;
  }
  options.offload.ratio = ratio;
  ASSIGN_OR_RETURN(Graph graph, Lower(c.spec, options));
  ASSIGN_OR_RETURN(const Plan plan, MakePlan(std::move(graph), machine,
                                             {.name = c.plan.name,
                                              .world_size = c.plan.world_size,
                                              .costs = c.costs ? &*c.costs : nullptr}));
  ASSIGN_OR_RETURN(const SimResult result, Simulate(plan, machine, {.details = false}));
  return result.step_seconds;
}

std::string Seconds(double s) {
  return s >= 1 ? absl::StrFormat("%.2f s", s) : absl::StrFormat("%.3g ms", s * 1e3);
}

}  // namespace

absl::StatusOr<std::optional<StorageOutlook>> ForeseeStorage(const CompiledPipeline& c,
                                                             const Machine& machine) {
  if (c.plan.rank_plans.front().arena_bytes[static_cast<int>(Tier::kStorage)] == 0) {
    return std::optional<StorageOutlook>();
  }
  ASSIGN_OR_RETURN(const SimResult now, SimulateOn(c.plan, c.machine, machine));
  ASSIGN_OR_RETURN(const WhatIf faster, ParseWhatIf({"storage.read=2x", "storage.write=2x"},
                                                    machine, c.plan.world_size));
  ASSIGN_OR_RETURN(const SimResult then, SimulateOn(c.plan, c.machine, faster.machine));
  StorageOutlook outlook;
  outlook.step_seconds = now.step_seconds;
  outlook.storage_seconds = BusyOnStorage(now, c.plan);
  outlook.twice_as_fast_seconds = then.step_seconds;
  outlook.bound = then.step_seconds < kWorthSaying * now.step_seconds;
  const OptimizerOffload& offload = c.loaded.proto.memory().offload().optimizer();
  // A step that was edited by hand cannot be lowered again, and a delayed update takes all buckets.
  if (!outlook.bound || c.loaded.graph.has_value() || offload.delayed()) return outlook;
  double best = kWorthSaying * now.step_seconds;
  for (double share : {0.8, 0.6, 0.4, 0.2}) {
    const double ratio = share * offload.ratio();
    const absl::StatusOr<double> seconds = WithRatio(c, machine, ratio);
    if (!seconds.ok()) break;  // what stays on the device has no room there
    if (*seconds >= best) continue;
    best = outlook.ratio_seconds = *seconds;
    outlook.ratio = ratio;
    if (best <= then.step_seconds) break;
  }
  return outlook;
}

Machine WithDrive(Machine machine, const StorageRates& rates, int ranks) {
  machine.mutable_host()->set_storage_read_bytes_per_second(rates.read_bytes_per_second / ranks);
  machine.mutable_host()->set_storage_write_bytes_per_second(rates.write_bytes_per_second / ranks);
  return machine;
}

std::string ToText(const StorageOutlook& o) {
  if (!o.bound) {
    return absl::StrCat("not I/O-bound: storage works ", Seconds(o.storage_seconds),
                        " of a step of ", Seconds(o.step_seconds),
                        ", a drive twice as fast would give ", Seconds(o.twice_as_fast_seconds));
  }
  std::string text = absl::StrCat(
      "I/O-bound: ", Seconds(o.storage_seconds), " of ", Seconds(o.step_seconds),
      " on storage; a drive twice as fast would give ", Seconds(o.twice_as_fast_seconds));
  if (o.ratio > 0) {
    absl::StrAppend(&text, absl::StrFormat(", memory.offload.optimizer.ratio %.3g ", o.ratio),
                    Seconds(o.ratio_seconds));
  }
  return text;
}

}  // namespace millrace
