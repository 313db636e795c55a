// One line for each field, in the order in which the interface names them.
#include "graph/plan/summary_json.h"

#include <string>

namespace millrace {
namespace {

using Json = nlohmann::ordered_json;

Json ByTier(const std::array<int64_t, kTiers>& bytes) {
  Json object = Json::object();
  for (int t = 0; t < kTiers; ++t) object[std::string(Name(static_cast<Tier>(t)))] = bytes[t];
  return object;
}

}  // namespace

Json ToJson(const PlanSummary& s) {
  Json json;
  json["name"] = s.name;
  json["machine"] = s.machine;
  json["plan_hash"] = s.plan_hash;
  json["world_size"] = s.world_size;
  json["nodes"] = s.nodes;
  json["lanes"] = s.lanes;
  json["lane_names"] = s.lane_names;
  json["peak_bytes"] = ByTier(s.peak_bytes);
  Json& per_rank = json["per_rank"] = Json::array();
  for (const PlanSummary::Rank& r : s.per_rank) {
    per_rank.push_back({{"rank", r.rank}, {"peak_bytes", ByTier(r.peak_bytes)}});
  }
  json["live_bytes_bound"] = ByTier(s.live_bytes_bound);
  json["budget_bytes"] = ByTier(s.budget_bytes);
  Json& persistent = json["persistent_bytes"] = Json::object();
  for (int k = 0; k < kBufferKinds; ++k) {
    if (s.persistent_bytes[k] == 0) continue;
    persistent[std::string(Name(static_cast<BufferKind>(k)))] = s.persistent_bytes[k];
  }
  Json& at_peak = json["at_peak"] = Json::array();
  for (const PeakEntry& e : s.at_peak) {
    at_peak.push_back({{"tier", std::string(Name(e.tier))}, {"what", e.what}, {"bytes", e.bytes}});
  }
  Json& collectives = json["collectives"] = Json::array();
  for (const PlanSummary::Collective& c : s.collectives) {
    collectives.push_back({{"op", std::string(Name(c.op))},
                           {"group", c.group},
                           {"group_size", c.group_size},
                           {"count_per_step", c.count_per_step},
                           {"elements_per_step", c.elements_per_step},
                           {"bytes_per_step", c.bytes_per_step}});
  }
  json["comm_elements_per_rank"] = s.comm_elements_per_rank;
  json["parameters"] = s.parameters;
  json["flops_per_step"] = s.flops_per_step;
  json["batch"] = {
      {"micro", s.batch.micro}, {"accumulation", s.batch.accumulation}, {"global", s.batch.global}};
  json["planned_step_seconds"] = s.planned_step_seconds;
  json["seconds_to_plan"] = s.seconds_to_plan;
  return json;
}

}  // namespace millrace
