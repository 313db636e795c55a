// What surely precedes what in one rank's plan, from its edges alone.
//
// a precedes b when a path of edges leads from a to b: then a has ended before b begins, in every
// execution. The lanes only say how to store the answer cheaply: neighbours of a lane that an edge
// really joins form a chain, a node remembers for every chain the last member that precedes it
// (a vector clock), and a question is one comparison. A lane whose neighbours are not joined by an
// edge simply falls into more chains: nothing is assumed about it.
//
//   HappensBefore before(graph.nodes().size(), rank_plan.lanes, rank_plan.edges);
//   if (!before.acyclic()) return Describe(before.cycle());
//   if (before.Precedes(writer, reader)) ...
//
// Edges and lanes may hold anything but node ids out of range. Memory: 4 bytes x nodes x chains.
#ifndef MILLRACE_GRAPH_VERIFY_HAPPENS_BEFORE_H_
#define MILLRACE_GRAPH_VERIFY_HAPPENS_BEFORE_H_

#include <cstdint>
#include <vector>

#include "graph/plan/plan.h"

namespace millrace {

class HappensBefore {
 public:
  HappensBefore(int num_nodes, const std::vector<Lane>& lanes, const std::vector<Edge>& edges);

  bool acyclic() const { return cycle_.empty(); }
  // One cycle, each node before the next and the last before the first; empty when there is none.
  const std::vector<NodeId>& cycle() const { return cycle_; }

  // The following need acyclic().
  bool Precedes(NodeId a, NodeId b) const { return a != b && Clock(b)[chain_[a]] >= position_[a]; }
  // A linear extension, and each node's place in it.
  const std::vector<NodeId>& order() const { return order_; }
  int place(NodeId n) const { return place_[n]; }
  // Nodes of one chain are totally ordered by their position in it.
  int chains() const { return chains_; }
  int chain(NodeId n) const { return chain_[n]; }
  int position(NodeId n) const { return position_[n]; }

 private:
  const int32_t* Clock(NodeId n) const { return clock_.data() + int64_t{n} * chains_; }

  int chains_ = 0;
  std::vector<int32_t> chain_, position_, place_;
  std::vector<int32_t> clock_;  // node-major: last position of each chain that precedes or is it
  std::vector<NodeId> order_, cycle_;
};

// Any cycle of the directed graph given as successor lists in compressed form (the successors of n
// are targets[first[n]] .. targets[first[n + 1] - 1]); empty when there is none.
std::vector<int32_t> FindCycle(const std::vector<int32_t>& first,
                               const std::vector<int32_t>& targets);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_VERIFY_HAPPENS_BEFORE_H_
