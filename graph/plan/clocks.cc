#include "graph/plan/clocks.h"

#include <algorithm>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "graph/base/status.h"

namespace millrace {
namespace {

// Edges of each node in one array: those of n are at [first[n], first[n + 1]).
struct Adjacency {
  std::vector<int> first;
  std::vector<NodeId> node;
};

Adjacency Successors(size_t nodes, const std::vector<Edge>& edges) {
  Adjacency a;
  a.first.assign(nodes + 1, 0);
  for (const Edge& e : edges) ++a.first[e.from + 1];
  for (size_t i = 0; i < nodes; ++i) a.first[i + 1] += a.first[i];
  a.node.resize(edges.size());
  std::vector<int> next(a.first.begin(), a.first.end() - 1);
  for (const Edge& e : edges) a.node[next[e.from]++] = e.to;
  return a;
}

// A cycle among the nodes that could not be sorted: each has a predecessor among them.
std::string Cycle(const Graph& graph, const std::vector<Edge>& edges,
                  const std::vector<int>& waiting) {
  std::vector<NodeId> before(waiting.size(), -1);
  for (const Edge& e : edges) {
    if (waiting[e.from] > 0 && waiting[e.to] > 0) before[e.to] = e.from;
  }
  auto n = static_cast<NodeId>(
      std::find_if(before.begin(), before.end(), [](NodeId b) { return b >= 0; }) - before.begin());
  if (n == static_cast<NodeId>(before.size())) return "?";
  std::vector<bool> seen(waiting.size());
  for (; !seen[n]; n = before[n]) seen[n] = true;
  std::string text = graph.nodes()[n].name;
  for (NodeId m = before[n]; m != n; m = before[m]) {
    text = absl::StrCat(graph.nodes()[m].name, " -> ", text);
  }
  return absl::StrCat(graph.nodes()[n].name, " -> ", text);
}

}  // namespace

absl::StatusOr<std::vector<NodeId>> Sorted(const Graph& graph, const std::vector<Edge>& edges) {
  const size_t n = graph.nodes().size();
  const Adjacency next = Successors(n, edges);
  std::vector<int> waiting(n);
  for (const Edge& e : edges) ++waiting[e.to];
  std::vector<NodeId> order;
  order.reserve(n);
  for (size_t i = 0; i < n; ++i) {
    if (waiting[i] == 0) order.push_back(static_cast<NodeId>(i));
  }
  for (size_t i = 0; i < order.size(); ++i) {
    for (int s = next.first[order[i]]; s < next.first[order[i] + 1]; ++s) {
      if (--waiting[next.node[s]] == 0) order.push_back(next.node[s]);
    }
  }
  if (order.size() < n) {
    return absl::InvalidArgumentError(
        absl::StrCat("nodes wait for each other: ", Cycle(graph, edges, waiting)));
  }
  return order;
}

absl::StatusOr<Clocks> Clocks::Make(const Graph& graph, const std::vector<Lane>& lanes,
                                    const std::vector<Edge>& edges) {
  const size_t n = graph.nodes().size();
  Clocks c;
  c.lanes_ = static_cast<int>(lanes.size());
  c.lane_.assign(n, 0);
  c.position_.assign(n, 0);
  for (int l = 0; l < c.lanes_; ++l) {
    for (size_t i = 0; i < lanes[l].order.size(); ++i) {
      c.lane_[lanes[l].order[i]] = l;
      c.position_[lanes[l].order[i]] = static_cast<int>(i);
    }
  }
  ASSIGN_OR_RETURN(const std::vector<NodeId> order, Sorted(graph, edges));
  const Adjacency next = Successors(n, edges);
  c.clock_.assign(n * c.lanes_, -1);
  for (NodeId id : order) {
    int* mine = &c.clock_[static_cast<size_t>(id) * c.lanes_];
    mine[c.lane_[id]] = std::max(mine[c.lane_[id]], c.position_[id]);
    for (int s = next.first[id]; s < next.first[id + 1]; ++s) {
      int* other = &c.clock_[static_cast<size_t>(next.node[s]) * c.lanes_];
      for (int l = 0; l < c.lanes_; ++l) other[l] = std::max(other[l], mine[l]);
    }
  }
  return c;
}

std::vector<Edge> WithoutImplied(const Clocks& clocks, const std::vector<Edge>& edges) {
  std::vector<Edge> sorted = edges;
  // Where two edges join the same nodes, the first kind says most.
  std::sort(sorted.begin(), sorted.end(), [](const Edge& a, const Edge& b) {
    return std::tie(a.to, a.from, a.kind) < std::tie(b.to, b.from, b.kind);
  });
  const auto may_go = [](EdgeKind k) { return k == EdgeKind::kControl || k == EdgeKind::kHazard; };
  std::vector<Edge> kept;
  for (size_t begin = 0; begin < sorted.size();) {
    size_t end = begin;
    while (end < sorted.size() && sorted[end].to == sorted[begin].to) ++end;
    for (size_t i = begin; i < end; ++i) {
      const Edge& e = sorted[i];
      bool implied = false;
      for (size_t j = begin; j < end && !implied && may_go(e.kind); ++j) {
        implied = sorted[j].from == e.from
                      ? j < i || (j > i && !may_go(sorted[j].kind))  // the same pair, said better
                      : clocks.Precedes(e.from, sorted[j].from);
      }
      if (!implied) kept.push_back(e);
    }
    begin = end;
  }
  return kept;
}

}  // namespace millrace
