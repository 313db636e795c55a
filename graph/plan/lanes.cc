#include "graph/plan/lanes.h"

#include <map>

#include "absl/strings/str_cat.h"

namespace millrace {

LaneTable MakeLanes(const Graph& graph) {
  LaneTable table;
  table.lanes.push_back({.name = "compute", .kind = LaneKind::kCompute});
  std::map<std::string, int> comm;  // by group, in the groups' order: the same on every rank
  for (const Node& node : graph.nodes()) {
    if (node.async == AsyncRole::kDone) comm[node.collective.group] = -1;
  }
  for (auto& [group, lane] : comm) {
    lane = static_cast<int>(table.lanes.size());
    table.lanes.push_back(
        {.name = group.empty() ? "comm" : absl::StrCat("comm:", group), .kind = LaneKind::kComm});
  }
  for (const Node& node : graph.nodes()) {
    const auto it = comm.find(node.collective.group);
    const int lane = it == comm.end() ? -1 : it->second;
    table.of_node.push_back(node.async == AsyncRole::kDone ? lane : 0);
    table.of_group.push_back(node.is_collective || node.async != AsyncRole::kNone ? lane : -1);
  }
  return table;
}

}  // namespace millrace
