#include "graph/plan/hazards.h"

#include <algorithm>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "graph/base/findings.h"
#include "graph/base/status.h"

namespace millrace {
namespace {

struct Range {
  int64_t low, high;
  bool Meets(const Range& o) const { return low < o.high && o.low < high; }
  bool Covers(const Range& o) const { return low <= o.low && o.high <= high; }
};

Range RangeOf(const Graph& graph, ValueId v) {
  const Value& value = graph.values()[v];
  const int copies = value.own_shard ? graph.group_size(value.group) : 1;
  return {value.offset, value.offset + value.bytes() * copies};
}

std::vector<int32_t> TextPlace(const Graph& graph) {
  std::vector<int32_t> place(graph.nodes().size());
  for (size_t i = 0; i < graph.topological_order().size(); ++i) {
    place[graph.topological_order()[i]] = static_cast<int32_t>(i);
  }
  return place;
}

class HazardFinder {
 public:
  HazardFinder(const Graph& graph, std::vector<Edge>* edges, Findings* findings)
      : graph_(graph), place_(TextPlace(graph)), edges_(*edges), findings_(*findings) {}

  void Buffer(const std::vector<Access>& accesses) {
    struct Open {
      Access access;
      Range range;
    };
    std::vector<Open> open;  // what a later access may conflict with
    for (const Access& a : accesses) {
      const Range range = RangeOf(graph_, a.value);
      if (range.low == range.high) continue;
      for (const Open& o : open) {
        if (!(a.write || o.access.write) || !o.range.Meets(range)) continue;
        if (o.access.begin == a.begin) continue;  // of one operation
        if (o.access.value == a.value) continue;  // a value edge
        if (!a.write) CheckStale(a, o.access);
        edges_.push_back({o.access.end, a.begin, EdgeKind::kHazard});
      }
      if (a.write) {
        open.erase(std::remove_if(open.begin(), open.end(),
                                  [&](const Open& o) {
                                    return range.Covers(o.range) && o.access.begin != a.begin;
                                  }),
                   open.end());
      }
      open.push_back({a, range});
    }
  }

 private:
  // `read` begins after `write` in the text; its value must be younger.
  void CheckStale(const Access& read, const Access& write) {
    const NodeId producer = graph_.producer(read.value);
    const auto begin = [&](NodeId n) {
      const Node& node = graph_.nodes()[n];
      return place_[node.async == AsyncRole::kDone ? node.partner : n];
    };
    if (producer >= 0 && begin(producer) > place_[write.begin]) return;
    const Node& reader = graph_.nodes()[read.begin];
    const std::string& name = graph_.values()[read.value].name;
    findings_.Add(
        {.check = "stale_read",
         .node = reader.name,
         .message = absl::StrCat("reads '", name, "', whose bytes '",
                                 graph_.nodes()[write.begin].name, "' overwrites before it"),
         .suggestion =
             absl::StrCat("read '", graph_.values()[write.value].name, "', or move the reader up"),
         .file = reader.source.file,
         .line = reader.source.line,
         .column = reader.source.column});
  }

  const Graph& graph_;
  const std::vector<int32_t> place_;
  std::vector<Edge>& edges_;
  Findings& findings_;
};

}  // namespace

std::vector<std::vector<Access>> AccessesByBuffer(const Graph& graph) {
  const std::vector<int32_t> place = TextPlace(graph);
  std::vector<std::vector<Access>> accesses(graph.buffers().size());
  for (NodeId n : graph.topological_order()) {
    const Node& node = graph.nodes()[n];
    const NodeId begin = node.async == AsyncRole::kDone ? node.partner : n;
    const NodeId end = node.async == AsyncRole::kStart ? node.partner : n;
    for (ValueId v : node.inputs) {
      accesses[graph.values()[v].buffer].push_back({begin, end, v, false});
    }
    for (ValueId v : node.outputs) {
      accesses[graph.values()[v].buffer].push_back({begin, end, v, true});
    }
  }
  for (std::vector<Access>& list : accesses) {
    std::stable_sort(list.begin(), list.end(), [&](const Access& a, const Access& b) {
      return place[a.begin] < place[b.begin];
    });
  }
  return accesses;
}

absl::StatusOr<std::vector<Edge>> Dependencies(const Graph& graph) {
  std::vector<Edge> edges;
  for (size_t i = 0; i < graph.nodes().size(); ++i) {
    const auto n = static_cast<NodeId>(i);
    const Node& node = graph.nodes()[i];
    for (ValueId v : node.inputs) {
      if (graph.producer(v) >= 0) edges.push_back({graph.producer(v), n, EdgeKind::kData});
    }
    for (NodeId c : node.control) edges.push_back({c, n, EdgeKind::kControl});
    if (node.async == AsyncRole::kDone) edges.push_back({node.partner, n, EdgeKind::kAsync});
  }
  Findings findings;
  HazardFinder hazards(graph, &edges, &findings);
  for (const std::vector<Access>& accesses : AccessesByBuffer(graph)) hazards.Buffer(accesses);
  RETURN_IF_ERROR(findings.ToStatus());
  const auto key = [](const Edge& e) { return std::make_tuple(e.to, e.from, e.kind); };
  std::sort(edges.begin(), edges.end(),
            [&](const Edge& a, const Edge& b) { return key(a) < key(b); });
  edges.erase(std::unique(edges.begin(), edges.end()), edges.end());
  return edges;
}

}  // namespace millrace
