#include "graph/plan/link_cost.h"

namespace millrace {

LinkCost::LinkCost(const Machine& machine) : ranks_per_node_(machine.ranks_per_node()) {
  // A machine with one link uses it for everything; with none, the defaults of machine.proto hold.
  if (machine.link_size() > 0) intra_ = inter_ = machine.link(0);
  for (const Link& link : machine.link()) {
    if (link.name() == "intra_node") intra_ = link;
    if (link.name() == "inter_node") inter_ = link;
  }
}

const Link& LinkCost::LinkFor(int group_size) const {
  return ranks_per_node_ > 0 && group_size > ranks_per_node_ ? inter_ : intra_;
}

double LinkCost::WireBytes(const CollectiveSpec& spec, int n) {
  if (n <= 1) return 0;
  const double each = static_cast<double>(spec.count) * static_cast<double>(SizeOf(spec.dtype));
  switch (spec.op) {
    case CollectiveOp::kAllGather:      // count: what each sends
    case CollectiveOp::kReduceScatter:  // count: what each receives
      return each * (n - 1);
    case CollectiveOp::kAllReduce:
      return 2 * each * (n - 1) / n;
    case CollectiveOp::kAllToAll:
      return each * (n - 1) / n;
    case CollectiveOp::kBroadcast:
      return each;
    case CollectiveOp::kBarrier:
      return 0;
  }
  return 0;
}

double LinkCost::WireSeconds(const CollectiveSpec& spec, int n) const {
  return WireBytes(spec, n) / LinkFor(n).bytes_per_second();
}

double LinkCost::Seconds(const CollectiveSpec& spec, int n) const {
  if (n <= 1) return 0;
  const bool twice = spec.op == CollectiveOp::kAllReduce || spec.op == CollectiveOp::kBarrier;
  return (twice ? 2 : 1) * (n - 1) * LinkFor(n).latency_seconds() + WireSeconds(spec, n);
}

}  // namespace millrace
