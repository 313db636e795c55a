// Small steps for tests of the planner, written as one line per node:
//
//   Graph g = StepOf({{"a", {}, {"x"}}, {"b", {"x"}, {"y"}}});
//
// Every value has 16 f32 and a buffer of its own name; "x'" lies on the buffer of "x". Values that nobody
// writes persist. A name that begins with "comm" makes a collective of group "data" (2 ranks); "comm1.start"
// and "comm1.done" are its halves.
#ifndef MILLRACE_GRAPH_PLAN_TESTING_STEP_TEXT_H_
#define MILLRACE_GRAPH_PLAN_TESTING_STEP_TEXT_H_

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "graph/ir/graph.h"

namespace millrace {

struct StepNode {
  std::string name;
  std::vector<std::string> reads, writes;
  std::vector<std::string> after;
  int64_t flops = 0;
};

inline absl::StatusOr<Graph> StepOf(const std::vector<StepNode>& nodes) {
  GraphBuilder b("step");
  b.SetGroup("data", 2);
  std::map<std::string, BufferId> buffers;
  std::map<std::string, ValueId> values;
  std::map<std::string, NodeId> ids;
  const auto value = [&](const std::string& name, bool written) {
    const auto known = values.find(name);
    if (known != values.end()) return known->second;
    const std::string home = name.substr(0, name.find('\''));
    const auto [it, fresh] = buffers.try_emplace(home, -1);
    if (fresh) it->second = b.AddBuffer({.name = home, .bytes = 64, .persistent = !written});
    return values[name] = b.AddValue({.name = name, .shape = {16}, .buffer = it->second});
  };
  for (const StepNode& n : nodes) {
    Node node{.name = n.name, .op = "work"};
    node.flops = n.flops;
    for (const std::string& v : n.reads) node.inputs.push_back(value(v, false));
    for (const std::string& v : n.writes) node.outputs.push_back(value(v, true));
    for (const std::string& a : n.after) node.control.push_back(ids[a]);
    if (absl::StartsWith(n.name, "comm")) {
      node.is_collective = true;
      node.collective = {.op = CollectiveOp::kAllReduce, .group = "data", .count = 16};
    }
    if (absl::EndsWith(n.name, ".start")) node.async = AsyncRole::kStart;
    if (absl::EndsWith(n.name, ".done")) {
      node.async = AsyncRole::kDone;
      node.partner = ids[n.name.substr(0, n.name.size() - 5) + ".start"];
    }
    const NodeId partner = node.partner;
    const NodeId id = b.AddNode(std::move(node));
    ids[n.name] = id;
    if (partner >= 0) b.node(partner).partner = id;
  }
  return std::move(b).Build();
}

// "a -> b hazard", one a line, in the order of the edges.
template <typename Edges>
std::string EdgeText(const Graph& graph, const Edges& edges) {
  std::string text;
  for (const auto& e : edges) {
    text += graph.nodes()[e.from].name + " -> " + graph.nodes()[e.to].name + " " +
            std::string(Name(e.kind)) + "\n";
  }
  return text;
}

}  // namespace millrace

#endif  // MILLRACE_GRAPH_PLAN_TESTING_STEP_TEXT_H_
