// GraphBuilder::Build: the checks of a graph's structure, all findings at once, and its tables.
//
// Only what every graph must have is checked here: names, ids, one writer per value, values inside
// their buffers, pairs of asynchronous halves, no cycle. What an operation wants of its inputs is
// type_check.h. Hazards between values on the same bytes are no edges here; the planner adds them.
#include <functional>
#include <limits>
#include <queue>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "graph/ir/graph.h"

namespace millrace {
namespace {

// Bytes of a value, or -1 when a dimension is negative or the product does not fit.
int64_t CheckedBytes(const Value& v) {
  int64_t bytes = SizeOf(v.dtype);
  for (int64_t d : v.shape) {
    if (d < 0 || __builtin_mul_overflow(bytes, d, &bytes)) return -1;
  }
  return bytes;
}

std::string Expected(size_t count) {
  return count == 0 ? ", but there is none" : absl::StrCat(", expected 0 to ", count - 1);
}

class Builder {
 public:
  Builder(const Graph& graph, Findings& findings) : graph_(graph), findings_(findings) {}

  std::vector<NodeId> producer;
  std::vector<std::vector<NodeId>> consumers;
  std::vector<NodeId> order;
  absl::flat_hash_map<std::string, NodeId> node_index;
  absl::flat_hash_map<std::string, ValueId> value_index;

  void Run() {
    Names();
    Values();
    Nodes();
    AsyncPairs();
    Order();
  }

 private:
  void AddFinding(const char* check, const std::string& node, const SourceLocation& at,
                  std::string message, std::string suggestion = "") {
    Finding f;
    f.check = check;
    f.node = node;
    f.message = std::move(message);
    f.suggestion = std::move(suggestion);
    f.file = at.file;
    f.line = at.line;
    f.column = at.column;
    findings_.Add(std::move(f));
  }

  bool IsNode(NodeId id) const {
    return id >= 0 && id < static_cast<NodeId>(graph_.nodes().size());
  }
  bool IsValue(ValueId id) const {
    return id >= 0 && id < static_cast<ValueId>(graph_.values().size());
  }

  template <typename List, typename Index>
  void NamesOf(const List& list, const char* what, Index& index) {
    for (size_t i = 0; i < list.size(); ++i) {
      const auto [it, fresh] = index.emplace(list[i].name, static_cast<int32_t>(i));
      SourceLocation at;
      if constexpr (!std::is_same_v<typename List::value_type, Buffer>) at = list[i].source;
      if (list[i].name.empty()) {
        AddFinding("name", "", at, absl::StrCat(what, " ", i, " has no name"), "give it one");
      } else if (!fresh) {
        std::string first;
        if constexpr (!std::is_same_v<typename List::value_type, Buffer>) {
          const SourceLocation& other = list[it->second].source;
          if (other.line > 0) first = absl::StrCat(", first in line ", other.line);
        }
        AddFinding("duplicate_name", "", at,
                   absl::StrCat("two ", what, "s are named '", list[i].name, "'", first),
                   absl::StrCat("every ", what, " needs a name of its own"));
      }
    }
  }

  void Names() {
    absl::flat_hash_map<std::string, BufferId> buffer_index;
    NamesOf(graph_.buffers(), "buffer", buffer_index);
    NamesOf(graph_.values(), "value", value_index);
    NamesOf(graph_.nodes(), "node", node_index);
    for (const Buffer& b : graph_.buffers()) {
      if (b.bytes < 0) {
        AddFinding(
            "bounds", "", {},
            absl::StrCat("buffer '", b.name, "' has ", b.bytes, " bytes, expected 0 or more"));
      }
    }
  }

  void Values() {
    for (const Value& v : graph_.values()) {
      if (v.buffer < 0 || v.buffer >= static_cast<BufferId>(graph_.buffers().size())) {
        AddFinding("unknown_id", "", v.source,
                   absl::StrCat("value '", v.name, "' lies in buffer ", v.buffer,
                                Expected(graph_.buffers().size())));
        continue;
      }
      const int64_t bytes = CheckedBytes(v);
      if (bytes < 0) {
        AddFinding("bounds", "", v.source,
                   absl::StrCat("value '", v.name, "' has shape [", absl::StrJoin(v.shape, ", "),
                                "], expected dimensions of 0 or more and fewer than 2^63 bytes"));
        continue;
      }
      const Buffer& buffer = graph_.buffers()[v.buffer];
      const int copies = v.own_shard ? graph_.group_size(v.group) : 1;
      const __int128 end = static_cast<__int128>(bytes) * copies + v.offset;
      if (v.offset < 0 || end > buffer.bytes) {
        const bool huge = end > std::numeric_limits<int64_t>::max();
        AddFinding(
            "bounds", "", v.source,
            absl::StrCat("value '", v.name, "' covers bytes ", v.offset, " to ",
                         huge ? "2^63 and more" : absl::StrCat(static_cast<int64_t>(end)),
                         copies > 1 ? absl::StrCat(" (", copies, " shards)") : "", " of buffer '",
                         buffer.name, "', which has ", buffer.bytes, " bytes"));
      }
    }
  }

  void Nodes() {
    producer.assign(graph_.values().size(), -1);
    consumers.assign(graph_.values().size(), {});
    for (size_t i = 0; i < graph_.nodes().size(); ++i) {
      const Node& node = graph_.nodes()[i];
      const NodeId id = static_cast<NodeId>(i);
      for (ValueId v : node.inputs) {
        if (!IsValue(v)) {
          UnknownId(node, "reads value", v, graph_.values().size());
        } else if (consumers[v].empty() || consumers[v].back() != id) {
          consumers[v].push_back(id);
        }
      }
      for (ValueId v : node.outputs) {
        if (!IsValue(v)) {
          UnknownId(node, "writes value", v, graph_.values().size());
        } else if (producer[v] >= 0) {
          const Node& first = graph_.nodes()[producer[v]];
          AddFinding("two_writers", node.name, node.source,
                     producer[v] == id
                         ? absl::StrCat("writes value '", graph_.values()[v].name, "' twice")
                         : absl::StrCat("writes value '", graph_.values()[v].name,
                                        "', which node '", first.name, "'",
                                        first.source.line > 0
                                            ? absl::StrCat(" (line ", first.source.line, ")")
                                            : "",
                                        " writes already"),
                     "a value has one writer; give the second a new name on the same buffer");
        } else {
          producer[v] = id;
        }
      }
      for (NodeId c : node.control) {
        if (!IsNode(c)) UnknownId(node, "waits for node", c, graph_.nodes().size());
      }
    }
  }

  void UnknownId(const Node& node, const char* what, int64_t id, size_t count) {
    AddFinding("unknown_id", node.name, node.source, absl::StrCat(what, " ", id, Expected(count)));
  }

  void AsyncPairs() {
    for (size_t i = 0; i < graph_.nodes().size(); ++i) {
      const Node& node = graph_.nodes()[i];
      if (node.async == AsyncRole::kNone) {
        if (node.partner >= 0) {
          AddFinding("async", node.name, node.source,
                     "has a partner but is neither start nor done of an asynchronous operation");
        }
        continue;
      }
      const bool start = node.async == AsyncRole::kStart;
      const char* role = start ? "start" : "done";
      if (!IsNode(node.partner)) {
        AddFinding("async", node.name, node.source,
                   absl::StrCat("is the ", role, " of an asynchronous operation without a ",
                                start ? "done" : "start"),
                   "name the other half in `partner`");
        continue;
      }
      const Node& other = graph_.nodes()[node.partner];
      if (other.partner != static_cast<NodeId>(i) ||
          other.async != (start ? AsyncRole::kDone : AsyncRole::kStart)) {
        AddFinding("async", node.name, node.source,
                   absl::StrCat("is a ", role, " whose partner '", other.name, "' is not its ",
                                start ? "done" : "start"),
                   "the two halves must name each other");
      } else if (start && (other.op != node.op || other.is_collective != node.is_collective)) {
        AddFinding("async", node.name, node.source,
                   absl::StrCat("starts '", node.op, "', but its partner '", other.name,
                                "' finishes '", other.op, "'"));
      } else if (start && node.is_collective &&
                 (other.collective.op != node.collective.op ||
                  other.collective.group != node.collective.group ||
                  other.collective.dtype != node.collective.dtype ||
                  other.collective.count != node.collective.count)) {
        AddFinding(
            "async", node.name, node.source,
            absl::StrCat("and its partner '", other.name, "' describe different collectives"));
      }
    }
  }

  // Kahn's algorithm with the smallest id first. What remains has a cycle: each is named once, then
  // taken out.
  void Order() {
    const size_t n = graph_.nodes().size();
    predecessors_.assign(n, {});
    std::vector<std::vector<NodeId>> successors(n);
    for (size_t i = 0; i < n; ++i) {
      const NodeId id = static_cast<NodeId>(i);
      const Node& node = graph_.nodes()[i];
      auto add = [&](NodeId from, ValueId through) {
        predecessors_[id].push_back({from, through});
        successors[from].push_back(id);
      };
      for (ValueId v : node.inputs) {
        if (IsValue(v) && producer[v] >= 0) add(producer[v], v);
      }
      for (NodeId c : node.control) {
        if (IsNode(c)) add(c, -1);
      }
      if (node.async == AsyncRole::kDone && IsNode(node.partner)) add(node.partner, -1);
    }
    std::vector<int32_t> waiting(n);
    std::priority_queue<NodeId, std::vector<NodeId>, std::greater<NodeId>> ready;
    for (size_t i = 0; i < n; ++i) {
      waiting[i] = static_cast<int32_t>(predecessors_[i].size());
      if (waiting[i] == 0) ready.push(static_cast<NodeId>(i));
    }
    done_.assign(n, false);
    while (order.size() < n) {
      if (ready.empty()) {
        for (NodeId id : NameOneCycle()) {
          waiting[id] = -1;
          ready.push(id);
        }
      }
      const NodeId id = ready.top();
      ready.pop();
      done_[id] = true;
      order.push_back(id);
      for (NodeId next : successors[id]) {
        if (--waiting[next] == 0) ready.push(next);
      }
    }
  }

  struct Predecessor {
    NodeId node;
    ValueId through;  // -1: control
  };

  // Walks backwards from the first node that is not done until a node repeats.
  std::vector<NodeId> NameOneCycle() {
    NodeId at = 0;
    while (done_[at]) ++at;
    std::vector<NodeId> path;
    std::vector<ValueId> through;
    absl::flat_hash_map<NodeId, size_t> seen;
    while (seen.emplace(at, path.size()).second) {
      path.push_back(at);
      for (const Predecessor& p : predecessors_[at]) {
        if (!done_[p.node]) {
          through.push_back(p.through);
          at = p.node;
          break;
        }
      }
    }
    const size_t begin = seen[at];
    std::vector<NodeId> cycle(path.rbegin(), path.rend() - static_cast<int64_t>(begin));
    std::vector<ValueId> values(through.rbegin(), through.rend() - static_cast<int64_t>(begin));
    // Now values[i] is the edge from cycle[i - 1] (i = 0: the last) to cycle[i]. The text starts at
    // the smallest id, the one the author wrote first.
    size_t first = 0;
    for (size_t i = 1; i < cycle.size(); ++i) {
      if (cycle[i] < cycle[first]) first = i;
    }
    std::string text = absl::StrCat("'", graph_.nodes()[cycle[first]].name, "'");
    for (size_t k = 1; k <= cycle.size(); ++k) {
      const size_t i = (first + k) % cycle.size();
      absl::StrAppend(&text, " -> ");
      if (values[i] >= 0) absl::StrAppend(&text, "(", graph_.values()[values[i]].name, ") ");
      absl::StrAppend(&text, "'", graph_.nodes()[cycle[i]].name, "'");
    }
    const Node& node = graph_.nodes()[cycle[first]];
    AddFinding("cycle", node.name, node.source, absl::StrCat("waits for itself: ", text),
               "take out one of these inputs or control edges");
    return cycle;
  }

  const Graph& graph_;
  Findings& findings_;
  std::vector<std::vector<Predecessor>> predecessors_;
  std::vector<bool> done_;
};

}  // namespace

absl::StatusOr<Graph> GraphBuilder::Build(Findings& findings) && {
  Findings own;
  Builder builder(graph_, own);
  builder.Run();
  if (!own.ok()) {
    findings.Append(own);
    return own.ToStatus();
  }
  graph_.producer_ = std::move(builder.producer);
  graph_.consumers_ = std::move(builder.consumers);
  graph_.order_ = std::move(builder.order);
  graph_.node_index_ = std::move(builder.node_index);
  graph_.value_index_ = std::move(builder.value_index);
  return std::move(graph_);
}

absl::StatusOr<Graph> GraphBuilder::Build() && {
  Findings findings;
  return std::move(*this).Build(findings);
}

}  // namespace millrace
