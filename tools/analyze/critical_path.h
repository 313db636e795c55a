// What a step's length hangs on, from its spans alone: from the step's end back to its begin, always to what the
// present node had waited for last - its data, a credit, its lane, or in a collective the rank that came last.
//
//   for (const PathPart& part : CriticalPath(StepOf(trace, 0))) ...   // in time order, without gaps
//
// Parts add up to the step. Where a node could have begun and did not, the part is a wait.
#ifndef MILLRACE_TOOLS_ANALYZE_CRITICAL_PATH_H_
#define MILLRACE_TOOLS_ANALYZE_CRITICAL_PATH_H_

#include <cstdint>
#include <vector>

#include "graph/trace/trace.h"

namespace millrace {

struct PathPart {
  NodeId node = -1;  // of a wait: the node that could have begun; -1 after the last one
  int rank = 0;
  bool waiting = false;
  int64_t begin_ns = 0;
  int64_t end_ns = 0;
};

// Of a trace of one step (StepOf in graph/trace/breakdown.h).
std::vector<PathPart> CriticalPath(const Trace& step);

}  // namespace millrace

#endif  // MILLRACE_TOOLS_ANALYZE_CRITICAL_PATH_H_
