#include "graph/plan/cost_table.h"

#include <google/protobuf/text_format.h>

#include <set>

#include "absl/strings/str_cat.h"
#include "graph/ir/lane_kind.h"
#include "graph/ir/text_reader.h"

namespace millrace {

absl::StatusOr<CostTable> LoadCostTable(const std::string& path, Findings& findings) {
  std::string text;
  if (!ReadTextFile(path, "cost table", &text, findings)) {
    return absl::NotFoundError(absl::StrCat("the cost table ", path, " cannot be read"));
  }
  return ParseCostTable(text, path, findings);
}

absl::StatusOr<CostTable> ParseCostTable(absl::string_view text, const std::string& file,
                                         Findings& findings) {
  CostTable table;
  TextLocations where;
  Findings own;
  ReadText(text, file, &table, &where, own);
  const auto require = [&](bool ok, const std::string& path, const std::string& message) {
    if (ok || where.IsSuspect(path)) return;
    const SourceLocation at = where.Find(path);
    own.Add({.check = "costs",
             .message = absl::StrCat(path, " ", message),
             .file = at.file,
             .line = at.line,
             .column = at.column});
  };
  std::set<std::string> seen;
  for (int i = 0; i < table.node_size(); ++i) {
    const NodeCost& node = table.node(i);
    const std::string path = absl::StrCat("node[", i, "]");
    require(!node.op().empty(), path + ".op", "is missing, expected the name of an operation");
    require(node.has_seconds() && node.seconds() >= 0, path + ".seconds",
            absl::StrCat("is ", node.seconds(), ", expected 0 or more"));
    const std::string size =
        absl::StrCat(node.op(), " ", node.flops(), " flops, ", node.memory_bytes(), " bytes, ",
                     node.operators(), " operators, ", node.ranks(), " ranks");
    require(seen.insert(size).second, path, absl::StrCat("gives ", size, " a second cost"));
  }
  for (int i = 0; i < table.op_size(); ++i) {
    const std::string path = absl::StrCat("op[", i, "]");
    require(!table.op(i).op().empty(), path + ".op", "is missing");
    require(table.op(i).factor() > 0, path + ".factor",
            absl::StrCat("is ", table.op(i).factor(), ", expected more than 0"));
  }
  for (int i = 0; i < table.contention_size(); ++i) {
    require(table.contention(i).factor() >= 1, absl::StrCat("contention[", i, "].factor"),
            absl::StrCat("is ", table.contention(i).factor(), ", expected 1 or more"));
  }
  require(table.seconds_per_step() >= 0, "seconds_per_step", "is less than 0");
  require(table.seconds_per_start() >= 0, "seconds_per_start", "is less than 0");
  findings.Append(own);
  if (!own.ok()) return own.ToStatus();
  return table;
}

std::string ToText(const CostTable& table) {
  google::protobuf::TextFormat::Printer printer;
  printer.SetUseShortRepeatedPrimitives(true);
  std::string text;
  printer.PrintToString(table, &text);
  return text;
}

NodeCost SizeOfNode(const Graph& graph, NodeId id) {
  const Node& node = graph.nodes()[id];
  const LaneKind kind = LaneKindOf(graph, id);
  NodeCost size;
  size.set_op(node.op);
  size.set_operators(node.operators);
  if (node.is_collective) {
    // What goes over the wire; a lowered graph gives only one half of a split pair its memory traffic.
    size.set_op(std::string(Name(node.collective.op)));
    size.set_flops(0);
    size.set_memory_bytes(node.collective.count * SizeOf(node.collective.dtype));
    size.set_ranks(graph.group_size(node.collective.group));
  } else {
    // The same operation costs something else on another engine: "copy on storage".
    if (kind != LaneKind::kCompute) size.set_op(absl::StrCat(node.op, " on ", Name(kind)));
    size.set_flops(node.flops);
    size.set_memory_bytes(node.memory_bytes);
  }
  return size;
}

Machine WithMeasured(const Machine& machine, const CostTable& table) {
  Machine measured = machine;
  if (table.has_seconds_per_step())
    measured.mutable_device()->set_seconds_per_step(table.seconds_per_step());
  if (table.contention_size() > 0) *measured.mutable_contention() = table.contention();
  return measured;
}

CostLookup::Key CostLookup::KeyOf(const NodeCost& size) {
  return {size.op(), size.flops(), size.memory_bytes(), size.operators(), size.ranks()};
}

CostLookup::CostLookup(const CostTable& table) {
  for (const NodeCost& node : table.node()) seconds_[KeyOf(node)] = node.seconds();
  for (const OpFactor& op : table.op()) factor_[op.op()] = op.factor();
}

double CostLookup::Seconds(const Graph& graph, NodeId node, double analytic) const {
  NodeCost size = SizeOfNode(graph, node);
  const auto known = [&] {
    return seconds_.count(KeyOf(size)) > 0 || factor_.count(size.op()) > 0;
  };
  // A stage's forward a second time: a table of a run that recomputed nothing has it as its forward.
  if (size.op() == "recompute" && !known()) size.set_op("forward");
  const auto measured = seconds_.find(KeyOf(size));
  if (measured != seconds_.end()) return measured->second;
  const auto factor = factor_.find(size.op());
  return factor == factor_.end() ? analytic : analytic * factor->second;
}

}  // namespace millrace
