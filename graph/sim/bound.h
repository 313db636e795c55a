// What no order of the same nodes on the same lanes can beat: the largest of
//   the critical path    over data, control and async edges and collectives, as if lanes were
//   endless, each lane's load     its work between the shortest way to it and the shortest way from
//   it, each link's load     bytes on the wire / rate.
// Lane, hazard and credit edges are the planner's own choices and do not count, so step / bound is
// an honest measure of the plan. Internal to graph/sim.
#ifndef MILLRACE_GRAPH_SIM_BOUND_H_
#define MILLRACE_GRAPH_SIM_BOUND_H_

#include <vector>

#include "graph/sim/engine.h"

namespace millrace {
namespace sim_internal {

// `wire_seconds`: per node, the time of its collective that only bytes / rate explains. `run` has
// been run.
double LowerBound(const Run& run, const std::vector<double>& wire_seconds);

}  // namespace sim_internal
}  // namespace millrace

#endif  // MILLRACE_GRAPH_SIM_BOUND_H_
