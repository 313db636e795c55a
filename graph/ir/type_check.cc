#include "graph/ir/type_check.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "graph/ir/op_contract.h"

namespace millrace {
namespace {

void Report(const Node& node, std::string message, Findings& findings, std::string suggestion = "",
            const char* check = "type") {
  Finding f;
  f.check = check;
  f.node = node.name;
  f.message = std::move(message);
  f.suggestion = std::move(suggestion);
  f.file = node.source.file;
  f.line = node.source.line;
  f.column = node.source.column;
  findings.Add(std::move(f));
}

std::string DidYouMean(const std::string& word, const std::vector<std::string>& candidates) {
  const std::string near = Nearest(word, candidates);
  return near.empty() ? "" : absl::StrCat("did you mean '", near, "'?");
}

const char* TypeName(const AttrValue& v) {
  static constexpr const char* kNames[] = {"an integer (i)", "a number (f)", "a string (s)",
                                           "a truth value (b)"};
  return kNames[v.index()];
}

std::string PortList(const std::vector<PortSpec>& ports) {
  return absl::StrJoin(ports, ", ", [](std::string* out, const PortSpec& p) {
    absl::StrAppend(out, p.name, p.variadic ? "..." : p.optional ? "?" : "");
  });
}

bool CheckCount(const Node& node, const char* what, size_t count,
                const std::vector<PortSpec>& ports, Findings& findings) {
  size_t least = 0, most = 0;
  bool variadic = false;
  for (const PortSpec& p : ports) {
    variadic |= p.variadic;
    if (!p.variadic) ++most;
    if (!p.variadic && !p.optional) ++least;
  }
  if (count >= least && (variadic || count <= most)) return true;
  const std::string range = variadic        ? absl::StrCat(least, " or more")
                            : least == most ? absl::StrCat(most)
                                            : absl::StrCat(least, " to ", most);
  Report(node,
         absl::StrCat("operation '", node.op, "' has ", count, " ", what, count == 1 ? "" : "s",
                      ", expected ", range, " (", PortList(ports), ")"),
         findings);
  return false;
}

void CheckAttrs(const Node& node, const OpContract& op, Findings& findings) {
  for (const auto& [name, value] : node.attrs) {
    const AttrSpec* spec = nullptr;
    std::vector<std::string> names;
    for (const AttrSpec& s : op.attrs) {
      names.push_back(s.name);
      if (s.name == name) spec = &s;
    }
    if (spec == nullptr) {
      Report(node,
             absl::StrCat("operation '", node.op, "' has no attribute '", name, "'",
                          names.empty()
                              ? ", nor any other"
                              : absl::StrCat(", expected one of ", absl::StrJoin(names, ", "))),
             findings, DidYouMean(name, names), "attribute");
    } else if (spec->default_value.index() != value.index()) {
      Report(node,
             absl::StrCat("attribute '", name, "' is ", TypeName(value), ", expected ",
                          TypeName(spec->default_value)),
             findings, "", "attribute");
    }
  }
  for (const AttrSpec& s : op.attrs) {
    if (s.required && node.attrs.count(s.name) == 0) {
      Report(node, absl::StrCat("operation '", node.op, "' needs the attribute '", s.name, "'"),
             findings, absl::StrCat("add it: ", s.doc), "attribute");
    }
  }
}

std::string ShapeText(const Value& v) {
  return absl::StrCat("[", absl::StrJoin(v.shape, ", "), "]");
}

std::string ShardingText(const Value& v) {
  return v.sharding == Sharding::kReplicated
             ? "replicated"
             : absl::StrCat(Name(v.sharding), " over '", v.group, "'");
}

// A group of one rank makes sharded, partial and replicated the same thing.
bool SameSharding(const Graph& g, const Value& a, const Value& b) {
  const bool a_whole = a.sharding == Sharding::kReplicated || g.group_size(a.group) == 1;
  const bool b_whole = b.sharding == Sharding::kReplicated || g.group_size(b.group) == 1;
  if (a_whole || b_whole) return a_whole == b_whole;
  return a.sharding == b.sharding && a.group == b.group;
}

void Compare(const Graph& g, const Node& node, const Value& declared, const Value& inferred,
             Findings& findings) {
  auto differ = [&](const char* what, const std::string& is, const std::string& expected) {
    Finding f;
    f.check = "type";
    f.node = node.name;
    f.message =
        absl::StrCat("writes '", declared.name, "' with ", what, " ", is, ", expected ", expected);
    const SourceLocation& at = declared.source.line > 0 ? declared.source : node.source;
    f.file = at.file;
    f.line = at.line;
    f.column = at.column;
    findings.Add(std::move(f));
  };
  if (declared.dtype != inferred.dtype) {
    differ("element type", std::string(Name(declared.dtype)), std::string(Name(inferred.dtype)));
  }
  if (declared.shape != inferred.shape) differ("shape", ShapeText(declared), ShapeText(inferred));
  if (!SameSharding(g, declared, inferred))
    differ("sharding", ShardingText(declared), ShardingText(inferred));
}

// The port of the i-th of `count` values: the last port repeats when it is variadic.
const PortSpec* PortOf(const std::vector<PortSpec>& ports, size_t i) {
  if (i < ports.size()) return &ports[i];
  return !ports.empty() && ports.back().variadic ? &ports.back() : nullptr;
}

bool HasGroup(const Graph& g, const std::string& group) { return g.groups().count(group) > 0; }

std::string GroupNames(const Graph& g) {
  return absl::StrJoin(g.groups(), ", ",
                       [](std::string* out, const auto& entry) { *out += entry.first; });
}

void CheckGroup(const Graph& g, const Node& node, const std::string& what, const std::string& group,
                Findings& findings) {
  if (HasGroup(g, group)) return;
  std::vector<std::string> names;
  for (const auto& [name, size] : g.groups()) names.push_back(name);
  Report(node,
         absl::StrCat(what, " names group '", group, "', expected ",
                      names.empty() ? "a group of the graph, which has none" : GroupNames(g)),
         findings, DidYouMean(group, names));
}

void CheckReads(const Graph& g, const Node& node, const OpContract& op, Findings& findings) {
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    const Value& v = g.values()[node.inputs[i]];
    const Buffer& buffer = g.buffers()[v.buffer];
    if (g.producer(node.inputs[i]) < 0 && !buffer.persistent && buffer.kind != BufferKind::kInput) {
      Report(node,
             absl::StrCat("reads '", v.name,
                          "', which no node writes and which does not persist from the ",
                          "step before"),
             findings, "", "undefined");
    }
    const bool parameter =
        buffer.kind == BufferKind::kParameter || buffer.kind == BufferKind::kGathered;
    if (op.is_collective || !parameter || v.sharding != Sharding::kSharded ||
        g.group_size(v.group) == 1) {
      continue;
    }
    bool updates = false;
    for (const PortSpec& out : op.outputs) updates |= out.in_place_of == static_cast<int>(i);
    updates |= node.op == "copy";  // a shard stays a shard, elsewhere
    if (!updates) {
      Report(node,
             absl::StrCat("reads parameter '", v.name, "', of which each rank of group '", v.group,
                          "' holds a shard only; it needs an all_gather before it"),
             findings,
             absl::StrCat("add a node with op \"all_gather\" that reads '", v.name,
                          "' and read its output"));
    }
  }
}

void CheckInPlace(const Graph& g, const Node& node, const OpContract& op,
                  const std::vector<ValueId>& outputs, Findings& findings) {
  for (size_t i = 0; i < outputs.size(); ++i) {
    const PortSpec* port = PortOf(op.outputs, i);
    if (port == nullptr || port->in_place_of < 0 ||
        port->in_place_of >= static_cast<int>(node.inputs.size())) {
      continue;
    }
    const Value& in = g.values()[node.inputs[port->in_place_of]];
    const Value& out = g.values()[outputs[i]];
    if (port->optional && in.dtype != out.dtype) continue;  // left out: this is a later port's
    if (in.buffer != out.buffer || in.offset != out.offset || in.own_shard != out.own_shard) {
      Report(node,
             absl::StrCat("writes '", out.name, "' to other bytes than '", in.name,
                          "', which operation '", node.op, "' updates in place"),
             findings, "put both on the same buffer and offset");
    }
  }
}

void CheckCollective(const Graph& g, const Node& node, const OpContract& op, Findings& findings) {
  if (op.is_collective != node.is_collective) {
    Report(node,
           absl::StrCat("operation '", node.op,
                        op.is_collective ? "' is a collective, but the node has no"
                                         : "' is no collective, but the node has a",
                        " group, element type and count"),
           findings);
  } else if (op.is_collective && op.collective != node.collective.op) {
    Report(node,
           absl::StrCat("describes the collective ", Name(node.collective.op), ", expected ",
                        Name(op.collective)),
           findings);
  }
  if (node.is_collective) CheckGroup(g, node, "the collective", node.collective.group, findings);
}

}  // namespace

bool CheckPorts(const Graph& graph, const Node& node, const std::vector<ValueId>& outputs,
                Findings& findings) {
  const OpContract* op = OpContracts::Global().Find(node.op);
  if (op == nullptr) {
    std::string help = DidYouMean(node.op, OpContracts::Global().Names());
    if (help.empty()) help = "`millrace describe op` lists the operations";
    Report(node, absl::StrCat("unknown operation '", node.op, "'"), findings, help, "unknown_op");
    return false;
  }
  CheckAttrs(node, *op, findings);
  const bool inputs_fit = CheckCount(node, "input", node.inputs.size(), op->inputs, findings);
  return CheckCount(node, "output", outputs.size(), op->outputs, findings) && inputs_fit;
}

bool InferOutputs(const Graph& graph, const Node& node, std::vector<Value>& declared,
                  Findings& findings) {
  const OpContract* op = OpContracts::Global().Find(node.op);
  if (op == nullptr || !op->infer) return op != nullptr;
  InferContext context;
  context.graph = &graph;
  context.node = &node;
  for (ValueId v : node.inputs) context.inputs.push_back(&graph.values()[v]);
  context.outputs = declared;
  const absl::Status status = op->infer(context);
  if (!status.ok()) {
    Report(node, std::string(status.message()), findings);
    return false;
  }
  if (context.outputs.size() != declared.size()) {
    Report(node,
           absl::StrCat("the contract of '", node.op, "' describes ", context.outputs.size(),
                        " outputs, the node has ", declared.size()),
           findings);
    return false;
  }
  declared = std::move(context.outputs);
  return true;
}

Findings CheckTypes(const Graph& graph, const TypeCheckSkips& skips) {
  Findings findings;
  auto unknown = [&](ValueId v) {
    return !skips.unknown_values.empty() && skips.unknown_values[v];
  };
  for (size_t i = 0; i < graph.nodes().size(); ++i) {
    const Node& node = graph.nodes()[i];
    if (node.async == AsyncRole::kDone) continue;  // checked with its start
    if (!skips.broken_nodes.empty() && skips.broken_nodes[i]) continue;
    const std::vector<ValueId>& outputs =
        node.async == AsyncRole::kStart ? graph.nodes()[node.partner].outputs : node.outputs;
    if (node.async == AsyncRole::kStart && !node.outputs.empty()) {
      Report(node, "starts an asynchronous operation and has outputs; they belong to its done half",
             findings, "", "async");
    }
    const OpContract* op = OpContracts::Global().Find(node.op);
    if (op != nullptr) {
      CheckCollective(graph, node, *op, findings);
      CheckReads(graph, node, *op, findings);
      CheckInPlace(graph, node, *op, outputs, findings);
    }
    if (!CheckPorts(graph, node, outputs, findings)) continue;
    bool inputs_known = true;
    for (ValueId v : node.inputs) inputs_known = inputs_known && !unknown(v);
    if (!inputs_known) continue;
    std::vector<Value> inferred;
    for (ValueId v : outputs) {
      inferred.push_back(graph.values()[v]);
      if (unknown(v)) inferred.back().shape = {-1};
    }
    if (!InferOutputs(graph, node, inferred, findings)) continue;
    for (size_t k = 0; k < outputs.size(); ++k) {
      if (!unknown(outputs[k]))
        Compare(graph, node, graph.values()[outputs[k]], inferred[k], findings);
    }
  }
  Node no_node;
  for (const Value& v : graph.values()) {
    if (v.sharding == Sharding::kReplicated && !v.own_shard) continue;
    no_node.source = v.source;
    CheckGroup(graph, no_node, absl::StrCat("value '", v.name, "'"), v.group, findings);
  }
  return findings;
}

}  // namespace millrace
