#include "graph/verify/testing/plain_planner.h"

#include <algorithm>
#include <limits>
#include <map>
#include <utility>
#include <vector>

namespace millrace {
namespace {

int64_t Aligned(const Buffer& b) {
  const int64_t alignment = AlignmentOf(b.tier);
  return (b.bytes + alignment - 1) / alignment * alignment;
}

struct Use {
  int first = std::numeric_limits<int>::max(), last = -1;  // places in the text
};

void Place(const Graph& graph, const std::vector<Use>& uses, RankPlan* rp) {
  const std::vector<Buffer>& buffers = graph.buffers();
  rp->offset.assign(buffers.size(), 0);
  std::vector<BufferId> placed;
  for (const bool persistent : {true, false}) {
    for (size_t i = 0; i < buffers.size(); ++i) {
      const Buffer& b = buffers[i];
      if (b.persistent != persistent) continue;
      const auto tier = static_cast<size_t>(b.tier);
      // The lowest place free of everything that is used at the same time.
      std::vector<std::pair<int64_t, int64_t>> taken;
      if (!persistent) taken.push_back({0, rp->persistent_bytes[tier]});
      for (BufferId other : placed) {
        if (buffers[other].tier != b.tier) continue;
        const bool together =
            persistent || buffers[other].persistent ||
            (uses[other].first <= uses[i].last && uses[i].first <= uses[other].last);
        if (together) {
          taken.push_back({rp->offset[other], rp->offset[other] + Aligned(buffers[other])});
        }
      }
      std::sort(taken.begin(), taken.end());
      int64_t at = 0;
      for (const auto& [low, high] : taken) {
        if (at + Aligned(b) <= low) break;
        at = std::max(at, high);
      }
      rp->offset[i] = at;
      placed.push_back(static_cast<BufferId>(i));
      const int64_t end = at + Aligned(b);
      rp->arena_bytes[tier] = std::max(rp->arena_bytes[tier], end);
      if (persistent) rp->persistent_bytes[tier] = std::max(rp->persistent_bytes[tier], end);
    }
  }
  rp->live_bytes_bound = rp->arena_bytes;
}

struct Touch {
  NodeId begin, end;
  int64_t low, high;
  Tier tier;
  bool write;
};

}  // namespace

Plan PlainPlan(Graph graph, int world_size) {
  Plan plan;
  plan.name = graph.name();
  plan.machine = "plain";
  plan.world_size = world_size;
  RankPlan rp;
  for (int r = 0; r < world_size; ++r) rp.ranks.push_back(r);

  const std::vector<NodeId>& text = graph.topological_order();
  std::vector<int> place(text.size());
  for (size_t i = 0; i < text.size(); ++i) place[text[i]] = static_cast<int>(i);
  rp.lanes.push_back({"compute", LaneKind::kCompute, {}});
  std::map<std::string, size_t> lane_of_name;
  for (NodeId n : text) {
    const Node& node = graph.nodes()[n];
    size_t lane = 0;
    if (node.async == AsyncRole::kDone) {
      const LaneKind kind = LaneKindOf(graph, n);
      const std::string name =
          kind == LaneKind::kComm ? "comm:" + node.collective.group : std::string(Name(kind));
      lane = lane_of_name.emplace(name, rp.lanes.size()).first->second;
      if (lane == rp.lanes.size()) rp.lanes.push_back({name, kind, {}});
      rp.edges.push_back({node.partner, n, EdgeKind::kAsync});
    } else {
      rp.seconds.resize(graph.nodes().size());
      rp.seconds[n] = node.async == AsyncRole::kStart ? 0 : 1e-3;
    }
    if (!rp.lanes[lane].order.empty() && lane == 0) {
      rp.edges.push_back({rp.lanes[lane].order.back(), n, EdgeKind::kLane});
    }
    rp.lanes[lane].order.push_back(n);
  }
  // Engines work in the order of the starts.
  for (size_t l = 1; l < rp.lanes.size(); ++l) {
    std::vector<NodeId>& order = rp.lanes[l].order;
    std::sort(order.begin(), order.end(), [&](NodeId a, NodeId b) {
      return place[graph.nodes()[a].partner] < place[graph.nodes()[b].partner];
    });
    for (size_t i = 1; i < order.size(); ++i) {
      rp.edges.push_back({order[i - 1], order[i], EdgeKind::kLane});
    }
  }

  const auto begin_of = [&](NodeId n) {
    return graph.nodes()[n].async == AsyncRole::kDone ? graph.nodes()[n].partner : n;
  };
  const auto end_of = [&](NodeId n) {
    return graph.nodes()[n].async == AsyncRole::kStart ? graph.nodes()[n].partner : n;
  };
  std::vector<Use> uses(graph.buffers().size());
  for (NodeId n : text) {
    const Node& node = graph.nodes()[n];
    for (NodeId c : node.control) rp.edges.push_back({c, n, EdgeKind::kControl});
    for (ValueId v : node.inputs) {
      const NodeId from = graph.producer(v);
      if (from >= 0) rp.edges.push_back({end_of(from), begin_of(n), EdgeKind::kData});
    }
    for (const auto* list : {&node.inputs, &node.outputs}) {
      for (ValueId v : *list) {
        Use& use = uses[graph.values()[v].buffer];
        use.first = std::min(use.first, place[begin_of(n)]);
        use.last = std::max(use.last, place[end_of(n)]);
      }
    }
  }
  Place(graph, uses, &rp);

  std::vector<Touch> touches;
  for (NodeId n : text) {
    const Node& node = graph.nodes()[n];
    for (const bool write : {false, true}) {
      for (ValueId v : write ? node.outputs : node.inputs) {
        const Value& value = graph.values()[v];
        const int64_t parts = value.own_shard ? graph.group_size(value.group) : 1;
        const int64_t low = rp.offset[value.buffer] + value.offset;
        touches.push_back({begin_of(n), end_of(n), low, low + value.bytes() * parts,
                           graph.buffers()[value.buffer].tier, write});
      }
    }
  }
  std::sort(touches.begin(), touches.end(),
            [&](const Touch& a, const Touch& b) { return place[a.begin] < place[b.begin]; });
  for (size_t i = 0; i < touches.size(); ++i) {
    for (size_t j = i + 1; j < touches.size(); ++j) {
      const Touch &a = touches[i], &b = touches[j];
      const bool meet = a.tier == b.tier && a.low < b.high && b.low < a.high;
      if (!meet || !(a.write || b.write) || a.begin == b.begin) continue;
      const Edge edge{a.end, b.begin, EdgeKind::kHazard};
      if (std::find(rp.edges.begin(), rp.edges.end(), edge) == rp.edges.end()) {
        rp.edges.push_back(edge);
      }
    }
  }
  plan.graph = std::move(graph);
  plan.rank_plans.push_back(std::move(rp));
  return plan;
}

}  // namespace millrace
