// One rank of a trace as PyTorch's profiler (Kineto) would have written it on a GPU, for tools that read only such
// files: Holistic Trace Analysis wants one file per rank.
//
//   std::ofstream file("rank0.json");
//   WriteKinetoTrace(trace, /*rank=*/0, file);
//
// Lanes become streams (compute 7, communication 20 and up, copies 40 and up), every node a launch on the CPU thread
// with the same correlation, and names follow what those tools look for: "ncclKernel_..." for collectives, "Memcpy
// ..." for copies between tiers. Times keep their nanoseconds; Holistic Trace Analysis rounds each event inwards to
// whole microseconds unless HTA_DISABLE_NS_ROUNDING=1, and leaves the last step out of some analyses.
#ifndef MILLRACE_GRAPH_TRACE_KINETO_H_
#define MILLRACE_GRAPH_TRACE_KINETO_H_

#include <ostream>

#include "graph/trace/trace.h"

namespace millrace {

void WriteKinetoTrace(const Trace& trace, int rank, std::ostream& out);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_TRACE_KINETO_H_
