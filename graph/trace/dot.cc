#include "graph/trace/dot.h"

#include <algorithm>
#include <map>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace millrace {
namespace {

// A quoted identifier. A backslash begins an escape in Graphviz, so it is doubled.
std::string Quoted(absl::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (c == '\n') {
      out += "\\n";
    } else {
      out += c;
    }
  }
  return out + "\"";
}

absl::string_view Color(const Node& node) {
  if (node.async == AsyncRole::kStart) return "#e8e8e8";
  if (node.is_collective) return "#c6dbef";
  if (node.op == "forward") return "#c7e9c0";
  if (node.op == "recompute") return "#e5f5e0";
  if (node.op == "backward") return "#fdd0a2";
  if (absl::StartsWith(node.op, "adam") || node.op == "sgd") return "#dadaeb";
  return "#ffffff";
}

std::string Seconds(double s) {
  if (s >= 1) return absl::StrFormat("%.3f s", s);
  if (s >= 1e-3) return absl::StrFormat("%.3f ms", s * 1e3);
  return absl::StrFormat("%.1f us", s * 1e6);
}

absl::string_view Style(EdgeKind kind) {
  switch (kind) {
    case EdgeKind::kData:
      return "color=\"#333333\"";
    case EdgeKind::kAsync:
      return "color=\"#2171b5\",penwidth=2";
    case EdgeKind::kControl:
      return "color=\"#333333\",style=dotted";
    case EdgeKind::kHazard:
      return "color=\"#cb181d\",style=dashed";
    case EdgeKind::kCredit:
      return "color=\"#238b45\",style=dashed";
    case EdgeKind::kLane:
      return "color=\"#bbbbbb\",weight=10";
  }
  return "";
}

int Rank(EdgeKind kind) {
  switch (kind) {
    case EdgeKind::kData:
      return 0;
    case EdgeKind::kAsync:
      return 1;
    case EdgeKind::kControl:
      return 2;
    case EdgeKind::kHazard:
      return 3;
    case EdgeKind::kCredit:
      return 4;
    case EdgeKind::kLane:
      return 5;
  }
  return 6;
}

constexpr char kHead[] =
    "  rankdir=TB;\n"
    "  node [shape=box,style=\"filled,rounded\",fontname=\"Helvetica\",fontsize=10];\n"
    "  edge [fontname=\"Helvetica\",fontsize=8];\n";

std::string NodeStatement(const std::string& id, const Node& node, const std::string& more,
                          const std::string& tooltip) {
  return absl::StrCat(id, " [label=", Quoted(absl::StrCat(node.name, "\n", node.op, more)),
                      ",fillcolor=\"", Color(node), "\",tooltip=", Quoted(tooltip), "];\n");
}

}  // namespace

std::string GraphDot(const Graph& graph) {
  std::string out = absl::StrCat("digraph ", Quoted(graph.name()), " {\n", kHead);
  for (size_t i = 0; i < graph.nodes().size(); ++i) {
    absl::StrAppend(
        &out, "  ",
        NodeStatement(absl::StrCat("n", i), graph.nodes()[i], "", graph.nodes()[i].name));
  }
  for (size_t i = 0; i < graph.nodes().size(); ++i) {
    for (ValueId v : graph.nodes()[i].inputs) {
      if (graph.producer(v) < 0) continue;
      absl::StrAppend(&out, "  n", graph.producer(v), " -> n", i,
                      " [label=", Quoted(graph.values()[v].name), ",", Style(EdgeKind::kData),
                      "];\n");
    }
    for (NodeId c : graph.nodes()[i].control) {
      absl::StrAppend(&out, "  n", c, " -> n", i, " [", Style(EdgeKind::kControl), "];\n");
    }
    if (graph.nodes()[i].async == AsyncRole::kDone) {
      absl::StrAppend(&out, "  n", graph.nodes()[i].partner, " -> n", i, " [",
                      Style(EdgeKind::kAsync), "];\n");
    }
  }
  return out + "}\n";
}

std::string PlanDot(const Plan& plan) {
  std::string out = absl::StrCat("digraph ", Quoted(plan.name), " {\n", kHead);
  for (size_t p = 0; p < plan.rank_plans.size(); ++p) {
    const RankPlan& rank_plan = plan.rank_plans[p];
    absl::StrAppend(&out, "  subgraph cluster_", p, " {\n    label=",
                    Quoted(absl::StrCat(rank_plan.ranks.size() == 1 ? "rank " : "ranks ",
                                        absl::StrJoin(rank_plan.ranks, ", "))),
                    ";\n");
    for (size_t l = 0; l < rank_plan.lanes.size(); ++l) {
      absl::StrAppend(&out, "    subgraph cluster_", p, "_", l,
                      " {\n      label=", Quoted(rank_plan.lanes[l].name),
                      ";style=filled;color=\"#f7f7f7\";\n");
      for (NodeId n : rank_plan.lanes[l].order) {
        const std::string time = n < static_cast<NodeId>(rank_plan.seconds.size())
                                     ? absl::StrCat("\n", Seconds(rank_plan.seconds[n]))
                                     : "";
        const std::string reason =
            n < static_cast<NodeId>(rank_plan.reason.size()) ? rank_plan.reason[n] : "";
        absl::StrAppend(
            &out, "      ",
            NodeStatement(absl::StrCat("r", p, "n", n), plan.graph.nodes()[n], time, reason));
      }
      absl::StrAppend(&out, "    }\n");
    }
    std::map<std::pair<NodeId, NodeId>, EdgeKind> drawn;
    for (const Edge& e : rank_plan.edges) {
      const auto [at, is_new] = drawn.insert({{e.from, e.to}, e.kind});
      if (!is_new && Rank(e.kind) < Rank(at->second)) at->second = e.kind;
    }
    for (const auto& [ends, kind] : drawn) {
      absl::StrAppend(&out, "    r", p, "n", ends.first, " -> r", p, "n", ends.second, " [",
                      Style(kind), ",tooltip=\"", Name(kind), "\"];\n");
    }
    absl::StrAppend(&out, "  }\n");
  }
  return out + "}\n";
}

}  // namespace millrace
