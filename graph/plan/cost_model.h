// Predicted seconds of every node: a roofline for what computes, ring formulas for what communicates, with
// the machine file's numbers.
//
//   compute      seconds_per_node + max(flops / (peak x efficiency), bytes / memory bandwidth)
//   start half   seconds_per_node: the issue lane only launches the operation
//   done half    the collective's time on its link
//   collective   (not split) both
//
// Over n ranks, S bytes of the whole tensor, a seconds a hop, B bytes/s:
//   all_reduce 2 (n-1) a + 2 (n-1)/n S/B;  reduce_scatter, all_gather, all_to_all (n-1) a + (n-1)/n S/B;
//   broadcast (n-1) a + S/B;  barrier 2 (n-1) a
#ifndef MILLRACE_GRAPH_PLAN_COST_MODEL_H_
#define MILLRACE_GRAPH_PLAN_COST_MODEL_H_

#include <vector>

#include "graph/ir/graph.h"
#include "graph/ir/machine.pb.h"

namespace millrace {

// Of one collective among `ranks` ranks of the machine.
double CollectiveSeconds(const CollectiveSpec& spec, int ranks, const Machine& machine);

// Of every node of the graph.
std::vector<double> NodeSeconds(const Graph& graph, const Machine& machine);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_PLAN_COST_MODEL_H_
