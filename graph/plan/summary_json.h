// The summary for scripts: the object that `millrace plan --json` prints. Field names are an
// interface (users' dashboards read them): fields may be added, never renamed. Bytes and counts are
// integers, times seconds.
//
//   plan_hash world_size nodes lanes peak_bytes{tier} per_rank[{rank,peak_bytes}]
//   live_bytes_bound{tier} at_peak[{tier,what,bytes}]
//   collectives[{op,group,count_per_step,bytes_per_step}] comm_elements_per_rank parameters
//   flops_per_step batch{micro,accumulation,global} seconds_to_plan
#ifndef MILLRACE_GRAPH_PLAN_SUMMARY_JSON_H_
#define MILLRACE_GRAPH_PLAN_SUMMARY_JSON_H_

#include <nlohmann/json.hpp>

#include "graph/plan/summary.h"

namespace millrace {

nlohmann::ordered_json ToJson(const PlanSummary& summary);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_PLAN_SUMMARY_JSON_H_
