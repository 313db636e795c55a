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

namespace millrace {
namespace {

// An order of all lanes with what follows from it.
struct Candidate {
  Schedule schedule;
  Clocks clocks;
  std::vector<LiveRange> ranges;
  int64_t live_bytes = 0;
};

absl::StatusOr<Candidate> Try(const Graph& graph, const LaneTable& table,
                              const std::vector<Edge>& dependencies,
                              const std::vector<double>& seconds, const ScheduleOptions& options) {
  Candidate c;
  ASSIGN_OR_RETURN(c.schedule, ListSchedule(graph, table, dependencies, seconds, options));
  ASSIGN_OR_RETURN(c.clocks, Clocks::Make(graph, c.schedule.lanes, c.schedule.edges));
  c.ranges = LiveRanges(graph, c.schedule.lanes, c.clocks);
  c.live_bytes = LiveBytesBound(graph, c.ranges, Tier::kDevice);
  return c;
}

// Within half a percent of the same time, less memory is better; what does not fit is worst.
bool Better(const Candidate& a, const Candidate& b, int64_t budget) {
  const bool a_fits = budget == 0 || a.live_bytes <= budget;
  const bool b_fits = budget == 0 || b.live_bytes <= budget;
  if (a_fits != b_fits) return a_fits;
  const double limit = 0.005 * std::min(a.schedule.makespan, b.schedule.makespan);
  const double difference = a.schedule.makespan - b.schedule.makespan;
  if (difference < -limit || difference > limit) return difference < 0;
  return a.live_bytes < b.live_bytes;
}

absl::StatusOr<Candidate> BestOrder(const Graph& graph, const std::vector<Edge>& dependencies,
                                    const std::vector<double>& seconds, int64_t budget,
                                    const std::optional<Ladder>& only) {
  const LaneTable table = MakeLanes(graph);
  std::optional<Candidate> best;
  for (Ladder ladder : {Ladder::kCriticalPath, Ladder::kFeedFirst, Ladder::kProgramOrder}) {
    if (only.has_value() && *only != ladder) continue;
    ASSIGN_OR_RETURN(Candidate c, Try(graph, table, dependencies, seconds,
                                      {.ladder = ladder, .budget_bytes = budget}));
    if (!best.has_value() || Better(c, *best, budget)) best = std::move(c);
  }
  return *std::move(best);
}

}  // namespace

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

  RankPlan rank;
  rank.ranks.resize(plan.world_size);
  std::iota(rank.ranks.begin(), rank.ranks.end(), 0);
  rank.seconds = NodeSeconds(graph, machine, options.costs);
  absl::StatusOr<std::vector<Edge>> dependencies = Dependencies(graph);
  if (!dependencies.ok()) return Annotate(dependencies.status(), "planning ", plan.name);
  absl::StatusOr<Candidate> order =
      BestOrder(graph, *dependencies, rank.seconds, plan.budget_bytes[0], options.ladder);
  if (!order.ok()) return Annotate(order.status(), "planning ", plan.name);

  MemoryPlan memory = PlaceBuffers(graph, order->ranges);
  rank.credits = FindCredits(graph, AccessesByBuffer(graph), order->ranges, order->clocks,
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
  plan.rank_plans.push_back(std::move(rank));
  plan.graph = std::move(graph);
  if (options.check_budget) RETURN_IF_ERROR(CheckBudget(plan));
  plan.hash = PlanHash(plan);
  plan.seconds_to_plan =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return plan;
}

}  // namespace millrace
