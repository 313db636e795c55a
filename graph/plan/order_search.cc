#include "graph/plan/order_search.h"

#include <algorithm>
#include <set>
#include <utility>

#include "graph/base/status.h"
#include "graph/plan/lanes.h"
#include "graph/plan/memory.h"
#include "graph/sim/simulate.h"

namespace millrace {
namespace {

constexpr int kRounds = 8;
constexpr int kMovesPerRound = 12;
constexpr double kGoodEnough = 1.0005;  // of the bound

// Nodes that a move nudges.
struct Move {
  std::vector<NodeId> nodes;
  Nudge nudge = Nudge::kNone;
  bool operator<(const Move& o) const {
    return std::tie(nudge, nodes) < std::tie(o.nudge, o.nodes);
  }
};

class Search {
 public:
  Search(const Machine& machine, const std::vector<Edge>& dependencies, const OrderOptions& options,
         Plan& plan)
      : machine_(machine),
        dependencies_(dependencies),
        options_(options),
        plan_(plan),
        graph_(plan.graph),
        table_(MakeLanes(plan.graph)) {}

  absl::StatusOr<StepOrder> Run() {
    std::optional<StepOrder> best;
    ScheduleOptions how{.budget_bytes = options_.budget_bytes};
    for (Ladder ladder : {Ladder::kCriticalPath, Ladder::kFeedFirst, Ladder::kProgramOrder}) {
      if (options_.ladder.has_value() && *options_.ladder != ladder) continue;
      ScheduleOptions options = how;
      options.ladder = ladder;
      ASSIGN_OR_RETURN(StepOrder order, Try(options));
      if (best.has_value() && !Better(order, *best)) continue;
      best = std::move(order);
      how.ladder = ladder;
    }
    if (!options_.ladder.has_value()) RETURN_IF_ERROR(Improve(how, *best));
    return *std::move(best);
  }

 private:
  absl::StatusOr<StepOrder> Try(const ScheduleOptions& options) {
    StepOrder order;
    ASSIGN_OR_RETURN(order.schedule,
                     ListSchedule(graph_, table_, dependencies_, seconds(), options));
    ASSIGN_OR_RETURN(order.clocks,
                     Clocks::Make(graph_, order.schedule.lanes, order.schedule.edges));
    order.ranges = LiveRanges(graph_, order.schedule.lanes, order.clocks);
    order.live_bytes = LiveBytesBound(graph_, order.ranges, Tier::kDevice);
    ASSIGN_OR_RETURN(const SimResult result, Judge(order.schedule, /*details=*/false));
    order.seconds = result.step_seconds;
    order.bound = result.lower_bound_seconds;
    return order;
  }

  absl::StatusOr<SimResult> Judge(const Schedule& schedule, bool details) {
    plan_.rank_plans[0].lanes = schedule.lanes;
    plan_.rank_plans[0].edges = schedule.edges;
    SimOptions options;
    options.details = details;
    return Simulate(plan_, machine_, options);
  }

  // Within half a percent of the same time, less memory is better; what does not fit is worst.
  bool Better(const StepOrder& a, const StepOrder& b, double tolerance = 0.005) const {
    const int64_t budget = options_.budget_bytes;
    const bool a_fits = budget == 0 || a.live_bytes <= budget;
    const bool b_fits = budget == 0 || b.live_bytes <= budget;
    if (a_fits != b_fits) return a_fits;
    const double limit = tolerance * std::min(a.seconds, b.seconds);
    const double difference = a.seconds - b.seconds;
    if (difference < -limit || difference > limit) return difference < 0;
    return a.live_bytes < b.live_bytes;
  }

  absl::Status Improve(ScheduleOptions how, StepOrder& best) {
    how.nudges.assign(graph_.nodes().size(), Nudge::kNone);
    std::set<Move> tried;
    for (int round = 0; round < kRounds && best.seconds > kGoodEnough * best.bound; ++round) {
      ASSIGN_OR_RETURN(const SimResult course, Judge(best.schedule, /*details=*/true));
      std::optional<StepOrder> next;
      ScheduleOptions next_how;
      for (const Move& move : MovesFrom(course, best.schedule)) {
        if (!tried.insert(move).second) continue;
        ScheduleOptions nudged = how;
        for (NodeId n : move.nodes) nudged.nudges[n] = move.nudge;
        ASSIGN_OR_RETURN(StepOrder order, Try(nudged));
        if (!Better(order, next.has_value() ? *next : best, /*tolerance=*/1e-4)) continue;
        next = std::move(order);
        next_how = std::move(nudged);
      }
      if (!next.has_value()) break;
      best = *std::move(next);
      how = std::move(next_how);
    }
    return absl::OkStatus();
  }

  // The longest collectives of the critical path first.
  std::vector<Move> MovesFrom(const SimResult& course, const Schedule& schedule) const {
    std::vector<CriticalNode> path;
    for (const CriticalNode& c : course.critical_path) {
      if (graph_.nodes()[c.node].is_collective) path.push_back(c);
    }
    std::stable_sort(path.begin(), path.end(), [](const CriticalNode& a, const CriticalNode& b) {
      return a.seconds > b.seconds;
    });
    std::vector<Move> moves;
    for (const CriticalNode& c : path) {
      if (static_cast<int>(moves.size()) >= kMovesPerRound) break;
      const NodeId begin = BeginOf(c.node);
      Move hurry{{begin}, Nudge::kHurry};
      for (const Edge& e : dependencies_) {
        if (e.to == begin && e.kind == EdgeKind::kData && !graph_.nodes()[e.from].is_collective) {
          hurry.nodes.push_back(e.from);
        }
      }
      moves.push_back(std::move(hurry));
      const NodeId before = BeforeInLane(schedule, c.node);
      if (before >= 0) moves.push_back({{BeginOf(before)}, Nudge::kYield});
    }
    return moves;
  }

  NodeId BeginOf(NodeId n) const {
    const Node& node = graph_.nodes()[n];
    return node.async == AsyncRole::kDone ? node.partner : n;
  }

  NodeId BeforeInLane(const Schedule& schedule, NodeId n) const {
    if (table_.of_node[n] == 0) return -1;
    const std::vector<NodeId>& order = schedule.lanes[table_.of_node[n]].order;
    const auto at = std::find(order.begin(), order.end(), n);
    return at == order.begin() || at == order.end() ? -1 : *std::prev(at);
  }

  const std::vector<double>& seconds() const { return plan_.rank_plans[0].seconds; }

  const Machine& machine_;
  const std::vector<Edge>& dependencies_;
  const OrderOptions& options_;
  Plan& plan_;
  const Graph& graph_;
  const LaneTable table_;
};

}  // namespace

absl::StatusOr<StepOrder> FindOrder(const Machine& machine, const std::vector<Edge>& dependencies,
                                    const OrderOptions& options, Plan& plan) {
  return Search(machine, dependencies, options, plan).Run();
}

}  // namespace millrace
