// The simplest planner that makes valid plans, so that the verifier's tests do not rest on the real one:
// the issue lane is the graph's text, buffers are placed first-fit by the places in the text where they are
// used, and an edge is written for every pair of operations that touch the same bytes. Quadratic, obvious.
//
//   Plan plan = PlainPlan(graph, /*world_size=*/2);
#ifndef MILLRACE_GRAPH_VERIFY_TESTING_PLAIN_PLANNER_H_
#define MILLRACE_GRAPH_VERIFY_TESTING_PLAIN_PLANNER_H_

#include "graph/plan/plan.h"

namespace millrace {

Plan PlainPlan(Graph graph, int world_size);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_VERIFY_TESTING_PLAIN_PLANNER_H_
