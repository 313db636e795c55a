// Reads back what chrome.h writes: the trace of a run or of `millrace export --format chrome`, possibly looked at,
// cut or annotated by other tools since. Spans, waiting times and steps come back to the nanosecond, with as much of
// a plan as a trace tells: ranks, lanes, and of every node name, op, bytes, FLOPs, stage and group. So whatever
// takes a Trace (breakdown.h, chrome.h) takes one that was read.
//
//   ASSIGN_OR_RETURN(std::vector<TraceFile> traces, ReadChromeTrace(text, "run/trace.json"));
//   Breakdown b = BreakDown(traces[0].trace);
//
// Unknown keys and foreign events are passed over. What is missing or of the wrong type is an error that names the
// file, the place and what was expected there; a file that was cut off says at which line and column it ends.
#ifndef MILLRACE_GRAPH_TRACE_CHROME_READER_H_
#define MILLRACE_GRAPH_TRACE_CHROME_READER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "graph/trace/trace.h"

namespace millrace {

struct TraceFile {
  std::unique_ptr<Plan> plan;  // without edges, offsets and reasons; trace.plan points to it
  Trace trace;
};

// One for each trace that the file was written with, in that order.
absl::StatusOr<std::vector<TraceFile>> ReadChromeTrace(const std::string& text,
                                                       const std::string& file);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_TRACE_CHROME_READER_H_
