#include "graph/trace/chrome_reader.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "graph/base/status.h"
#include "graph/trace/chrome.h"

namespace millrace {
namespace {

using nlohmann::json;

constexpr int64_t kMostNodes = 10'000'000;  // an id above is a damaged file, not a plan

// "line 3, column 14" of a byte.
std::string Place(const std::string& text, size_t byte) {
  byte = std::min(byte, text.size());
  const size_t before = byte == 0 ? std::string::npos : text.rfind('\n', byte - 1);
  const auto line = 1 + std::count(text.begin(), text.begin() + static_cast<ptrdiff_t>(byte), '\n');
  return absl::StrCat("line ", line, ", column ",
                      before == std::string::npos ? byte + 1 : byte - before);
}

int64_t Nanoseconds(double microseconds) {
  return static_cast<int64_t>(std::llround(microseconds * 1e3));
}

// One object of the file with a name for it, so that every complaint says where it is about.
class Fields {
 public:
  Fields(const json& object, std::string where) : object_(object), where_(std::move(where)) {}

  bool Has(const char* key) const { return object_.contains(key); }

  absl::StatusOr<const json*> Get(const char* key, bool (json::*is)() const noexcept,
                                  const char* expected) const {
    const auto at = object_.find(key);
    if (at == object_.end()) return Error(absl::StrCat("has no '", key, "', expected ", expected));
    if (!((*at).*is)()) {
      return Error(
          absl::StrCat("'", key, "' is ", at->dump().substr(0, 60), ", expected ", expected));
    }
    return &*at;
  }
  absl::StatusOr<std::string> Text(const char* key) const {
    ASSIGN_OR_RETURN(const json* j, Get(key, &json::is_string, "a string"));
    return j->get<std::string>();
  }
  absl::StatusOr<int64_t> Integer(const char* key, int64_t least, int64_t most) const {
    ASSIGN_OR_RETURN(const json* j, Get(key, &json::is_number_integer, "an integer"));
    const int64_t value = j->get<int64_t>();
    if (value < least || value > most) {
      return Error(absl::StrCat("'", key, "' is ", value, ", expected ", least, " to ", most));
    }
    return value;
  }
  absl::StatusOr<double> Number(const char* key) const {
    ASSIGN_OR_RETURN(const json* j, Get(key, &json::is_number, "a number"));
    return j->get<double>();
  }
  absl::Status Error(const std::string& what) const {
    return absl::InvalidArgumentError(absl::StrCat(where_, ": ", what));
  }

 private:
  const json& object_;
  const std::string where_;
};

// One trace under construction.
class Draft {
 public:
  absl::Status ReadHeader(const json& header, const std::string& where) {
    const Fields f(header, where);
    ASSIGN_OR_RETURN(trace_.title, f.Text("title"));
    ASSIGN_OR_RETURN(plan_.name, f.Text("plan"));
    ASSIGN_OR_RETURN(plan_.hash, f.Text("plan_hash"));
    ASSIGN_OR_RETURN(plan_.machine, f.Text("machine"));
    ASSIGN_OR_RETURN(const int64_t world, f.Integer("world_size", 1, 1 << 24));
    plan_.world_size = static_cast<int>(world);
    ASSIGN_OR_RETURN(origin_, f.Integer("origin_ns", INT64_MIN, INT64_MAX));
    ASSIGN_OR_RETURN(trace_.dropped, f.Integer("dropped", 0, INT64_MAX));
    ASSIGN_OR_RETURN(trace_.peak_flops_per_second, f.Number("peak_flops_per_second"));
    ASSIGN_OR_RETURN(const json* predicted, f.Get("predicted", &json::is_boolean, "true or false"));
    trace_.predicted = predicted->get<bool>();
    ASSIGN_OR_RETURN(const json* rank_plans, f.Get("rank_plans", &json::is_array, "a list"));
    std::set<int> served;
    for (size_t p = 0; p < rank_plans->size(); ++p) {
      RETURN_IF_ERROR(
          ReadRankPlan((*rank_plans)[p], absl::StrCat(where, ", rank_plans[", p, "]"), &served));
    }
    if (static_cast<int>(served.size()) != plan_.world_size) {
      return f.Error(absl::StrCat("rank_plans serve ", served.size(), " ranks, expected all ",
                                  plan_.world_size));
    }
    return absl::OkStatus();
  }

  // A slice of one of this trace's ranks.
  absl::Status ReadSlice(const json& event, int rank, const std::string& where) {
    const Fields f(event, where);
    ASSIGN_OR_RETURN(const double ts, f.Number("ts"));
    ASSIGN_OR_RETURN(const double duration, f.Number("dur"));
    if (duration < 0) return f.Error(absl::StrCat("'dur' is ", duration, ", expected 0 or more"));
    ASSIGN_OR_RETURN(const int64_t lane, f.Integer("tid", 0, INT32_MAX));
    ASSIGN_OR_RETURN(const json* args, f.Get("args", &json::is_object, "an object"));
    const Fields a(*args, absl::StrCat(where, ", args"));
    const int64_t begin = origin_ + Nanoseconds(ts);
    if (lane == kStepsTrack) {
      ASSIGN_OR_RETURN(const int64_t step, a.Integer("step", 0, INT64_MAX));
      trace_.steps.push_back({step, begin, begin + Nanoseconds(duration)});
      return absl::OkStatus();
    }
    const size_t lanes = plan_.ForRank(rank).lanes.size();
    if (lane >= static_cast<int64_t>(lanes)) {
      return f.Error(
          absl::StrCat("'tid' is ", lane, ", rank ", rank, " has lanes 0 to ", lanes - 1));
    }
    Span span;
    span.rank = rank;
    span.lane = static_cast<int32_t>(lane);
    ASSIGN_OR_RETURN(const int64_t id, a.Integer("id", 0, kMostNodes));
    span.node = static_cast<NodeId>(id);
    span.begin_ns = begin;
    span.end_ns = begin + Nanoseconds(duration);
    span.ready_ns = begin;
    if (a.Has("ready_before_us")) {
      ASSIGN_OR_RETURN(const double before, a.Number("ready_before_us"));
      span.ready_ns -= Nanoseconds(before);
    }
    if (a.Has("credit_before_us")) {
      ASSIGN_OR_RETURN(const double before, a.Number("credit_before_us"));
      span.credit_ns = begin - Nanoseconds(before);
    }
    RETURN_IF_ERROR(ReadNode(f, a, span));
    trace_.spans.push_back(span);
    return absl::OkStatus();
  }

  absl::StatusOr<TraceFile> Finish(const std::string& file) && {
    GraphBuilder builder(plan_.name);
    for (const auto& [group, unused] : groups_) builder.SetGroup(group, plan_.world_size);
    const NodeId count = nodes_.empty() ? 0 : nodes_.rbegin()->first + 1;
    for (NodeId id = 0; id < count; ++id) {
      const auto at = nodes_.find(id);
      Seen seen;
      if (at != nodes_.end()) seen = at->second;
      if (at == nodes_.end()) seen.node.name = absl::StrCat("?", id);
      const NodeId other = seen.node.partner;
      if (seen.node.async != AsyncRole::kNone && nodes_.count(other) == 0) {
        seen.node.async = AsyncRole::kNone;  // a viewer or a cut left one half
        seen.node.partner = -1;
      }
      if (seen.bytes > 0 && !seen.node.is_collective) {
        seen.node.outputs = {builder.AddValueWithBuffer(
            {absl::StrCat("out/", id), DType::kU8, {seen.bytes}}, BufferKind::kActivation)};
      }
      builder.AddNode(std::move(seen.node));
    }
    absl::StatusOr<Graph> graph = std::move(builder).Build();
    if (!graph.ok())
      return absl::InvalidArgumentError(absl::StrCat(file, ": ", graph.status().message()));
    plan_.graph = *std::move(graph);
    for (auto& [place, order] : order_) {
      RankPlan& rank_plan = plan_.rank_plans[place.first];
      rank_plan.lanes[place.second].order = std::move(order);
    }
    std::stable_sort(trace_.steps.begin(), trace_.steps.end(),
                     [](const StepMark& a, const StepMark& b) { return a.begin_ns < b.begin_ns; });
    SortSpans();
    TraceFile out;
    out.plan = std::make_unique<Plan>(std::move(plan_));
    out.trace = std::move(trace_);
    out.trace.plan = out.plan.get();
    return out;
  }

  int world_size() const { return plan_.world_size; }

 private:
  struct Seen {
    Node node;
    int64_t bytes = 0;
  };

  absl::Status ReadRankPlan(const json& object, const std::string& where, std::set<int>* served) {
    const Fields f(object, where);
    if (!object.is_object()) return f.Error("is no object, expected {\"ranks\", \"lanes\"}");
    ASSIGN_OR_RETURN(const json* ranks, f.Get("ranks", &json::is_array, "a list of ranks"));
    ASSIGN_OR_RETURN(const json* lanes, f.Get("lanes", &json::is_array, "a list of lanes"));
    RankPlan rank_plan;
    for (const json& rank : *ranks) {
      if (!rank.is_number_integer() || rank < 0 || rank >= plan_.world_size ||
          !served->insert(rank.get<int>()).second) {
        return f.Error(absl::StrCat("'ranks' has ", rank.dump(), ", expected each of 0 to ",
                                    plan_.world_size - 1, " once"));
      }
      rank_plan.ranks.push_back(rank.get<int>());
    }
    for (const json& entry : *lanes) {
      const Fields l(entry, absl::StrCat(where, ", lanes[", rank_plan.lanes.size(), "]"));
      if (!entry.is_object()) return l.Error("is no object, expected {\"name\", \"kind\"}");
      Lane lane;
      ASSIGN_OR_RETURN(lane.name, l.Text("name"));
      ASSIGN_OR_RETURN(const std::string kind, l.Text("kind"));
      const auto* known = std::find(kLaneKindNames.begin(), kLaneKindNames.end(), kind);
      if (known == kLaneKindNames.end())
        return l.Error(absl::StrCat("'kind' is '", kind, "', expected a kind of lane"));
      lane.kind = static_cast<LaneKind>(known - kLaneKindNames.begin());
      rank_plan.lanes.push_back(std::move(lane));
    }
    plan_.rank_plans.push_back(std::move(rank_plan));
    return absl::OkStatus();
  }

  // What a slice tells of its node; the first slice of a node is believed.
  absl::Status ReadNode(const Fields& f, const Fields& a, const Span& span) {
    const auto [at, is_new] = nodes_.try_emplace(span.node);
    Remember(span);
    if (!is_new) return absl::OkStatus();
    Node& node = at->second.node;
    ASSIGN_OR_RETURN(node.op, a.Text("op"));
    ASSIGN_OR_RETURN(node.name, a.Has("node") ? a.Text("node") : f.Text("name"));
    if (a.Has("bytes")) {
      ASSIGN_OR_RETURN(at->second.bytes, a.Integer("bytes", 0, INT64_MAX));
    }
    if (a.Has("flops")) {
      ASSIGN_OR_RETURN(node.flops, a.Integer("flops", 0, INT64_MAX));
    }
    if (a.Has("stage")) {
      ASSIGN_OR_RETURN(node.attrs["stage"], a.Integer("stage", 0, INT32_MAX));
    }
    if (a.Has("async")) {
      ASSIGN_OR_RETURN(const std::string role, a.Text("async"));
      if (role != "start" && role != "done")
        return a.Error(absl::StrCat("'async' is '", role, "', expected start or done"));
      node.async = role == "start" ? AsyncRole::kStart : AsyncRole::kDone;
      ASSIGN_OR_RETURN(const int64_t partner, a.Integer("partner", 0, kMostNodes));
      node.partner = static_cast<NodeId>(partner);
    }
    if (!a.Has("group")) return absl::OkStatus();
    node.is_collective = true;
    ASSIGN_OR_RETURN(node.collective.group, a.Text("group"));
    groups_[node.collective.group] = true;
    node.collective.dtype = DType::kU8;  // a trace counts bytes
    node.collective.count = at->second.bytes;
    ASSIGN_OR_RETURN(const std::string op, a.Has("collective") ? a.Text("collective") : node.op);
    for (int c = 0; c <= static_cast<int>(CollectiveOp::kBarrier); ++c) {
      if (Name(static_cast<CollectiveOp>(c)) != op) continue;
      node.collective.op = static_cast<CollectiveOp>(c);
      return absl::OkStatus();
    }
    return a.Error(absl::StrCat("'", op, "' is no collective that is known"));
  }

  // A lane's order: the nodes as they are first seen on the plan's first rank.
  void Remember(const Span& span) {
    for (size_t p = 0; p < plan_.rank_plans.size(); ++p) {
      const RankPlan& rank_plan = plan_.rank_plans[p];
      if (rank_plan.ranks.empty() || rank_plan.ranks[0] != span.rank) continue;
      if (in_order_.insert({static_cast<int>(p), span.node}).second)
        order_[{static_cast<int>(p), span.lane}].push_back(span.node);
    }
  }

  // By step, then rank, then as they ended, as trace.h promises.
  void SortSpans() {
    const auto step_of = [&](const Span& s) {
      const auto after = std::upper_bound(
          trace_.steps.begin(), trace_.steps.end(), s.begin_ns,
          [](int64_t begin, const StepMark& mark) { return begin < mark.begin_ns; });
      return after - trace_.steps.begin();
    };
    std::stable_sort(trace_.spans.begin(), trace_.spans.end(), [&](const Span& a, const Span& b) {
      return std::make_tuple(step_of(a), a.rank, a.end_ns) <
             std::make_tuple(step_of(b), b.rank, b.end_ns);
    });
  }

  Plan plan_;
  Trace trace_;
  int64_t origin_ = 0;
  std::map<NodeId, Seen> nodes_;
  std::map<std::string, bool> groups_;
  std::map<std::pair<int, int>, std::vector<NodeId>> order_;  // by rank plan and lane
  std::set<std::pair<int, NodeId>> in_order_;
};

absl::StatusOr<std::vector<TraceFile>> Read(const json& root, const std::string& file) {
  const Fields f(root, file);
  if (!root.is_object()) return f.Error("is no JSON object, expected {\"traceEvents\": [...]}");
  ASSIGN_OR_RETURN(const json* events, f.Get("traceEvents", &json::is_array, "a list of events"));
  if (!f.Has("millrace")) {
    return f.Error(
        "is a trace of another program: it has no 'millrace', expected a trace.json of `millrace "
        "run` or a "
        "file of `millrace export --format chrome`");
  }
  ASSIGN_OR_RETURN(const json* ours, f.Get("millrace", &json::is_object, "an object"));
  const Fields m(*ours, absl::StrCat(file, ": millrace"));
  ASSIGN_OR_RETURN(const int64_t version, m.Integer("version", 1, INT64_MAX));
  if (version != 1)
    return m.Error(absl::StrCat("'version' is ", version, ", this program reads 1"));
  ASSIGN_OR_RETURN(const json* headers, m.Get("traces", &json::is_array, "a list"));
  std::vector<Draft> drafts(headers->size());
  std::vector<std::pair<size_t, int>> processes;  // pid -> trace, rank
  for (size_t i = 0; i < headers->size(); ++i) {
    const std::string where = absl::StrCat(file, ": millrace.traces[", i, "]");
    if (!(*headers)[i].is_object()) return Fields((*headers)[i], where).Error("is no object");
    RETURN_IF_ERROR(drafts[i].ReadHeader((*headers)[i], where));
    for (int r = 0; r < drafts[i].world_size(); ++r) processes.push_back({i, r});
  }
  for (size_t e = 0; e < events->size(); ++e) {
    const json& event = (*events)[e];
    const std::string where = absl::StrCat(file, ": traceEvents[", e, "]");
    const Fields fields(event, where);
    if (!event.is_object()) return fields.Error("is no object");
    const auto phase = event.find("ph");
    const auto category = event.find("cat");
    if (phase == event.end() || *phase != "X") continue;  // names, arrows, counters
    if (category != event.end() && *category == "Trace") continue;
    ASSIGN_OR_RETURN(const int64_t pid,
                     fields.Integer("pid", 0, static_cast<int64_t>(processes.size()) - 1));
    RETURN_IF_ERROR(drafts[processes[pid].first].ReadSlice(event, processes[pid].second, where));
  }
  std::vector<TraceFile> traces;
  for (Draft& draft : drafts) {
    ASSIGN_OR_RETURN(TraceFile trace, std::move(draft).Finish(file));
    traces.push_back(std::move(trace));
  }
  return traces;
}

}  // namespace

absl::StatusOr<std::vector<TraceFile>> ReadChromeTrace(const std::string& text,
                                                       const std::string& file) {
  json root;
  try {
    root = json::parse(text);
  } catch (const json::parse_error& e) {
    const bool cut = e.byte > text.size();
    return absl::InvalidArgumentError(absl::StrCat(
        file, ": ", Place(text, e.byte > 0 ? e.byte - 1 : 0), ": ",
        cut ? "the file ends in the middle, expected the rest of a JSON trace (was it cut off?)"
            : absl::StrCat("is no JSON: ", e.what())));
  }
  return Read(root, file);
}

}  // namespace millrace
