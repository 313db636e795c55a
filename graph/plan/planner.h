// From a graph to a plan: what runs when on which lane, where every buffer lies, who waits for whom, and why.
//
//   ASSIGN_OR_RETURN(Graph step, Lower(spec, options));
//   ASSIGN_OR_RETURN(Plan plan, MakePlan(std::move(step), machine, {.name = "vit_base"}));
//
//   cost_model     predicted seconds of every node
//   lanes          which lane a node belongs to
//   hazards        what must precede what
//   list_schedule  the order of every lane, by a ladder of rules
//   order_search   the best of several ladders, improved by a search that the simulator judges
//   clocks         what surely precedes what; edges that say nothing new are dropped
//   liveness       when each buffer is in use
//   memory         where it lies (packing)
//   credits        counted resources
//
// All ranks run the same program, so there is one RankPlan. The same input gives the same plan, byte for byte.
// An arena above the machine's memory is an error that names what lies there at the peak and what would help.
#ifndef MILLRACE_GRAPH_PLAN_PLANNER_H_
#define MILLRACE_GRAPH_PLAN_PLANNER_H_

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "graph/ir/machine.pb.h"
#include "graph/plan/costs.pb.h"
#include "graph/plan/list_schedule.h"
#include "graph/plan/plan.h"

namespace millrace {

struct PlanOptions {
  std::string name;    // default: the graph's
  int world_size = 0;  // 0: the largest group's size
  // false: a plan beyond the machine's memory is returned all the same, to be looked at.
  bool check_budget = true;
  // Measured costs; null: the analytic model. Outlives the call.
  const CostTable* costs = nullptr;
  // Asynchronous pairs under which nothing runs become synchronous nodes of the plan's graph, where that costs
  // no time. false: the graph stays as it is given.
  bool join_uncovered = true;
  // Only this ladder instead of the best of all, for tests.
  std::optional<Ladder> ladder;
};

absl::StatusOr<Plan> MakePlan(Graph graph, const Machine& machine, const PlanOptions& options = {});

}  // namespace millrace

#endif  // MILLRACE_GRAPH_PLAN_PLANNER_H_
