// When each buffer is in use, as an interval of places on the issue lane.
//
// Every operation begins on the issue lane, which is a total order. So a buffer is in use from the place of the
// first node that touches it to the last place of which it is not sure that all touches have ended: for what
// runs on the issue lane its own place, for an asynchronous operation the place before the first node that
// surely comes after its done half (Clocks). Then
//
//   every touch of A precedes every touch of B   <=>   A's interval ends before B's begins,
//
// so two buffers may share bytes exactly when their intervals do not meet, and the largest sum over one place
// is the largest sum of buffers that all conflict with each other: no placement can need less.
#ifndef MILLRACE_GRAPH_PLAN_LIVENESS_H_
#define MILLRACE_GRAPH_PLAN_LIVENESS_H_

#include <vector>

#include "graph/plan/clocks.h"
#include "graph/plan/plan.h"

namespace millrace {

// Places [birth, death] of the issue lane. A step's results (kind metric) live to its end, persistent buffers
// always, buffers that nobody touches never (birth > death).
struct LiveRange {
  int birth = 1;
  int death = 0;
  bool Meets(const LiveRange& o) const { return birth <= o.death && o.birth <= death; }
};

std::vector<LiveRange> LiveRanges(const Graph& graph, const std::vector<Lane>& lanes,
                                  const Clocks& clocks);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_PLAN_LIVENESS_H_
