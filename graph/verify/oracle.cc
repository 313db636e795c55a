#include "graph/verify/oracle.h"

#include <algorithm>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "graph/verify/rank_group.h"

namespace millrace {
namespace {

NodeId BeginOf(const Graph& g, NodeId n) {
  return g.nodes()[n].async == AsyncRole::kDone ? g.nodes()[n].partner : n;
}
NodeId EndOf(const Graph& g, NodeId n) {
  return g.nodes()[n].async == AsyncRole::kStart ? g.nodes()[n].partner : n;
}

}  // namespace

// Rows are joined along the edges until nothing changes. In an order against the edges once is enough where there is
// no cycle.
Oracle::Oracle(const Plan& plan, const RankPlan& rank_plan) : plan_(plan), rp_(rank_plan) {
  const size_t n = plan.graph.nodes().size();
  std::vector<std::vector<NodeId>> successors(n), predecessors(n);
  std::vector<int> open(n, 0);  // successors that are not in `order` yet
  for (const Edge& e : rank_plan.edges) {
    successors[e.from].push_back(e.to);
    predecessors[e.to].push_back(e.from);
    ++open[e.from];
  }
  std::vector<NodeId> order;
  for (size_t i = 0; i < n; ++i) {
    if (open[i] == 0) order.push_back(static_cast<NodeId>(i));
  }
  for (size_t i = 0; i < order.size(); ++i) {
    for (NodeId from : predecessors[order[i]]) {
      if (--open[from] == 0) order.push_back(from);
    }
  }
  acyclic_ = order.size() == n;
  for (size_t i = 0; i < n && !acyclic_; ++i) {
    if (open[i] > 0) order.push_back(static_cast<NodeId>(i));  // on or before a cycle
  }
  words_ = (n + 63) / 64;
  reach_.assign(n * words_, 0);
  for (bool changed = true; changed;) {
    changed = false;
    for (NodeId at : order) {
      uint64_t* row = reach_.data() + at * words_;
      for (NodeId to : successors[at]) {
        const uint64_t* other = Row(to);
        for (size_t w = 0; w < words_; ++w) {
          const uint64_t joined =
              row[w] | other[w] |
              (w == static_cast<size_t>(to / 64) ? uint64_t{1} << (to % 64) : 0);
          changed = changed || joined != row[w];
          row[w] = joined;
        }
      }
    }
    changed = changed && !acyclic_;
  }
}

std::string Oracle::Disorder() const {
  const Graph& g = plan_.graph;
  const auto wrong = [&](NodeId a, NodeId b) {
    return Precedes(a, b)
               ? ""
               : absl::StrCat(g.nodes()[a].name, " need not end before ", g.nodes()[b].name);
  };
  std::string what;
  for (const Lane& lane : rp_.lanes) {
    for (size_t i = 1; i < lane.order.size() && what.empty(); ++i) {
      what = wrong(lane.order[i - 1], lane.order[i]);
    }
  }
  for (size_t n = 0; n < g.nodes().size() && what.empty(); ++n) {
    const Node& node = g.nodes()[n];
    const auto id = static_cast<NodeId>(n);
    if (node.async == AsyncRole::kDone) what = wrong(node.partner, id);
    for (NodeId from : node.control) {
      if (what.empty()) what = wrong(from, id);
    }
    for (ValueId v : node.inputs) {
      const NodeId from = g.producer(v);
      if (from >= 0 && what.empty()) what = wrong(EndOf(g, from), BeginOf(g, id));
    }
  }
  return what;
}

std::string Oracle::Race(int rank) const {
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
  // Only neighbours in memory can share a byte.
  std::sort(touches.begin(), touches.end(), [](const Touch& a, const Touch& b) {
    return std::tie(a.tier, a.low) < std::tie(b.tier, b.low);
  });
  for (size_t i = 0; i < touches.size(); ++i) {
    for (size_t k = i + 1; k < touches.size(); ++k) {
      if (touches[k].tier != touches[i].tier || touches[k].low >= touches[i].high) break;
      if (Allowed(touches[i], touches[k]) && Allowed(touches[k], touches[i])) continue;
      const auto name = [&](const Touch& t) {
        return absl::StrCat(g.nodes()[t.begin].name, t.write ? " writing " : " reading ",
                            g.values()[t.value].name);
      };
      return absl::StrCat(name(touches[i]), " against ", name(touches[k]), " on rank ", rank);
    }
  }
  return "";
}

// `b` writes bytes that `a` touches.
bool Oracle::Allowed(const Touch& a, const Touch& b) const {
  const Graph& g = plan_.graph;
  if (!b.write) return true;
  if (a.begin == b.begin) {  // one operation: in place means in one buffer
    return g.values()[a.value].buffer == g.values()[b.value].buffer;
  }
  const bool before = Precedes(a.end, b.begin), after = Precedes(b.end, a.begin);
  if (before == after) return false;  // unordered
  if (a.write || before || a.value == b.value) return true;
  // b wrote other bytes before a reads: the writer of what a reads must come in between.
  const NodeId producer = g.producer(a.value);
  if (producer < 0) return false;
  return Precedes(b.end, BeginOf(g, producer)) || BeginOf(g, producer) == b.begin;
}

std::string Unsound(const Plan& plan) {
  const std::vector<Value>& values = plan.graph.values();
  const bool shards =
      std::any_of(values.begin(), values.end(), [](const Value& v) { return v.own_shard; });
  for (const RankPlan& rp : plan.rank_plans) {
    const Oracle oracle(plan, rp);
    if (!oracle.acyclic()) return "a cycle";
    if (std::string what = oracle.Disorder(); !what.empty()) return what;
    for (int rank : rp.ranks) {
      if (std::string what = oracle.Race(rank); !what.empty()) return what;
      if (!shards) break;  // the same bytes on every rank
    }
  }
  return "";
}

}  // namespace millrace
