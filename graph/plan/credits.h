// The counted resources of a plan, read off its buffers:
//
//   prefetch    gathered parameters (stage 3): taken by the gather, given back by the last reader
//   gradients   transient gradients on their way into a reduction: taken by the backward that first writes
//               one, given back by what last touches it (the reduction, or the accumulate behind it)
//
// A window is enforced by control edges that lowering drew (lower/prefetch.h, lower/reduce_window.h); those that
// lead from a giver to a taker become credit edges. The limit is the largest number that can be held at a time
// under the plan's edges, which is what the verifier proves and a change of a window shows.
#ifndef MILLRACE_GRAPH_PLAN_CREDITS_H_
#define MILLRACE_GRAPH_PLAN_CREDITS_H_

#include <vector>

#include "graph/plan/hazards.h"
#include "graph/plan/liveness.h"
#include "graph/plan/plan.h"

namespace millrace {

// Fills `credits` and turns control edges among `edges` into credit edges.
std::vector<Credit> FindCredits(const Graph& graph,
                                const std::vector<std::vector<Access>>& accesses,
                                const std::vector<LiveRange>& ranges, const Clocks& clocks,
                                std::vector<Edge>* edges);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_PLAN_CREDITS_H_
