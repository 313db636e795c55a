#include "tools/report/report_data.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "graph/plan/summary.h"
#include "tools/report/memory_curve.h"

namespace millrace {
namespace {

using Json = ReportJson;

// What a node is for, as far as colours tell it.
enum Family { kLoad, kForward, kBackward, kUpdate, kGather, kReduce, kOtherComm, kOther };
constexpr const char* kFamilies[] = {
    "load", "forward", "backward", "update", "gather", "reduce", "other communication", "other"};

Family FamilyOf(const Graph& graph, const Node& node) {
  if (node.is_collective) {
    switch (node.collective.op) {
      case CollectiveOp::kAllGather:
      case CollectiveOp::kBroadcast:
        return kGather;
      case CollectiveOp::kReduceScatter:
      case CollectiveOp::kAllReduce:
        return kReduce;
      default:
        return kOtherComm;
    }
  }
  if (node.op == "load_batch") return kLoad;
  if (node.op == "forward" || node.op == "recompute") return kForward;
  if (node.op == "backward") return kBackward;
  for (ValueId v : node.outputs) {
    const Buffer& buffer = graph.buffers()[graph.values()[v].buffer];
    if (buffer.persistent && buffer.kind == BufferKind::kParameter) return kUpdate;
  }
  return kOther;
}

// Index of a text in a list that grows; texts repeat much.
class Words {
 public:
  int Index(const std::string& word) {
    const auto [it, added] = index_.emplace(word, static_cast<int>(list_.size()));
    if (added) list_.push_back(word);
    return it->second;
  }
  const std::vector<std::string>& list() const { return list_; }

 private:
  std::map<std::string, int> index_;
  std::vector<std::string> list_;
};

Json TierJson(const ReportInput& in, int t) {
  const Plan& plan = *in.plan;
  const RankPlan* worst = &plan.rank_plans[0];
  for (const RankPlan& r : plan.rank_plans) {
    if (r.arena_bytes[t] > worst->arena_bytes[t]) worst = &r;
  }
  Json at_peak = Json::array();
  for (const PeakEntry& e : worst->at_peak) {
    if (static_cast<int>(e.tier) == t) at_peak.push_back({{"what", e.what}, {"bytes", e.bytes}});
  }
  return {{"name", Name(static_cast<Tier>(t))},
          {"peak", worst->arena_bytes[t]},
          {"bound", worst->live_bytes_bound[t]},
          {"persistent", worst->persistent_bytes[t]},
          {"budget", plan.budget_bytes[t]},
          {"measured", in.measured != nullptr ? in.measured->peak_bytes[t] : 0},
          {"at_peak", std::move(at_peak)}};
}

Json SummaryJson(const ReportInput& in) {
  const Plan& plan = *in.plan;
  const SimResult& sim = *in.predicted;
  const PlanSummary s = Summarise(plan);
  Json tiers = Json::array();
  for (int t = 0; t < kTiers; ++t) {
    if (s.peak_bytes[t] > 0) tiers.push_back(TierJson(in, t));
  }
  Json json = {{"name", plan.name},
               {"machine", plan.machine},
               {"plan_hash", plan.hash},
               {"world_size", plan.world_size},
               {"nodes", plan.graph.nodes().size()},
               {"parameters", s.parameters},
               {"flops_per_step", s.flops_per_step},
               {"global_batch", s.batch.global},
               {"predicted_seconds", sim.step_seconds},
               {"lower_bound_seconds", sim.lower_bound_seconds},
               {"exposed_comm_seconds", sim.exposed_comm_seconds},
               {"hidden_comm_seconds", sim.hidden_comm_seconds},
               {"tiers", std::move(tiers)}};
  if (in.pipeline != nullptr) {
    json["description"] = in.pipeline->proto.description();
    json["file"] = in.pipeline->file;
  }
  if (in.measured != nullptr) {
    json["measured_seconds"] = in.measured->step_seconds;
    json["weights_sha256"] = in.measured->weights_sha256;
    json["mfu"] = in.measured->mfu;
    if (in.measured->issue_seconds_per_node > 0) {
      json["issue"] = {{"seconds_per_node", in.measured->issue_seconds_per_node},
                       {"seconds_per_step", in.measured->issue_seconds_per_step},
                       {"captured_runs", in.measured->captured_runs}};
    }
  }
  return json;
}

// JSON has no infinities or NaNs.
Json Number(double v) { return std::isfinite(v) ? Json(v) : Json(nullptr); }

Json ConfigJson(const LoadedPipeline& pipeline) {
  Json list = Json::array();
  for (const ResolvedField& f : ResolvedFields(pipeline)) {
    std::string where;
    if (f.origin == Origin::kSet) where = f.where.file;
    if (f.origin == Origin::kFile) where = absl::StrCat(f.where.file, ":", f.where.line);
    list.push_back(
        {{"path", f.path}, {"value", f.value}, {"origin", Name(f.origin)}, {"where", where}});
  }
  return list;
}

// Places of the issue lane that a curve shows: all, or of each stretch the one with the highest sum.
std::vector<int> ShownPlaces(const MemoryCurve& curve, int64_t limit) {
  std::vector<int> shown;
  const auto places = static_cast<int64_t>(curve.bytes.size());
  const int64_t cells = std::min(places, limit);
  const auto sum = [&](int64_t p) {
    return std::accumulate(curve.bytes[p].begin(), curve.bytes[p].end(), int64_t{0});
  };
  for (int64_t c = 0; c < cells; ++c) {
    int64_t best = c * places / cells;
    for (int64_t p = best + 1; p < (c + 1) * places / cells; ++p) {
      if (sum(p) > sum(best)) best = p;
    }
    shown.push_back(static_cast<int>(best));
  }
  return shown;
}

Json LanesJson(const RankPlan& rank_plan) {
  Json lanes = Json::array();
  for (const Lane& lane : rank_plan.lanes) lanes.push_back({{"name", lane.name}});
  return {{"ranks", rank_plan.ranks}, {"lanes", std::move(lanes)}};
}

Json CurveJson(const MemoryCurve& curve, const std::vector<int>& shown) {
  Json kinds = Json::array();
  for (int k = 0; k < kBufferKinds; ++k) {
    std::vector<int64_t> bytes;
    for (int p : shown) bytes.push_back(curve.bytes[p][k]);
    if (std::all_of(bytes.begin(), bytes.end(), [](int64_t b) { return b == 0; })) continue;
    kinds.push_back({{"kind", Name(static_cast<BufferKind>(k))}, {"bytes", std::move(bytes)}});
  }
  return {{"tier", Name(curve.tier)},
          {"peak_place", curve.peak_place},
          {"peak_bytes", curve.peak_bytes},
          {"place", shown},
          {"kinds", std::move(kinds)}};
}

}  // namespace

Json NodesJson(const Plan& plan) {
  Words ops;
  std::vector<std::string> name;
  std::vector<int64_t> op, family, stage, role, bytes, flops;
  for (const Node& node : plan.graph.nodes()) {
    name.push_back(node.name);
    op.push_back(ops.Index(node.op));
    family.push_back(FamilyOf(plan.graph, node));
    stage.push_back(IntAttr(node, "stage", -1));
    role.push_back(static_cast<int>(node.async));
    bytes.push_back(BytesOf(plan.graph, node));
    flops.push_back(node.flops);
  }
  return {{"ops", ops.list()}, {"families", kFamilies}, {"name", name},
          {"op", op},          {"family", family},      {"stage", stage},
          {"role", role},      {"bytes", bytes},        {"flops", flops}};
}

Json PlanJsonOf(const Plan& plan, const RankPlan& rank_plan, const std::vector<Span>& spans,
                const ReportLimits& limits, std::vector<std::string>* notes) {
  Json json = LanesJson(rank_plan);
  Words reasons;
  std::vector<int> reason;
  for (const std::string& r : rank_plan.reason) reason.push_back(reasons.Index(r));
  json["reasons"] = reasons.list();
  json["reason"] = std::move(reason);
  const absl::StatusOr<MemoryUse> memory = MemoryOf(plan.graph, rank_plan);
  if (!memory.ok()) {
    notes->push_back(absl::StrCat("No memory curve: ", memory.status().message()));
    return json;
  }
  // When the node at each place of the issue lane begins.
  std::vector<int64_t> begin(plan.graph.nodes().size(), 0);
  for (const Span& s : spans) begin[s.node] = s.begin_ns;
  std::vector<int64_t> place_ns;
  for (NodeId n : rank_plan.lanes[0].order) place_ns.push_back(begin[n]);
  json["place_ns"] = std::move(place_ns);
  json["place_node"] = rank_plan.lanes[0].order;
  json["memory"] = Json::array();
  for (const MemoryCurve& curve : memory->curves) {
    const std::vector<int> shown = ShownPlaces(curve, limits.places);
    json["memory"].push_back(CurveJson(curve, shown));
    if (shown.size() < curve.bytes.size()) {
      notes->push_back(absl::StrCat("The memory curve of ", Name(curve.tier), " shows ",
                                    shown.size(), " of ", curve.bytes.size(),
                                    " moments: of each stretch the highest."));
    }
  }
  // The largest buffers and their lives, for the list under the cursor.
  std::vector<size_t> order;
  for (size_t b = 0; b < memory->ranges.size(); ++b) {
    const LiveRange& r = memory->ranges[b];
    if (plan.graph.buffers()[b].bytes > 0 && r.birth <= r.death) order.push_back(b);
  }
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return plan.graph.buffers()[a].bytes > plan.graph.buffers()[b].bytes;
  });
  if (static_cast<int64_t>(order.size()) > limits.buffers) {
    notes->push_back(absl::StrCat("The memory curve's lists name the largest ", limits.buffers,
                                  " of ", order.size(), " buffers."));
    order.resize(limits.buffers);
  }
  Words kinds;
  std::vector<std::string> name;
  std::vector<int64_t> bytes, birth, death, kind, tier;
  for (size_t b : order) {
    const Buffer& buffer = plan.graph.buffers()[b];
    name.push_back(buffer.name);
    bytes.push_back(buffer.bytes);
    birth.push_back(memory->ranges[b].birth);
    death.push_back(memory->ranges[b].death);
    kind.push_back(kinds.Index(std::string(Name(buffer.kind))));
    tier.push_back(static_cast<int>(buffer.tier));
  }
  std::vector<std::string> tiers;
  for (int t = 0; t < kTiers; ++t) tiers.emplace_back(Name(static_cast<Tier>(t)));
  json["buffers"] = {{"kinds", kinds.list()}, {"tiers", tiers}, {"name", name}, {"bytes", bytes},
                     {"birth", birth},        {"death", death}, {"kind", kind}, {"tier", tier}};
  return json;
}

Json MetricsJson(const std::string& jsonl, const ReportLimits& limits,
                 std::vector<std::string>* notes) {
  constexpr const char* kColumns[] = {"loss", "lr", "grad_norm", "step_seconds",
                                      "samples_per_second"};
  std::vector<Json> steps;
  Json evaluations = Json::array();
  for (absl::string_view line : absl::StrSplit(jsonl, '\n', absl::SkipEmpty())) {
    Json json = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object() || !json.contains("step")) continue;  // the last line of a killed run
    if (json.contains("loss")) {
      steps.push_back(std::move(json));
    } else if (json.contains("eval_loss")) {
      evaluations.push_back(std::move(json));
    }
  }
  // Long runs: the mean of each stretch of `each` steps, at its last.
  const size_t each = (steps.size() + limits.steps - 1) / limits.steps;
  Json json = {{"steps", steps.size()}, {"each", each}, {"step", Json::array()}};
  for (const char* column : kColumns) json[column] = Json::array();
  for (size_t i = 0; i < steps.size(); i += each) {
    const size_t end = std::min(steps.size(), i + each);
    json["step"].push_back(steps[end - 1]["step"]);
    for (const char* column : kColumns) {
      double sum = 0;
      for (size_t k = i; k < end; ++k) {
        const auto value = steps[k].find(column);
        // "nan" and "inf" are strings there.
        sum += value != steps[k].end() && value->is_number() ? value->get<double>() : NAN;
      }
      json[column].push_back(Number(sum / static_cast<double>(end - i)));
    }
  }
  if (each > 1) {
    notes->push_back(
        absl::StrCat("Each point of the training curves is the mean of ", each, " steps."));
  }
  json["evaluations"] = std::move(evaluations);
  return json;
}

Json ReportData(const ReportInput& in, const ReportLimits& limits) {
  const Plan& plan = *in.plan;
  std::vector<std::string> notes;
  Json json = {{"version", 1}, {"command", in.command}, {"summary", SummaryJson(in)}};
  json["checks"] = Json::array();
  if (in.certificate != nullptr) {
    for (const CertifiedCheck& c : in.certificate->check()) {
      json["checks"].push_back({{"name", c.name()}, {"ok", c.ok()}, {"facts", c.facts()}});
    }
  }
  json["nodes"] = NodesJson(plan);
  json["plans"] = Json::array();
  for (const RankPlan& rank_plan : plan.rank_plans) {
    if (static_cast<int64_t>(json["plans"].size()) >= limits.groups) {
      json["plans"].push_back(LanesJson(rank_plan));
      continue;
    }
    std::vector<Span> spans;
    for (const Span& s : in.predicted->spans) {
      if (!rank_plan.ranks.empty() && s.rank == rank_plan.ranks[0]) spans.push_back(s);
    }
    json["plans"].push_back(PlanJsonOf(plan, rank_plan, spans, limits, &notes));
  }
  if (static_cast<int64_t>(plan.rank_plans.size()) > limits.groups) {
    notes.push_back(absl::StrCat("Memory and reasons are shown for ", limits.groups, " of ",
                                 plan.rank_plans.size(), " different rank plans."));
  }
  json["predicted"] = PredictedJson(plan, *in.predicted, limits, &notes);
  std::vector<int> rank, node;
  for (const CriticalNode& c : in.predicted->critical_path) {
    rank.push_back(c.rank);
    node.push_back(c.node);
  }
  json["critical"] = {{"rank", rank}, {"node", node}};
  if (in.measured != nullptr) {
    const Trace* trace = in.measured->trace;
    if (trace != nullptr && !trace->steps.empty() && !trace->spans.empty()) {
      json["measured"] = MeasuredJson(plan, *trace, limits, &notes);
    }
    json["metrics"] = MetricsJson(in.measured->metrics, limits, &notes);
  }
  json["config"] = in.pipeline != nullptr ? ConfigJson(*in.pipeline) : Json::array();
  json["notes"] = notes;
  return json;
}

}  // namespace millrace
