// The order of all lanes, as good as it can be found: the best of the ladders of list_schedule.h, judged by the
// simulator, then a local search. A round of it looks at the step's critical path: a collective on it may be
// hurried (what feeds it goes first when it is ready) or what stood before it on its lane may yield (it goes when
// nothing more urgent is ready). The change that shortens the simulated step most is kept, if it fits the budget;
// the search ends when none helps or the lower bound is reached.
#ifndef MILLRACE_GRAPH_PLAN_ORDER_SEARCH_H_
#define MILLRACE_GRAPH_PLAN_ORDER_SEARCH_H_

#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "graph/ir/machine.pb.h"
#include "graph/plan/clocks.h"
#include "graph/plan/list_schedule.h"
#include "graph/plan/liveness.h"
#include "graph/plan/plan.h"

namespace millrace {

// An order with what follows from it.
struct StepOrder {
  Schedule schedule;
  Clocks clocks;
  std::vector<LiveRange> ranges;
  int64_t live_bytes = 0;  // of the device tier, at their peak
  double seconds = 0;      // simulated
  double bound = 0;        // no order is shorter
};

struct OrderOptions {
  int64_t budget_bytes = 0;      // of the device tier; 0: none
  std::optional<Ladder> ladder;  // only this one, and no search
};

// `plan` has its graph, world size and one rank plan with ranks and seconds; its lanes and edges are used as
// scratch.
absl::StatusOr<StepOrder> FindOrder(const Machine& machine, const std::vector<Edge>& dependencies,
                                    const OrderOptions& options, Plan& plan);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_PLAN_ORDER_SEARCH_H_
