// Traces as Chrome's trace JSON, for Perfetto (ui.perfetto.dev) and chrome://tracing: a process per rank, a
// thread per lane, a slice per span, an arrow from the start of an asynchronous operation to its completion,
// and the steps on a track of their own. A predicted and a measured trace given together lie one below the
// other, rank by rank, both beginning at 0.
//
//   std::ofstream file("trace.json");
//   WriteChromeTrace({&predicted, &measured}, file);
//
// Slices of one track never overlap (a viewer drops those that do): a span that begins before the last one
// of its lane ended is cut. Times are written with all nanoseconds.
//
// `cat` follows PyTorch's own traces, so that tools which read those (Holistic Trace Analysis) find lanes as
// streams: "kernel" for compute and communication, "gpu_memcpy" for copies between tiers, "cpu_op" for
// host work and the issuing of asynchronous operations.
//
// Everything that `millrace analyze` needs stands in the file, to the nanosecond (chrome_reader.h reads it back):
// per slice in `args` id, op, node (where the slice's name is shortened), bytes, flops, stage, group, and how long
// before its begin the node's data and credit were there; the lanes' kinds, the ranks and the machine's peak rate
// under the top-level key "millrace".
#ifndef MILLRACE_GRAPH_TRACE_CHROME_H_
#define MILLRACE_GRAPH_TRACE_CHROME_H_

#include <array>
#include <ostream>
#include <string>
#include <vector>

#include "graph/trace/trace.h"

namespace millrace {

// The thread of the steps' slices, below the lanes.
constexpr int kStepsTrack = 1000;
// How the file calls the kinds of lanes, by LaneKind; plan.proto's words.
constexpr std::array<absl::string_view, 6> kLaneKindNames = {
    "compute", "comm", "host_to_device", "device_to_host", "host_compute", "storage"};

// Streams: nothing as large as the trace is held. Check the stream afterwards.
void WriteChromeTrace(const std::vector<const Trace*>& traces, std::ostream& out);
std::string ChromeTraceJson(const std::vector<const Trace*>& traces);

// "12.345": a time in the unit of these files, with all its nanoseconds.
std::string ChromeMicroseconds(int64_t ns);

// `text` between quotes, as JSON wants it. What is not UTF-8 is read as Latin-1.
std::string JsonString(absl::string_view text);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_TRACE_CHROME_H_
