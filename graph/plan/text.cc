// Plan -> PlanDef by names instead of ids, and PlanDef -> text with one line for each leaf.
#include "graph/plan/text.h"

#include <google/protobuf/text_format.h>

#include <algorithm>
#include <map>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace millrace {
namespace {

std::string NodeName(const Graph& graph, NodeId id) {
  if (id < 0 || id >= static_cast<NodeId>(graph.nodes().size())) return absl::StrCat("?", id);
  return graph.nodes()[id].name;
}

// An entry of a table by node, or its default where the planner left the table out.
template <typename T>
T At(const std::vector<T>& table, NodeId id) {
  return id >= 0 && id < static_cast<NodeId>(table.size()) ? table[id] : T{};
}

void SetTiers(const std::array<int64_t, kTiers>& bytes, TierBytesDef* def) {
  def->set_device(bytes[static_cast<int>(Tier::kDevice)]);
  def->set_pinned(bytes[static_cast<int>(Tier::kPinned)]);
  def->set_host(bytes[static_cast<int>(Tier::kHost)]);
  def->set_storage(bytes[static_cast<int>(Tier::kStorage)]);
}

void AddLanes(const Graph& graph, const RankPlan& plan, RankPlanDef* def) {
  for (const Lane& lane : plan.lanes) {
    LaneDef* out = def->add_lane();
    out->set_name(lane.name);
    out->set_kind(std::string(Name(lane.kind)));
    for (NodeId id : lane.order) {
      RunDef* run = out->add_run();
      run->set_start(At(plan.start_time, id));
      run->set_seconds(At(plan.seconds, id));
      run->set_node(NodeName(graph, id));
      run->set_reason(At(plan.reason, id));
    }
  }
}

void AddPlacements(const Graph& graph, const RankPlan& plan, RankPlanDef* def) {
  for (size_t b = 0; b < plan.offset.size(); ++b) {
    if (plan.offset[b] < 0) continue;  // the rank does not have it
    PlacementDef* out = def->add_placement();
    out->set_offset(plan.offset[b]);
    if (b >= graph.buffers().size()) {
      out->set_buffer(absl::StrCat("?", b));
      continue;
    }
    const Buffer& buffer = graph.buffers()[b];
    out->set_buffer(buffer.name);
    out->set_tier(std::string(Name(buffer.tier)));
    out->set_bytes(buffer.bytes);
    out->set_kind(std::string(Name(buffer.kind)));
    if (buffer.persistent) out->set_persistent(true);
  }
}

void AddCredits(const Graph& graph, const RankPlan& plan, RankPlanDef* def) {
  for (const Credit& credit : plan.credits) {
    CreditDef* out = def->add_credit();
    out->set_name(credit.name);
    out->set_limit(credit.limit);
    out->set_unit(credit.unit);
    for (const Credit::Holder& holder : credit.holders) {
      CreditHolderDef* h = out->add_holder();
      h->set_take(NodeName(graph, holder.take));
      if (holder.give >= 0) h->set_give(NodeName(graph, holder.give));
      h->set_amount(holder.amount);
    }
  }
}

void AddEdges(const Graph& graph, const RankPlan& plan, RankPlanDef* def) {
  std::map<EdgeKind, EdgesDef> kinds;
  for (const Edge& edge : plan.edges) {
    EdgeDef* out = kinds[edge.kind].add_edge();
    out->set_from(NodeName(graph, edge.from));
    out->set_to(NodeName(graph, edge.to));
  }
  for (auto& [kind, edges] : kinds) {
    edges.set_kind(std::string(Name(kind)));
    def->add_edges()->Swap(&edges);
  }
}

void SetRankPlan(const Graph& graph, const RankPlan& plan, RankPlanDef* def) {
  for (int rank : plan.ranks) def->add_rank(rank);
  SetTiers(plan.arena_bytes, def->mutable_peak());
  SetTiers(plan.persistent_bytes, def->mutable_persistent());
  SetTiers(plan.live_bytes_bound, def->mutable_live_bytes_bound());
  for (const PeakEntry& entry : plan.at_peak) {
    PeakEntryDef* out = def->add_at_peak();
    out->set_tier(std::string(Name(entry.tier)));
    out->set_what(entry.what);
    out->set_bytes(entry.bytes);
  }
  AddLanes(graph, plan, def);
  AddCredits(graph, plan, def);
  AddPlacements(graph, plan, def);
  AddEdges(graph, plan, def);
}

// Protobuf text with a line for each leaf.
class Writer {
 public:
  template <typename... Args>
  void Line(const Args&... args) {
    absl::StrAppend(&text_, std::string(2 * depth_, ' '), args..., "\n");
  }
  void Open(absl::string_view field) {
    Line(field, " {");
    ++depth_;
  }
  void Close() {
    --depth_;
    Line("}");
  }
  void Leaf(absl::string_view field, const google::protobuf::Message& message) {
    std::string fields;
    if (!printer_.PrintToString(message, &fields)) return;
    Line(field, " { ", absl::StripTrailingAsciiWhitespace(fields), " }");
  }
  template <typename List>
  void Leaves(absl::string_view field, const List& list) {
    for (const auto& message : list) Leaf(field, message);
  }
  Writer() { printer_.SetSingleLineMode(true); }
  std::string text() && { return std::move(text_); }

 private:
  google::protobuf::TextFormat::Printer printer_;
  std::string text_;
  int depth_ = 0;
};

std::string Quoted(absl::string_view s) {
  return absl::StrCat("\"", absl::Utf8SafeCEscape(s), "\"");
}

void Write(const LaneDef& lane, Writer& w) {
  w.Open("lane");
  w.Line("name: ", Quoted(lane.name()), " kind: ", Quoted(lane.kind()));
  size_t width = 0;
  for (const RunDef& run : lane.run()) width = std::max(width, run.node().size() + 2);
  for (const RunDef& run : lane.run()) {
    w.Line(absl::StrFormat("run { start: %.9f seconds: %.9f node: %-*s reason: %s }", run.start(),
                           run.seconds(), static_cast<int>(width), Quoted(run.node()),
                           Quoted(run.reason())));
  }
  w.Close();
}

void Write(const CreditDef& credit, Writer& w) {
  w.Open("credit");
  w.Line("name: ", Quoted(credit.name()), " limit: ", credit.limit(),
         " unit: ", Quoted(credit.unit()));
  w.Leaves("holder", credit.holder());
  w.Close();
}

void Write(const EdgesDef& edges, Writer& w) {
  w.Open("edges");
  w.Line("kind: ", Quoted(edges.kind()));
  w.Leaves("edge", edges.edge());
  w.Close();
}

void Write(const RankPlanDef& plan, Writer& w) {
  w.Open("rank_plan");
  w.Line("rank: [", absl::StrJoin(plan.rank(), ", "), "]");
  w.Leaf("peak", plan.peak());
  w.Leaf("persistent", plan.persistent());
  w.Leaf("live_bytes_bound", plan.live_bytes_bound());
  w.Leaves("at_peak", plan.at_peak());
  for (const LaneDef& lane : plan.lane()) Write(lane, w);
  for (const CreditDef& credit : plan.credit()) Write(credit, w);
  w.Leaves("placement", plan.placement());
  for (const EdgesDef& edges : plan.edges()) Write(edges, w);
  w.Close();
}

}  // namespace

PlanDef ToProto(const Plan& plan) {
  PlanDef def;
  def.set_name(plan.name);
  def.set_machine(plan.machine);
  def.set_world_size(plan.world_size);
  def.set_hash(plan.hash);
  def.set_seconds_to_plan(plan.seconds_to_plan);
  SetTiers(plan.budget_bytes, def.mutable_budget());
  if (plan.separate_memory) def.set_separate_memory(true);
  for (const RankPlan& rank_plan : plan.rank_plans) {
    SetRankPlan(plan.graph, rank_plan, def.add_rank_plan());
  }
  return def;
}

std::string PlanText(const Plan& plan) {
  const PlanDef def = ToProto(plan);
  Writer w;
  w.Line("name: ", Quoted(def.name()));
  w.Line("machine: ", Quoted(def.machine()));
  w.Line("world_size: ", def.world_size());
  w.Line("hash: ", Quoted(def.hash()));
  w.Line(absl::StrFormat("seconds_to_plan: %.6f", def.seconds_to_plan()));
  w.Leaf("budget", def.budget());
  if (def.separate_memory()) w.Line("separate_memory: true");
  for (const RankPlanDef& rank_plan : def.rank_plan()) Write(rank_plan, w);
  return std::move(w).text();
}

}  // namespace millrace
