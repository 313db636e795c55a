// One rank's plan as the executors want it: the nodes that the rank runs, densely numbered, with the fewest
// edges that keep the plan's order. The planner states every reason for an order (data, hazard, lane,
// credit ...), so its edges imply one another; each edge left out saves about 10 ns per step.
//
//   plan edges:  a -lane-> b -lane-> c,  a -data-> c,  a -hazard-> b
//   program:     a -> b -> c                              (a before c follows)
#ifndef MILLRACE_GRAPH_RUNTIME_PROGRAM_H_
#define MILLRACE_GRAPH_RUNTIME_PROGRAM_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "graph/plan/plan.h"
#include "graph/runtime/kernel.h"

namespace millrace {

struct ProgramNode {
  NodeId id = -1;
  int32_t lane = 0;
  AsyncRole role = AsyncRole::kNone;
  int32_t partner = -1;  // index of the other half
  std::vector<int32_t> predecessors;
  std::vector<int32_t> successors;
};

struct Program {
  const Plan* plan = nullptr;
  const RankPlan* rank_plan = nullptr;
  int rank = 0;
  std::vector<ProgramNode> nodes;  // the issue lane in its order, then the done halves
  int32_t issue_count = 0;         // nodes[0, issue_count) are the issue lane
  std::vector<int32_t> index_of;   // per NodeId; -1 for nodes of other ranks
};

// kInvalidArgument, naming nodes, when a node is in two lanes, an edge leads to a node that is in none, a
// half lacks its partner or stands in the wrong lane, a kernel is missing, or the edges have a cycle.
// `edges`: those to keep instead of the plan's own (graph/plan/stream_edges.h).
absl::StatusOr<Program> MakeProgram(const Plan& plan, const RankKernels& kernels,
                                    const std::vector<Edge>* edges = nullptr);

// The same set of reachable pairs with as few edges as can be found cheaply: duplicates go, and edges that
// a path over lane neighbours implies. Exposed for its test.
std::vector<std::pair<int32_t, int32_t>> DropImpliedEdges(
    int32_t nodes, const std::vector<std::pair<int32_t, int32_t>>& edges,
    const std::vector<int32_t>& topological_order, const std::vector<std::vector<int32_t>>& lanes);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_RUNTIME_PROGRAM_H_
