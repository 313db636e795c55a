#include "graph/lower/join_async.h"

#include <algorithm>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/strip.h"
#include "graph/lower/rewriter.h"

namespace millrace {

namespace {

// Nothing that only the done half waits for stands behind the start.
bool CanJoin(const Graph& graph, NodeId start) {
  const Node& done = graph.nodes()[graph.nodes()[start].partner];
  if (!done.inputs.empty()) return false;
  return std::all_of(done.control.begin(), done.control.end(),
                     [start](NodeId c) { return c < start; });
}

}  // namespace

absl::StatusOr<Graph> JoinAsync(const Graph& graph, const std::vector<NodeId>& starts) {
  Rewriter r(graph);
  std::vector<NodeId> whole_of(graph.nodes().size(),
                               -1);  // per done: its start, the whole from now on
  for (NodeId s : starts) {
    if (CanJoin(graph, s)) whole_of[graph.nodes()[s].partner] = s;
  }
  for (NodeId id : r.order()) {
    for (NodeId& c : r.node(id).control) {
      if (whole_of[c] >= 0) c = whole_of[c];
    }
  }
  for (NodeId s : starts) {
    const NodeId d = graph.nodes()[s].partner;
    if (whole_of[d] < 0) continue;
    const Node done = r.node(d);
    Node& whole = r.node(s);
    whole.name = std::string(absl::StripSuffix(whole.name, ".start"));
    whole.outputs = done.outputs;
    whole.control.insert(whole.control.end(), done.control.begin(), done.control.end());
    whole.async = AsyncRole::kNone;
    whole.partner = -1;
    whole.flops = std::max(whole.flops, done.flops);
    whole.memory_bytes = std::max(whole.memory_bytes, done.memory_bytes);
    r.Erase(d);
  }
  return std::move(r).Finish();
}

}  // namespace millrace
