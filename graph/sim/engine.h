// The event loop of the simulator: lets every node of every simulated rank begin and end by the
// rules of plan.h, and notes when, and what it waited for last. Internal to graph/sim; simulate.h
// is the interface.
//
// A simulated rank ("copy") stands for all ranks with the same plan and the same speed. An event is
// the end of a node. A node arrives when all its predecessors have ended: those of the plan's edges
// and the one before it in its lane. Compute and starts then run at once; a collective runs when it
// has arrived on all members of its group and the communicator's previous operation is complete.
//
// Where lanes contend (Machine.contention), what runs on one lane is slowed down while another lane
// of the same rank is at work: whenever something begins or ends, the work left of what runs beside
// it is stretched or shrunk. A collective goes at the pace of its slowest member.
#ifndef MILLRACE_GRAPH_SIM_ENGINE_H_
#define MILLRACE_GRAPH_SIM_ENGINE_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "graph/ir/machine.pb.h"
#include "graph/plan/plan.h"

namespace millrace {
namespace sim_internal {

struct Copy {
  const RankPlan* plan = nullptr;
  int program = 0;  // index of the rank plan
  int rank = 0;     // the one it is named after
  std::vector<int> ranks;
  double slowdown = 1;  // factor of everything but collectives
};

struct Arc {
  NodeId to = -1;
  EdgeKind kind = EdgeKind::kData;
};

// A rank plan's order, with the lanes' own order made explicit.
struct Program {
  std::vector<int32_t> first;  // arcs of node n: arcs[first[n]] .. arcs[first[n + 1] - 1]
  std::vector<Arc> arcs;
  std::vector<int32_t> predecessors;  // per node: how many arcs lead to it
  std::vector<int32_t> lane;          // per node; -1 when the rank does not have it
};

// One collective: the k-th of one communicator.
struct Call {
  std::vector<int32_t> members;  // event indices of the nodes that end with it
  int32_t needed = 0;
  int32_t arrived = 0;
  int32_t previous = -1, next = -1;  // on the same communicator
  double seconds = 0;
  bool complete = false;
};

constexpr int kLaneKinds = static_cast<int>(LaneKind::kStorage) + 1;
// [what][beside]: factor of the duration of work on a lane of kind `what` while one of kind `beside` works.
using Contentions = std::array<std::array<double, kLaneKinds>, kLaneKinds>;
// Empty (all 1) as far as the machine says nothing.
Contentions ContentionsOf(const Machine& machine);

struct Times {
  double arrive = 0;  // all predecessors have ended
  double begin = 0;   // it runs: later than arrive only for collectives, which wait for other ranks
  double end = 0;
  double ready = 0;      // the last predecessor by data, control, hazard or async has ended
  double credit = 0;     // the last credit predecessor has ended
  int32_t cause = -1;    // event index of what ended last before it could begin
  int32_t sequence = 0;  // how many nodes ended before it
  bool ended = false;
};

// Everything that was simulated. Event index = copy * nodes + node.
struct Run {
  const Plan* plan = nullptr;
  int nodes = 0;
  std::vector<Copy> copies;
  std::vector<Program> programs;  // per rank plan
  std::vector<double> seconds;    // per event index: how long the node itself lasts
  std::vector<int32_t> call;      // per event index: its collective, -1 when none
  std::vector<Call> calls;
  std::vector<Times> times;  // per event index
  bool contended = false;    // some factor is not 1
  Contentions contention{};
  int64_t events = 0;

  int copy_of(int index) const { return index / nodes; }
  NodeId node_of(int index) const { return index % nodes; }
};

// Checks ids and fills `programs`; kInvalidArgument when the plan cannot be read.
absl::Status MakePrograms(Run* run);
// Finds the collectives of all copies; durations come from `collective_seconds` per node.
void MakeCalls(const std::vector<double>& collective_seconds, Run* run);
// Runs until nothing is left. kFailedPrecondition, with who waits for whom, when nodes are left
// over.
absl::Status RunEvents(Run* run);

}  // namespace sim_internal
}  // namespace millrace

#endif  // MILLRACE_GRAPH_SIM_ENGINE_H_
