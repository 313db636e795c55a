// Predicted seconds of every node: a roofline for what computes, ring formulas (link_cost.h) for what
// communicates, with the machine file's numbers - or what was measured, where there is a table.
//
//   a kernel     seconds_per_node + max(flops / (peak x efficiency), bytes / memory bandwidth)
//   a stage      seconds_per_node + operators x seconds_per_operator + flops / (peak x efficiency)
//                + bytes / memory bandwidth: its operators run one after another, and some are bound by
//                arithmetic, some by memory
//   start half   seconds_per_node: the issue lane only launches the operation
//   done half    the collective's time on its link
//   collective   (not split) both
#ifndef MILLRACE_GRAPH_PLAN_COST_MODEL_H_
#define MILLRACE_GRAPH_PLAN_COST_MODEL_H_

#include <vector>

#include "graph/ir/graph.h"
#include "graph/ir/machine.pb.h"
#include "graph/plan/costs.pb.h"

namespace millrace {

// Of every node of the graph. `table` (may be null): cost_table.h.
std::vector<double> NodeSeconds(const Graph& graph, const Machine& machine,
                                const CostTable* table = nullptr);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_PLAN_COST_MODEL_H_
