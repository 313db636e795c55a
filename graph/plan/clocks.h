// What surely precedes what under a plan's edges, one comparison a question: each lane is a total order, so a
// node remembers for every lane the last place that precedes it (a vector clock). Memory: 4 bytes x nodes x
// lanes; n^2 bits are never kept.
//
//   ASSIGN_OR_RETURN(Clocks clocks, Clocks::Make(graph, lanes, edges));
//   if (clocks.Precedes(reduce_done, backward)) ...      // it has ended before backward begins
#ifndef MILLRACE_GRAPH_PLAN_CLOCKS_H_
#define MILLRACE_GRAPH_PLAN_CLOCKS_H_

#include <vector>

#include "absl/status/statusor.h"
#include "graph/plan/plan.h"

namespace millrace {

class Clocks {
 public:
  // `edges` must hold the neighbours of every lane. Fails when they close a cycle, naming its nodes.
  static absl::StatusOr<Clocks> Make(const Graph& graph, const std::vector<Lane>& lanes,
                                     const std::vector<Edge>& edges);

  int lane(NodeId n) const { return lane_[n]; }
  int position(NodeId n) const { return position_[n]; }
  // The last position of the lane that precedes node n or is n; -1: none.
  int Last(NodeId n, int lane) const { return clock_[static_cast<size_t>(n) * lanes_ + lane]; }
  bool Precedes(NodeId a, NodeId b) const { return a != b && Last(b, lane_[a]) >= position_[a]; }

 private:
  int lanes_ = 0;
  std::vector<int> lane_, position_;
  std::vector<int> clock_;
};

// `edges` without those that others imply. Edges of values, halves, lanes and credits stay: they say why.
std::vector<Edge> WithoutImplied(const Clocks& clocks, const std::vector<Edge>& edges);

// Node ids in an order that the edges allow; fails on a cycle, naming its nodes.
absl::StatusOr<std::vector<NodeId>> Sorted(const Graph& graph, const std::vector<Edge>& edges);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_PLAN_CLOCKS_H_
