// Graphs and plans as Graphviz text, to look at: `dot -Tsvg plan.dot > plan.svg`.
//
//   GraphDot(graph)   nodes and the values between them, before planning
//   PlanDot(plan)     a cluster per rank plan, in it a cluster per lane in the lane's order; edges by kind:
//                     data solid, control dotted, hazard red, lane grey, async bold blue, credit green
//
// Where several kinds join the same two nodes, the first of data, async, control, hazard, credit, lane is drawn.
// A node shows its name, op and predicted time; hovering over it in an SVG shows the reason for its place.
#ifndef MILLRACE_GRAPH_TRACE_DOT_H_
#define MILLRACE_GRAPH_TRACE_DOT_H_

#include <string>

#include "graph/plan/plan.h"

namespace millrace {

std::string GraphDot(const Graph& graph);
std::string PlanDot(const Plan& plan);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_TRACE_DOT_H_
