#include "graph/verify/oracle.h"

#include "graph/verify/rank_group.h"

namespace millrace {
namespace {

NodeId BeginOf(const Graph& g, NodeId n) {
  return g.nodes()[n].async == AsyncRole::kDone ? g.nodes()[n].partner : n;
}
NodeId EndOf(const Graph& g, NodeId n) {
  return g.nodes()[n].async == AsyncRole::kStart ? g.nodes()[n].partner : n;
}

struct Touch {
  NodeId begin, end;
  ValueId value;
  bool write;
  int64_t low, high;
  Tier tier;
};

}  // namespace

Oracle::Oracle(const Plan& plan, const RankPlan& rank_plan) : plan_(plan), rp_(rank_plan) {
  const size_t n = plan.graph.nodes().size();
  std::vector<std::vector<NodeId>> successors(n);
  for (const Edge& e : rank_plan.edges) successors[e.from].push_back(e.to);
  reach_.assign(n, std::vector<bool>(n, false));
  for (size_t root = 0; root < n; ++root) {
    std::vector<NodeId> open = successors[root];
    while (!open.empty()) {
      const NodeId at = open.back();
      open.pop_back();
      if (reach_[root][at]) continue;
      reach_[root][at] = true;
      open.insert(open.end(), successors[at].begin(), successors[at].end());
    }
    acyclic_ = acyclic_ && !reach_[root][root];
  }
}

bool Oracle::Ordered() const {
  const Graph& g = plan_.graph;
  for (const Lane& lane : rp_.lanes) {
    for (size_t i = 1; i < lane.order.size(); ++i) {
      if (!Precedes(lane.order[i - 1], lane.order[i])) return false;
    }
  }
  for (size_t n = 0; n < g.nodes().size(); ++n) {
    const Node& node = g.nodes()[n];
    const auto id = static_cast<NodeId>(n);
    if (node.async == AsyncRole::kDone && !Precedes(node.partner, id)) return false;
    for (NodeId from : node.control) {
      if (!Precedes(from, id)) return false;
    }
    for (ValueId v : node.inputs) {
      const NodeId from = g.producer(v);
      if (from >= 0 && !Precedes(EndOf(g, from), BeginOf(g, id))) return false;
    }
  }
  return true;
}

bool Oracle::FreeOfRaces(int rank) const {
  const Graph& g = plan_.graph;
  std::vector<Touch> touches;
  for (size_t n = 0; n < g.nodes().size(); ++n) {
    const auto id = static_cast<NodeId>(n);
    for (const bool write : {false, true}) {
      for (ValueId v : write ? g.nodes()[n].outputs : g.nodes()[n].inputs) {
        const Value& value = g.values()[v];
        int64_t low = rp_.offset[value.buffer] + value.offset;
        if (value.own_shard) low += IndexInGroup(plan_, value.group, rank) * value.bytes();
        if (value.bytes() == 0) continue;
        touches.push_back({BeginOf(g, id), EndOf(g, id), v, write, low, low + value.bytes(),
                           g.buffers()[value.buffer].tier});
      }
    }
  }
  for (const Touch& a : touches) {
    for (const Touch& b : touches) {
      if (!b.write || a.tier != b.tier || a.low >= b.high || b.low >= a.high) continue;
      if (a.begin == b.begin) {  // one operation: in place means in one buffer
        if (g.values()[a.value].buffer != g.values()[b.value].buffer) return false;
        continue;
      }
      const bool before = Precedes(a.end, b.begin), after = Precedes(b.end, a.begin);
      if (before == after) return false;  // unordered
      if (a.write || before || a.value == b.value) continue;
      // b wrote other bytes before a reads: the writer of what a reads must come in between.
      const NodeId producer = g.producer(a.value);
      if (producer < 0) return false;
      if (!Precedes(b.end, BeginOf(g, producer)) && BeginOf(g, producer) != b.begin) return false;
    }
  }
  return true;
}

bool Sound(const Plan& plan) {
  for (const RankPlan& rp : plan.rank_plans) {
    const Oracle oracle(plan, rp);
    if (!oracle.acyclic() || !oracle.Ordered()) return false;
    for (int rank : rp.ranks) {
      if (!oracle.FreeOfRaces(rank)) return false;
    }
  }
  return true;
}

}  // namespace millrace
