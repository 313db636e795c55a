// A plan: everything that running a step needs to know, decided beforehand and printable. One
// planner run makes the plan of all ranks; ranks with the same program share a RankPlan.
//
// Execution model of one rank (the runtime, the simulator and the verifier all follow it):
//   * the ISSUE lane (lane 0, "compute"): the total order in which the rank's compute thread runs
//   compute
//     nodes and issues the starts of asynchronous nodes;
//   * every other lane ("comm:data", ...) is an engine that runs asynchronous operations one after
//   another
//     in the order in which they were issued; its `order` lists the done nodes.
//   * a node begins when all its predecessors in `edges` have ended. A done node ends when the
//   operation
//     that its start launched has completed (for a collective: on all members of the group).
// The runtime adds no other ordering, so `edges` must cover every conflict; the verifier checks
// that.
#ifndef MILLRACE_GRAPH_PLAN_PLAN_H_
#define MILLRACE_GRAPH_PLAN_PLAN_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "graph/ir/graph.h"
#include "graph/ir/lane_kind.h"

namespace millrace {

enum class EdgeKind : uint8_t {
  kData,     // producer -> consumer of a value
  kControl,  // asked for by the graph
  kHazard,   // reader or writer of old bytes -> writer of new bytes (same buffer, or reused memory)
  kLane,     // neighbours in a lane's total order
  kAsync,    // start -> done
  kCredit    // a resource's holder gives back -> next taker (prefetch window, staging)
};
absl::string_view Name(EdgeKind k);

struct Edge {
  NodeId from = -1;
  NodeId to = -1;
  EdgeKind kind = EdgeKind::kData;
  bool operator==(const Edge& o) const { return from == o.from && to == o.to && kind == o.kind; }
};

struct Lane {
  std::string name;  // "compute", "comm:data"
  LaneKind kind = LaneKind::kCompute;
  std::vector<NodeId> order;  // see the execution model above
};

// A counted resource: at most `limit` of `holders` are between take and give at any time. Kept in
// the plan so that the verifier can prove that the credit edges cannot close a cycle.
struct Credit {
  std::string name;   // "prefetch"
  int64_t limit = 0;  // in `unit`
  std::string unit;   // "buckets", "bytes"
  struct Holder {
    NodeId take = -1;  // the node that takes the credit when it begins
    NodeId give = -1;  // the node whose end gives it back
    int64_t amount = 1;
  };
  std::vector<Holder> holders;
};

struct PeakEntry {  // what lies in a tier at its peak, largest first
  Tier tier = Tier::kDevice;
  std::string what;
  int64_t bytes = 0;
};

struct RankPlan {
  std::vector<int> ranks;   // global ranks that follow this plan, ascending
  std::vector<Lane> lanes;  // lanes[0] is the issue lane
  std::vector<Edge> edges;
  std::vector<int64_t>
      offset;  // per buffer: bytes from the start of its tier's arena, a multiple of AlignmentOf(tier)
  std::array<int64_t, kTiers> arena_bytes{};  // size of each tier's arena = predicted peak
  std::array<int64_t, kTiers>
      persistent_bytes{};  // persistent buffers lie in [0, persistent_bytes)
  std::array<int64_t, kTiers>
      live_bytes_bound{};  // max over time of the live bytes: no placement can need less
  std::vector<PeakEntry> at_peak;
  std::vector<Credit> credits;
  std::vector<double> seconds;      // per node: predicted duration
  std::vector<double> start_time;   // per node: predicted begin, from the planner's own schedule
  std::vector<std::string> reason;  // per node: why it stands where it stands in its lane
};

struct Plan {
  std::string name;
  std::string machine;
  int world_size = 1;
  // The machine's devices have memory of their own: what the host touches, they do not, and the other way round. Copies
  // between device and pinned memory apart.
  bool separate_memory = false;
  Graph graph;
  std::vector<RankPlan> rank_plans;            // every rank in exactly one
  std::array<int64_t, kTiers> budget_bytes{};  // per rank; 0 = no budget
  std::string hash;            // sha-like hex over everything above; equal on all ranks
  double seconds_to_plan = 0;  // not part of the hash

  const RankPlan& ForRank(int rank) const;  // the plan that `rank` follows
};

}  // namespace millrace

#endif  // MILLRACE_GRAPH_PLAN_PLAN_H_
