#include "graph/plan/cost_model.h"

#include <algorithm>

namespace millrace {
namespace {

// The link that joins a group of this size; the other one where the file has only one.
const Link& LinkOf(const Machine& machine, int ranks) {
  const bool inter = machine.ranks_per_node() > 0 && ranks > machine.ranks_per_node();
  for (const Link& link : machine.link()) {
    if (link.name() == (inter ? "inter_node" : "intra_node")) return link;
  }
  return machine.link_size() > 0 ? machine.link(0) : Link::default_instance();
}

double Over(double amount, double rate) { return rate > 0 ? amount / rate : 0; }

}  // namespace

double CollectiveSeconds(const CollectiveSpec& spec, int ranks, const Machine& machine) {
  if (ranks <= 1) return 0;
  const Link& link = LinkOf(machine, ranks);
  const double hops = (ranks - 1) * link.latency_seconds();
  const double count_seconds =
      Over(static_cast<double>(spec.count) * SizeOf(spec.dtype), link.bytes_per_second());
  switch (spec.op) {
    case CollectiveOp::kAllReduce:
      return 2 * hops + 2.0 * (ranks - 1) / ranks * count_seconds;
    case CollectiveOp::kAllGather:
    case CollectiveOp::kReduceScatter:
      return hops + (ranks - 1) * count_seconds;  // count is a rank's part of the whole
    case CollectiveOp::kAllToAll:
      return hops + static_cast<double>(ranks - 1) / ranks * count_seconds;
    case CollectiveOp::kBroadcast:
      return hops + count_seconds;
    case CollectiveOp::kBarrier:
      return 2 * hops;
  }
  return 0;
}

std::vector<double> NodeSeconds(const Graph& graph, const Machine& machine) {
  const Device& device = machine.device();
  std::vector<double> seconds;
  for (const Node& node : graph.nodes()) {
    double own = device.seconds_per_node();
    if (node.is_collective) {
      const double collective =
          CollectiveSeconds(node.collective, graph.group_size(node.collective.group), machine);
      if (node.async == AsyncRole::kDone) own = collective;
      if (node.async == AsyncRole::kNone) own += collective;
    } else if (node.async != AsyncRole::kStart) {
      own +=
          std::max(Over(static_cast<double>(node.flops),
                        device.flops_per_second() * device.flops_efficiency()),
                   Over(static_cast<double>(node.memory_bytes), device.memory_bytes_per_second()));
    }
    seconds.push_back(own);
  }
  return seconds;
}

}  // namespace millrace
