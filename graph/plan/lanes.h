// Which lane a node belongs to. Lane 0, "compute", is the issue lane: everything that computes, operations of other
// engines that are not split, and the start halves. The done halves of a group's collectives are a lane of their
// own, "comm:<group>", in the order in which they were issued; so are those of each other engine ("storage",
// "host_compute", ...; graph/ir/lane_kind.h).
#ifndef MILLRACE_GRAPH_PLAN_LANES_H_
#define MILLRACE_GRAPH_PLAN_LANES_H_

#include <vector>

#include "graph/plan/plan.h"

namespace millrace {

struct LaneTable {
  std::vector<Lane> lanes;     // orders empty
  std::vector<int> of_node;    // index into lanes
  std::vector<int> of_engine;  // per node: the lane of the engine that does its work, -1: lane 0's
};

LaneTable MakeLanes(const Graph& graph);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_PLAN_LANES_H_
