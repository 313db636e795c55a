#include "graph/plan/stream_edges.h"

#include <algorithm>
#include <map>
#include <utility>

#include "graph/base/status.h"
#include "graph/plan/hazards.h"
#include "graph/plan/lanes.h"

namespace millrace {
namespace {

// Neighbours of one engine, in the issue lane's order. Those of the issuing thread (host work that is not split) are
// one engine.
void AddEngineOrder(const Graph& graph, const RankPlan& rank, std::vector<Edge>* edges) {
  std::map<std::pair<LaneKind, bool>, NodeId> last;  // by engine; whether it is split
  for (NodeId n : rank.lanes[0].order) {
    const bool split = graph.nodes()[n].async == AsyncRole::kStart;
    LaneKind kind = LaneKindOf(graph, n);
    if (!split && !InStream(kind)) kind = LaneKind::kHostCompute;
    const auto [it, first] = last.insert({{kind, split}, n});
    if (first) continue;
    edges->push_back({it->second, n, EdgeKind::kLane});
    it->second = n;
  }
  for (size_t l = 1; l < rank.lanes.size(); ++l) {
    const std::vector<NodeId>& order = rank.lanes[l].order;
    for (size_t i = 1; i < order.size(); ++i) {
      edges->push_back({order[i - 1], order[i], EdgeKind::kLane});
    }
  }
}

// Buffers of one tier that share bytes are in use one after the other: each follows those that had its bytes last.
class Reuse {
 public:
  Reuse(const Plan& plan, const RankPlan& rank)
      : graph_(plan.graph), rank_(rank), accesses_(AccessesByBuffer(plan.graph)) {}

  void Add(std::vector<Edge>* edges) {
    std::vector<int32_t> place(graph_.nodes().size(), 0);
    for (size_t i = 0; i < rank_.lanes[0].order.size(); ++i) {
      place[rank_.lanes[0].order[i]] = static_cast<int32_t>(i);
    }
    std::vector<std::pair<int32_t, BufferId>> order;  // by first use
    for (size_t b = 0; b < graph_.buffers().size(); ++b) {
      if (graph_.buffers()[b].persistent || accesses_[b].empty()) continue;
      int32_t first = place[accesses_[b][0].begin];
      for (const Access& a : accesses_[b]) first = std::min(first, place[a.begin]);
      order.push_back({first, static_cast<BufferId>(b)});
    }
    std::sort(order.begin(), order.end());
    for (const auto& [first, buffer] : order) Take(buffer, edges);
  }

 private:
  void Take(BufferId buffer, std::vector<Edge>* edges) {
    const Buffer& b = graph_.buffers()[buffer];
    const int64_t low = rank_.offset[buffer], high = low + b.bytes;
    if (low < 0 || b.bytes == 0) return;
    std::map<int64_t, Owner>& owners = owners_[static_cast<int>(b.tier)];  // by first byte
    auto it = owners.upper_bound(low);
    if (it != owners.begin() && std::prev(it)->second.high > low) --it;
    std::vector<BufferId> before;
    while (it != owners.end() && it->first < high) {
      const int64_t from = it->first;
      const Owner owner = it->second;
      it = owners.erase(it);
      before.push_back(owner.buffer);
      if (from < low) owners[from] = {low, owner.buffer};
      if (owner.high > high) owners[high] = owner;
    }
    owners[low] = {high, buffer};
    std::sort(before.begin(), before.end());
    before.erase(std::unique(before.begin(), before.end()), before.end());
    for (BufferId old : before) {
      for (const Access& a : accesses_[old]) {
        for (const Access& c : accesses_[buffer]) {
          if (a.begin != c.begin) edges->push_back({a.end, c.begin, EdgeKind::kHazard});
        }
      }
    }
  }

  struct Owner {
    int64_t high = 0;
    BufferId buffer = -1;
  };
  const Graph& graph_;
  const RankPlan& rank_;
  const std::vector<std::vector<Access>> accesses_;
  std::map<int64_t, Owner> owners_[kTiers];
};

}  // namespace

absl::StatusOr<std::vector<Edge>> StreamEdges(const Plan& plan, const RankPlan& rank) {
  ASSIGN_OR_RETURN(std::vector<Edge> edges, Dependencies(plan.graph));
  for (const Edge& e : rank.edges) {
    if (e.kind == EdgeKind::kCredit) edges.push_back(e);
  }
  AddEngineOrder(plan.graph, rank, &edges);
  Reuse(plan, rank).Add(&edges);
  return edges;
}

}  // namespace millrace
