// How long a collective takes and how many bytes it puts on the wire, by the ring formulas: with n
// ranks, S bytes of the whole tensor, latency a per hop and rate B,
//
//   all_reduce                     2 (n-1) a + 2 (n-1)/n S/B
//   all_gather, reduce_scatter,
//   all_to_all                       (n-1) a +   (n-1)/n S/B
//   broadcast                        (n-1) a +           S/B     (pipelined along the ring)
//   barrier                        2 (n-1) a
//
//   LinkCost cost(machine);
//   double seconds = cost.Seconds(node.collective, graph.group_size(node.collective.group));
#ifndef MILLRACE_GRAPH_PLAN_LINK_COST_H_
#define MILLRACE_GRAPH_PLAN_LINK_COST_H_

#include <cstdint>

#include "graph/ir/graph.h"
#include "graph/ir/machine.pb.h"

namespace millrace {

class LinkCost {
 public:
  explicit LinkCost(const Machine& machine);

  double Seconds(const CollectiveSpec& spec, int group_size) const;
  // The part of Seconds that no order can hide from the link: bytes / rate, without latency.
  double WireSeconds(const CollectiveSpec& spec, int group_size) const;
  // Bytes that each rank sends.
  static double WireBytes(const CollectiveSpec& spec, int group_size);

 private:
  // The link that joins a group of this size: "intra_node" when it fits one host, else
  // "inter_node".
  const Link& LinkFor(int group_size) const;

  int ranks_per_node_ = 0;
  Link intra_, inter_;
};

}  // namespace millrace

#endif  // MILLRACE_GRAPH_PLAN_LINK_COST_H_
