// Where the time of a simulated rank went: per lane, and of communication how much lay under
// compute. Internal to graph/sim.
#ifndef MILLRACE_GRAPH_SIM_LANE_USE_H_
#define MILLRACE_GRAPH_SIM_LANE_USE_H_

#include <vector>

#include "graph/sim/engine.h"
#include "graph/sim/simulate.h"

namespace millrace {
namespace sim_internal {

// The lanes of one copy; `rank` of the entries is the copy's.
std::vector<LaneUse> LaneUses(const Run& run, int copy, double step_seconds);

struct CommTime {
  double exposed = 0, hidden = 0;
};
CommTime CommTimeOf(const Run& run, int copy);

}  // namespace sim_internal
}  // namespace millrace

#endif  // MILLRACE_GRAPH_SIM_LANE_USE_H_
