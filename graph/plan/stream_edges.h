// The order that a plan needs on a device with streams. A compute thread goes through the issue lane one node after
// another, so all plans order its neighbours; a device does not need that: an update on the host that is issued between
// two layers has to wait for its gradient, not for the layer before it, and the layer behind it not for its start.
//
//   issue lane                 forward/7 -> adamw.start (host) -> forward/8
//   edges of the plan          forward/7 -> adamw.start -> forward/8              (lane)
//   edges for streams          forward/7 -> forward/8                             (lane)
//                              copy_to_host.done -> adamw.start                   (data)
//
// What is kept: values, halves, control, hazards within a buffer; the order of each engine (neighbours that compute;
// neighbours of the done lanes; starts of one engine; what the issuing thread itself does). What is added: where
// buffers share memory, whoever touches the later one follows whoever touched the earlier - orders that the plan has
// by its issue lane. The verifier proves the result free of races like the plan's own edges (check "streams").
#ifndef MILLRACE_GRAPH_PLAN_STREAM_EDGES_H_
#define MILLRACE_GRAPH_PLAN_STREAM_EDGES_H_

#include <vector>

#include "absl/status/statusor.h"
#include "graph/plan/plan.h"

namespace millrace {

// Each (from, to) once or more. Errors: those of Dependencies (hazards.h).
absl::StatusOr<std::vector<Edge>> StreamEdges(const Plan& plan, const RankPlan& rank);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_PLAN_STREAM_EDGES_H_
