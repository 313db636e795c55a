// All that a plan, its machine and its simulation know of one node: where it stands and why, when it runs and what it
// waited for, how much later it could run, what it costs and by which term, which bytes it touches.
//
//   ASSIGN_OR_RETURN(SimResult sim, Simulate(plan, machine));
//   ASSIGN_OR_RETURN(NodeFacts f, FactsOf(plan, machine, sim, plan.graph.FindNode("backward/layers.3/0")));
//   std::cerr << ToText(f);
//
// As rank 0 sees it; times are the simulator's. Slack is by how much the node may end later, all others as long as
// predicted and in the same order, before the step does.
#ifndef MILLRACE_TOOLS_EXPLAIN_NODE_FACTS_H_
#define MILLRACE_TOOLS_EXPLAIN_NODE_FACTS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "graph/ir/machine.pb.h"
#include "graph/plan/plan.h"
#include "graph/sim/simulate.h"

namespace millrace {

struct NodeFacts {
  std::string name, op, doc;
  std::string partner;  // the other half of an asynchronous operation
  std::string lane;
  int place = 0, lane_size = 0;  // place counts from 0
  std::string previous, next;    // in the lane; "" at its ends
  std::string reason;            // the planner's
  double begin = 0, end = 0, slack = 0;

  struct Wait {
    EdgeKind kind = EdgeKind::kData;
    std::string node;
    double ended = 0;
    bool last = false;  // the one whose end let this node begin
  };
  std::vector<Wait> waits;  // by end, the last first

  // What the duration is made of, as plan/cost_model.h has it. A collective: latency + wire; a stage of a model:
  // operators + compute + memory; other kernels: the larger of compute and memory. All: + overhead.
  bool collective = false;
  int64_t flops = 0, memory_bytes = 0, wire_bytes = 0, operators = 0;
  int group_size = 1;
  double compute_seconds = 0, memory_seconds = 0, overhead_seconds = 0;
  double operator_seconds = 0, latency_seconds = 0, wire_seconds = 0;
  std::string
      bound;  // the largest: "compute", "memory", "operators", "wire", "latency" or "overhead"
  double model_seconds = 0;       // all of it
  double planned_seconds = 0;     // the plan's own: the model's, or a measured table's
  double contention_seconds = 0;  // on top of that, by what other lanes do beside it

  int64_t bytes_read = 0, bytes_written = 0;  // of either half: by the whole operation
  struct Touched {
    bool writes = false;
    std::string value, buffer, kind, tier;
    int64_t offset = 0, bytes = 0;  // of the value, in its tier's arena
    bool persistent = false;
    std::string first, last;  // nodes between which the buffer is in use
    double from = 0, to = 0;  // and when
  };
  std::vector<Touched> touched;
};

absl::StatusOr<NodeFacts> FactsOf(const Plan& plan, const Machine& machine, const SimResult& sim,
                                  NodeId node);

std::string ToText(const NodeFacts& facts);

}  // namespace millrace

#endif  // MILLRACE_TOOLS_EXPLAIN_NODE_FACTS_H_
