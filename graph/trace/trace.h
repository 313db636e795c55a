// What happened when, on every lane of every rank: one format for the simulator's prediction and for the
// measured run, so that both are printed, exported and compared by the same code.
//
//   Trace t = Simulate(plan);  or  recorder.Collect(plan, "digits_vit");
//   std::string json = ChromeTraceJson({&t});     // chrome.h, for Perfetto
//   Breakdown b = BreakDown(t);                   // breakdown.h, where the time went
//
// A span of the issue lane (lane 0) is the time its thread was in the node. A span of any other lane belongs
// to a done node and covers the operation: from when it had been issued and the lane was free until it was
// complete on this rank. So spans of one lane never overlap.
#ifndef MILLRACE_GRAPH_TRACE_TRACE_H_
#define MILLRACE_GRAPH_TRACE_TRACE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "graph/plan/plan.h"

namespace millrace {

struct Span {
  int32_t rank = 0;
  int32_t lane = 0;  // index into the rank's RankPlan::lanes
  NodeId node = -1;
  int64_t begin_ns = 0;
  int64_t end_ns = 0;
  int64_t ready_ns = 0;   // when the last predecessor by data, control or hazard ended; <= begin_ns
  int64_t credit_ns = 0;  // when the last credit predecessor ended; 0 when there is none
};

struct StepMark {
  int64_t step = 0;
  int64_t begin_ns = 0;
  int64_t end_ns = 0;
};

struct Trace {
  std::string title;
  bool predicted = false;      // made by the simulator
  const Plan* plan = nullptr;  // names of nodes and lanes; outlives the trace
  std::vector<StepMark> steps;
  std::vector<Span> spans;  // by step, then rank, then as they ended
  int64_t dropped = 0;      // spans lost because a ring was full; the oldest go first
  // The machine's peak floating-point rate of one rank, FLOP/s; 0: not known. Utilisation is a share of it.
  double peak_flops_per_second = 0;
};

// Lane of every node in a rank's plan, -1 for nodes that the rank does not have.
std::vector<int32_t> LaneOfNodes(const Plan& plan, const RankPlan& rank_plan);

// Fills ready_ns and credit_ns of one step's spans of one rank from the plan's edges, and moves begin_ns
// of lanes other than the issue lane up to the end of the lane's previous span. `spans` is in order of end.
void CompleteSpans(const Plan& plan, const RankPlan& rank_plan, int64_t step_begin_ns,
                   std::vector<Span>& spans);

// The stage that a forward or backward node belongs to ("layers.3" of "forward/layers.3/0"); "" for others.
std::string StageName(const Node& node);

// Bytes that a node moves (collectives: per rank) or writes: what viewers show beside its name.
int64_t BytesOf(const Graph& graph, const Node& node);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_TRACE_TRACE_H_
