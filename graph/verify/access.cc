#include "graph/verify/access.h"

#include <algorithm>
#include <utility>

#include "graph/verify/rank_group.h"

namespace millrace {
namespace verify_internal {

std::pair<int64_t, int64_t> ArenaRange(const Context& context, const RankPlan& plan, ValueId value,
                                       int rank) {
  const Value& v = context.value(value);
  int64_t low = plan.offset[v.buffer] + v.offset;
  if (v.own_shard) low += IndexInGroup(*context.plan, v.group, rank) * v.bytes();
  return {low, low + v.bytes()};
}

std::vector<Access> Accesses(const Context& context, const RankView& view, int rank) {
  const Graph& graph = context.graph();
  std::vector<Access> all;
  // An operation's accesses are gathered where it begins.
  const auto add = [&](NodeId n, bool write) {
    const Node& node = context.node(n);
    for (ValueId v : write ? node.outputs : node.inputs) {
      const auto [low, high] = ArenaRange(context, *view.plan, v, rank);
      if (low >= high) continue;
      all.push_back({OperationBegin(graph, n), OperationEnd(graph, n), n, v, write,
                     context.buffer(context.value(v).buffer).tier, low, high});
    }
  };
  for (NodeId n : view.before->order()) {
    const Node& node = context.node(n);
    if (node.async == AsyncRole::kDone || !view.has(n)) continue;
    const NodeId end = OperationEnd(graph, n);
    add(n, false);
    if (end != n) add(end, false);
    add(n, true);
    if (end != n) add(end, true);
  }
  return all;
}

}  // namespace verify_internal
}  // namespace millrace
