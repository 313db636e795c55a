#include "graph/plan/planner.h"

#include <algorithm>
#include <chrono>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "graph/base/status.h"
#include "graph/plan/budget.h"
#include "graph/plan/clocks.h"
#include "graph/plan/cost_model.h"
#include "graph/plan/credits.h"
#include "graph/plan/hash.h"
#include "graph/plan/hazards.h"
#include "graph/plan/lanes.h"
#include "graph/plan/liveness.h"
#include "graph/plan/memory.h"
#include "graph/plan/order_search.h"

namespace millrace {
absl::StatusOr<Plan> MakePlan(Graph graph, const Machine& machine, const PlanOptions& options) {
  const auto begin = std::chrono::steady_clock::now();
  Plan plan;
  plan.name = options.name.empty() ? graph.name() : options.name;
  plan.machine = machine.name();
  plan.world_size = options.world_size;
  for (const auto& [group, size] : graph.groups()) {
    if (options.world_size == 0) plan.world_size = std::max(plan.world_size, size);
  }
  plan.world_size = std::max(plan.world_size, 1);
  plan.budget_bytes = {machine.device().memory_bytes(), machine.pinned_memory_bytes(),
                       machine.host_memory_bytes(), machine.storage_bytes()};

  plan.graph = std::move(graph);
  plan.rank_plans.emplace_back();
  RankPlan& rank = plan.rank_plans.front();
  rank.ranks.resize(plan.world_size);
  std::iota(rank.ranks.begin(), rank.ranks.end(), 0);
  rank.seconds = NodeSeconds(plan.graph, machine, options.costs);
  absl::StatusOr<std::vector<Edge>> dependencies = Dependencies(plan.graph);
  if (!dependencies.ok()) return Annotate(dependencies.status(), "planning ", plan.name);
  absl::StatusOr<StepOrder> order =
      FindOrder(machine, *dependencies,
                {.budget_bytes = plan.budget_bytes[0], .ladder = options.ladder}, plan);
  if (!order.ok()) return Annotate(order.status(), "planning ", plan.name);

  MemoryPlan memory = PlaceBuffers(plan.graph, order->ranges);
  rank.credits = FindCredits(plan.graph, AccessesByBuffer(plan.graph), order->ranges, order->clocks,
                             &order->schedule.edges);
  rank.edges = WithoutImplied(order->clocks, order->schedule.edges);
  rank.lanes = std::move(order->schedule.lanes);
  rank.start_time = std::move(order->schedule.start_time);
  rank.reason = std::move(order->schedule.reason);
  rank.offset = std::move(memory.offset);
  rank.arena_bytes = memory.arena_bytes;
  rank.persistent_bytes = memory.persistent_bytes;
  rank.live_bytes_bound = memory.live_bytes_bound;
  rank.at_peak = std::move(memory.at_peak);
  if (options.check_budget) RETURN_IF_ERROR(CheckBudget(plan));
  plan.hash = PlanHash(plan);
  plan.seconds_to_plan =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return plan;
}

}  // namespace millrace
