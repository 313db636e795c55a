#include "graph/plan/planner.h"

#include <algorithm>
#include <chrono>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "graph/base/status.h"
#include "graph/lower/join_async.h"
#include "graph/lower/options.h"
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
namespace {

// Start halves of pairs under which, in this order, next to nothing is computed: less than a hundredth of the
// operation, or than a launch costs.
std::vector<NodeId> UncoveredPairs(const Graph& graph, const Schedule& schedule,
                                   const std::vector<double>& seconds) {
  std::vector<std::pair<double, double>> computing;  // of the issue lane, in order
  for (NodeId n : schedule.lanes[0].order) {
    const Node& node = graph.nodes()[n];
    if (node.is_collective) continue;
    computing.push_back({schedule.start_time[n], schedule.start_time[n] + seconds[n]});
  }
  // Other engines at work at the same time count as well.
  const auto beside_others = [&](NodeId done) {
    const double begin = schedule.start_time[done], end = begin + seconds[done];
    for (size_t l = 1; l < schedule.lanes.size(); ++l) {
      const std::vector<NodeId>& order = schedule.lanes[l].order;
      auto it = std::partition_point(order.begin(), order.end(), [&](NodeId n) {
        return schedule.start_time[n] + seconds[n] <= begin;
      });
      if (it != order.end() && *it != done && schedule.start_time[*it] < end) return true;
    }
    return false;
  };
  std::vector<NodeId> uncovered;
  for (NodeId n : schedule.lanes[0].order) {
    const Node& node = graph.nodes()[n];
    if (node.async != AsyncRole::kStart) continue;
    const double begin = schedule.start_time[node.partner];
    const double end = begin + seconds[node.partner];
    double covered = 0;
    auto it = std::lower_bound(computing.begin(), computing.end(), std::make_pair(begin, begin));
    if (it != computing.begin()) --it;
    for (; it != computing.end() && it->first < end; ++it) {
      covered += std::max(0.0, std::min(end, it->second) - std::max(begin, it->first));
    }
    if (covered > std::max(0.01 * (end - begin), seconds[n])) continue;
    if (!beside_others(node.partner)) uncovered.push_back(n);
  }
  return uncovered;
}

// The order of the plan's graph; the graph itself with uncovered pairs joined, when that costs neither time nor
// memory.
absl::StatusOr<StepOrder> OrderOf(const Machine& machine, const PlanOptions& options, Plan& plan) {
  RankPlan& rank = plan.rank_plans.front();
  const OrderOptions how{.budget_bytes = plan.budget_bytes[0], .ladder = options.ladder};
  const auto order = [&]() -> absl::StatusOr<StepOrder> {
    rank.seconds = NodeSeconds(plan.graph, machine, options.costs);
    ASSIGN_OR_RETURN(const std::vector<Edge> dependencies, Dependencies(plan.graph));
    return FindOrder(machine, dependencies, how, plan);
  };
  ASSIGN_OR_RETURN(StepOrder split, order());
  const std::vector<NodeId> uncovered =
      UncoveredPairs(plan.graph, split.schedule, plan.rank_plans.front().seconds);
  if (uncovered.empty() || !options.join_uncovered) return split;
  ASSIGN_OR_RETURN(Graph graph, JoinAsync(plan.graph, uncovered));
  std::swap(graph, plan.graph);
  std::vector<double> seconds = rank.seconds;
  ASSIGN_OR_RETURN(StepOrder joined, order());
  if (joined.seconds <= split.seconds * (1 + 1e-6) && joined.live_bytes <= split.live_bytes) {
    return joined;
  }
  std::swap(graph, plan.graph);
  rank.seconds = std::move(seconds);
  return split;
}

}  // namespace

absl::StatusOr<Plan> MakePlan(Graph graph, const Machine& machine, const PlanOptions& options) {
  const auto begin = std::chrono::steady_clock::now();
  Plan plan;
  plan.name = options.name.empty() ? graph.name() : options.name;
  plan.machine = machine.name();
  plan.world_size = options.world_size;
  plan.separate_memory = SeparateMemoryOf(machine);
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
  absl::StatusOr<StepOrder> order = OrderOf(machine, options, plan);
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
