#include "graph/lower/join_async.h"

#include <algorithm>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/strip.h"
#include "graph/lower/rewriter.h"

namespace millrace {

absl::StatusOr<Graph> JoinAsync(const Graph& graph, const std::vector<NodeId>& starts) {
  Rewriter r(graph);
  std::vector<NodeId> whole_of(graph.nodes().size(),
                               -1);  // per start: its done, which becomes the whole
  for (NodeId s : starts) whole_of[s] = graph.nodes()[s].partner;
  for (NodeId id : r.order()) {
    for (NodeId& c : r.node(id).control) {
      if (whole_of[c] >= 0) c = whole_of[c];
    }
  }
  for (NodeId s : starts) {
    const Node start = r.node(s);
    Node& whole = r.node(start.partner);
    whole.name = std::string(absl::StripSuffix(start.name, ".start"));
    whole.inputs = start.inputs;
    whole.control.insert(whole.control.end(), start.control.begin(), start.control.end());
    whole.async = AsyncRole::kNone;
    whole.partner = -1;
    whole.flops = std::max(whole.flops, start.flops);
    whole.memory_bytes = std::max(whole.memory_bytes, start.memory_bytes);
    r.Erase(s);
  }
  return std::move(r).Finish();
}

}  // namespace millrace
