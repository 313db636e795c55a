#include "graph/plan/liveness.h"

#include <algorithm>

namespace millrace {
namespace {

// Per node: the last place of the issue lane that may run before or beside the node's end.
std::vector<int> LastPlaceBeside(const Graph& graph, const std::vector<Lane>& lanes,
                                 const Clocks& clocks) {
  const std::vector<NodeId>& issue = lanes[0].order;
  const int end = static_cast<int>(issue.size()) - 1;
  std::vector<int> last(graph.nodes().size(), end);
  std::vector<int> known(lanes.size(), -1);  // per lane: last place known to have ended
  for (int place = 0; place <= end; ++place) {
    last[issue[place]] = place;
    for (size_t l = 1; l < lanes.size(); ++l) {
      const int now = clocks.Last(issue[place], static_cast<int>(l));
      for (int p = known[l] + 1; p <= now; ++p) last[lanes[l].order[p]] = place - 1;
      known[l] = std::max(known[l], now);
    }
  }
  return last;
}

}  // namespace

std::vector<LiveRange> LiveRanges(const Graph& graph, const std::vector<Lane>& lanes,
                                  const Clocks& clocks) {
  const int end = static_cast<int>(lanes[0].order.size()) - 1;
  const std::vector<int> last = LastPlaceBeside(graph, lanes, clocks);
  std::vector<LiveRange> ranges(graph.buffers().size());
  const auto touch = [&](ValueId v, int begin, int death) {
    LiveRange& r = ranges[graph.values()[v].buffer];
    r = r.birth > r.death ? LiveRange{begin, death}
                          : LiveRange{std::min(r.birth, begin), std::max(r.death, death)};
  };
  for (size_t i = 0; i < graph.nodes().size(); ++i) {
    const auto n = static_cast<NodeId>(i);
    const Node& node = graph.nodes()[i];
    const int begin = clocks.position(node.async == AsyncRole::kDone ? node.partner : n);
    const int death = last[node.async == AsyncRole::kStart ? node.partner : n];
    for (ValueId v : node.inputs) touch(v, begin, death);
    for (ValueId v : node.outputs) touch(v, begin, death);
  }
  for (size_t b = 0; b < ranges.size(); ++b) {
    const Buffer& buffer = graph.buffers()[b];
    if (buffer.persistent) ranges[b] = {0, end};
    if (buffer.kind == BufferKind::kMetric && ranges[b].birth <= ranges[b].death) {
      ranges[b].death = end;
    }
  }
  // What no node writes but some read is there from the start of the step.
  for (size_t i = 0; i < graph.values().size(); ++i) {
    const auto v = static_cast<ValueId>(i);
    if (graph.producer(v) < 0 && !graph.consumers(v).empty()) {
      ranges[graph.values()[v].buffer].birth = 0;
    }
  }
  return ranges;
}

}  // namespace millrace
