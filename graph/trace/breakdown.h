// Where the time of a trace went, per rank and lane. Each lane's step time is cut into six parts that add up:
//
//   busy          in a node
//   wait_data     idle, a predecessor by data, control or hazard had not ended
//   wait_lane     idle, that predecessor could have run, but another node had its lane
//   wait_credit   idle, only a credit (a prefetch window, a staging buffer) was missing
//   wake_up       idle although all was there: the runtime had not noticed yet
//   rest          after the lane's last node
//
// `queued` stands beside them: the time that nodes were ready and another node of their lane was running.
//
//   communication   some communication lane is busy, or the compute lane is in a collective
//   exposed         ... while no compute runs: what overlapping could still hide. Issuing an operation is no compute,
//                   here as in SimResult::exposed_comm_seconds.
//
// and each rank's into four that add up: compute, exposed communication, exposed copies (between tiers, with neither
// compute nor communication running) and idle.
//
// An operation's span on a communication lane begins when it was issued, so it includes waiting for peers.
#ifndef MILLRACE_GRAPH_TRACE_BREAKDOWN_H_
#define MILLRACE_GRAPH_TRACE_BREAKDOWN_H_

#include <cstdint>
#include <string>
#include <vector>

#include "graph/trace/trace.h"

namespace millrace {

struct LaneTime {
  int rank = 0;
  int lane = 0;
  std::string name;
  int64_t busy_ns = 0;
  int64_t wait_data_ns = 0;
  int64_t wait_lane_ns = 0;
  int64_t wait_credit_ns = 0;
  int64_t wake_up_ns = 0;
  int64_t rest_ns = 0;
  int64_t queued_ns = 0;
};

struct RankTime {
  int rank = 0;
  int64_t compute_ns = 0;
  int64_t communication_ns = 0;
  int64_t exposed_ns = 0;
  int64_t copy_ns = 0;
  int64_t exposed_copy_ns = 0;
  int64_t idle_ns = 0;
};

struct Breakdown {
  int64_t steps = 0;
  int64_t steps_ns = 0;         // sum of the steps' durations
  std::vector<LaneTime> lanes;  // by rank, then lane; sums over the steps
  std::vector<RankTime> ranks;
};

// Spans count for the step in which they begin.
Breakdown BreakDown(const Trace& trace);

// Of every span of trace.spans, by its index: time in which it was communication that nothing hid. Where two
// operations are exposed at once, the first has it, so that a rank's add up to its `exposed`.
std::vector<int64_t> ExposedBySpan(const Trace& trace);

// The trace's step number `index` alone.
Trace StepOf(const Trace& trace, size_t index);

enum class SpanClass { kCompute, kCommunication, kCopy, kIssue, kHost };
SpanClass ClassOf(const Trace& trace, const Span& span);

// A table in milliseconds per step.
std::string ToText(const Breakdown& breakdown);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_TRACE_BREAKDOWN_H_
