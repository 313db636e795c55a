// Field names are a promise to scripts: add, never rename. Times are nanoseconds, sums over the trace's steps unless
// the name says otherwise.
#include "tools/analyze/analysis.h"

namespace millrace {
namespace {

using Json = nlohmann::ordered_json;

Json RankJson(const RankTime& r, int64_t steps_ns) {
  return {
      {"rank", r.rank},
      {"total_ns", steps_ns},
      {"compute_ns", r.compute_ns},
      {"communication_ns", r.communication_ns},
      {"exposed_communication_ns", r.exposed_ns},
      {"copy_ns", r.copy_ns},
      {"exposed_copy_ns", r.exposed_copy_ns},
      {"idle_ns", r.idle_ns},
      {"overlap", r.communication_ns > 0 ? static_cast<double>(r.communication_ns - r.exposed_ns) /
                                               static_cast<double>(r.communication_ns)
                                         : 0.0}};
}

Json LaneJson(const LaneTime& l) {
  return {{"rank", l.rank},
          {"lane", l.name},
          {"busy_ns", l.busy_ns},
          {"wait_data_ns", l.wait_data_ns},
          {"wait_lane_ns", l.wait_lane_ns},
          {"wait_credit_ns", l.wait_credit_ns},
          {"wake_up_ns", l.wake_up_ns},
          {"rest_ns", l.rest_ns},
          {"queued_ns", l.queued_ns}};
}

Json NodeJson(const NodeTime& n) {
  Json json = {{"node", n.name},
               {"op", n.op},
               {"class", ClassName(n.what)},
               {"stage", n.stage},
               {"count", n.count},
               {"total_ns", n.total_ns},
               {"median_ns", n.median_ns},
               {"work_median_ns", n.work_median_ns},
               {"exposed_ns", n.exposed_ns}};
  json["predicted_ns"] = n.predicted_ns >= 0 ? Json(n.predicted_ns) : Json(nullptr);
  return json;
}

}  // namespace

std::string ClassName(SpanClass what) {
  switch (what) {
    case SpanClass::kCompute:
      return "compute";
    case SpanClass::kCommunication:
      return "communication";
    case SpanClass::kCopy:
      return "copy";
    case SpanClass::kIssue:
      return "issue";
    case SpanClass::kHost:
      return "host";
  }
  return "";
}

Json AnalysisJson(const Analysis& a) {
  Json json = {{"title", a.title},
               {"predicted", a.predicted},
               {"plan_hash", a.plan_hash},
               {"machine", a.machine},
               {"world_size", a.world_size},
               {"dropped_spans", a.dropped},
               {"step_median_ns", a.step_median_ns},
               {"communication_share", a.CommunicationShare()},
               {"exposed_share", a.ExposedShare()},
               {"overlap", a.Overlap()}};
  Json& ranks = json["ranks"] = Json::array();
  for (const RankTime& r : a.breakdown.ranks) ranks.push_back(RankJson(r, a.breakdown.steps_ns));
  Json& lanes = json["lanes"] = Json::array();
  for (const LaneTime& l : a.breakdown.lanes) lanes.push_back(LaneJson(l));
  Json& steps = json["steps"] = Json::array();
  for (size_t i = 0; i < a.steps.size(); ++i) {
    const StepLate& late = a.late_by_step[i];
    Json step = {{"step", a.steps[i].step},
                 {"ns", a.steps[i].ns},
                 {"slowest_rank", late.slowest_rank},
                 {"slowest_compute_ns", late.slowest_ns},
                 {"mean_compute_ns", late.mean_compute_ns},
                 {"last_rank", late.last_rank},
                 {"times_last", late.times_last},
                 {"ranks", Json::array()}};
    for (const RankTime& r : a.steps[i].ranks) step["ranks"].push_back(RankJson(r, a.steps[i].ns));
    steps.push_back(std::move(step));
  }
  Json& nodes = json["nodes"] = Json::array();
  for (const NodeTime& n : a.nodes) nodes.push_back(NodeJson(n));
  Json& late = json["stragglers"] = Json::array();
  for (const RankLate& r : a.late_by_rank) {
    late.push_back({{"rank", r.rank},
                    {"times_last", r.times_last},
                    {"waited_ns", r.waited_ns},
                    {"caused_ns", r.caused_ns}});
  }
  json["critical_path"] = {{"step", a.path_step}, {"parts", Json::array()}};
  for (const PathNode& p : a.path) {
    json["critical_path"]["parts"].push_back(
        {{"node", p.node},
         {"rank", p.part.rank},
         {"class", p.part.waiting ? "wait" : ClassName(p.what)},
         {"ns", p.part.end_ns - p.part.begin_ns}});
  }
  Json& stages = json["stages"] = Json::array();
  for (const StageUse& s : a.stages) {
    stages.push_back({{"stage", s.stage},
                      {"name", s.name},
                      {"flops_per_rank_and_step", s.flops},
                      {"ns_per_rank_and_step", s.ns},
                      {"mfu", s.share_of_peak}});
  }
  json["peak_flops_per_second"] = a.peak_flops_per_second;
  json["mfu"] = a.share_of_peak;
  json["predicted_step_ns"] = a.predicted_step_ns >= 0 ? Json(a.predicted_step_ns) : Json(nullptr);
  return json;
}

}  // namespace millrace
