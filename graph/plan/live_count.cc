#include "graph/plan/live_count.h"

#include <algorithm>

namespace millrace {

LiveCount::LiveCount(const Graph& graph, bool on) : graph_(graph), on_(on) {
  if (!on) return;
  left_.assign(graph.buffers().size(), 0);
  is_live_.assign(graph.buffers().size(), false);
  for (const Buffer& b : graph.buffers()) {
    if (b.persistent && b.tier == Tier::kDevice) bytes_ += b.bytes;
  }
  std::vector<BufferId> touched;
  for (size_t n = 0; n < graph.nodes().size(); ++n) {
    if (graph.nodes()[n].async == AsyncRole::kDone) continue;
    Touched(static_cast<NodeId>(n), &touched);
    for (BufferId b : touched) ++left_[b];
  }
}

void LiveCount::Touched(NodeId n, std::vector<BufferId>* touched) const {
  touched->clear();
  const auto add = [&](const std::vector<ValueId>& values) {
    for (ValueId v : values) {
      const BufferId b = graph_.values()[v].buffer;
      const Buffer& buffer = graph_.buffers()[b];
      if (!buffer.persistent && buffer.tier == Tier::kDevice) touched->push_back(b);
    }
  };
  const Node& node = graph_.nodes()[n];
  add(node.inputs);
  add(node.outputs);
  if (node.async == AsyncRole::kStart) add(graph_.nodes()[node.partner].outputs);
  std::sort(touched->begin(), touched->end());
  touched->erase(std::unique(touched->begin(), touched->end()), touched->end());
}

int64_t LiveCount::Growth(NodeId n) const {
  if (!on_) return 0;
  std::vector<BufferId> touched;
  Touched(n, &touched);
  int64_t growth = 0;
  for (BufferId b : touched) {
    if (!is_live_[b]) growth += graph_.buffers()[b].bytes;
    if (left_[b] == 1) growth -= graph_.buffers()[b].bytes;
  }
  return growth;
}

void LiveCount::Run(NodeId n) {
  if (!on_) return;
  bytes_ += Growth(n);
  std::vector<BufferId> touched;
  Touched(n, &touched);
  for (BufferId b : touched) {
    --left_[b];
    is_live_[b] = left_[b] > 0;
  }
}

}  // namespace millrace
