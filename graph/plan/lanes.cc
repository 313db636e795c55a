#include "graph/plan/lanes.h"

#include <map>
#include <utility>

#include "absl/strings/str_cat.h"

namespace millrace {

LaneTable MakeLanes(const Graph& graph) {
  LaneTable table;
  table.lanes.push_back({.name = "compute", .kind = LaneKind::kCompute});
  // By kind, then by group in the groups' order: the same on every rank.
  using Engine = std::pair<LaneKind, std::string>;
  std::map<Engine, int> lanes;
  std::vector<Engine> engines;
  for (size_t n = 0; n < graph.nodes().size(); ++n) {
    const Node& node = graph.nodes()[n];
    engines.push_back({LaneKindOf(graph, static_cast<NodeId>(n)),
                       node.is_collective ? node.collective.group : std::string()});
    if (node.async == AsyncRole::kDone) lanes[engines.back()] = 0;
  }
  for (auto& [engine, lane] : lanes) {
    lane = static_cast<int>(table.lanes.size());
    const auto& [kind, group] = engine;
    table.lanes.push_back(
        {.name = group.empty() ? std::string(Name(kind)) : absl::StrCat(Name(kind), ":", group),
         .kind = kind});
  }
  for (size_t n = 0; n < graph.nodes().size(); ++n) {
    const auto it = lanes.find(engines[n]);
    const int lane = it == lanes.end() ? -1 : it->second;
    table.of_node.push_back(graph.nodes()[n].async == AsyncRole::kDone ? lane : 0);
    table.of_engine.push_back(lane);
  }
  return table;
}

}  // namespace millrace
