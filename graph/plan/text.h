// A plan that can be read before it is run: what runs when on which lane and why, where every
// buffer lies, who waits for whom. The text is protobuf text (plan.proto) with one line for each
// node, buffer and edge, so that it can be read from top to bottom, searched, compared with diff,
// and parsed:
//
//   lane {
//     name: "compute" kind: "compute"
//     run { start: 0.000000000 seconds: 0.000125000 node: "load_batch/0" reason: "first" }
//     run { start: 0.000125000 seconds: 0.002500000 node: "forward/a/0"  reason: "longest path" }
//   }
#ifndef MILLRACE_GRAPH_PLAN_TEXT_H_
#define MILLRACE_GRAPH_PLAN_TEXT_H_

#include <string>

#include "absl/status/statusor.h"
#include "graph/plan/plan.h"
#include "graph/plan/plan.pb.h"

namespace millrace {

// A node or buffer that the graph does not have gets its number for a name: "?17".
PlanDef ToProto(const Plan& plan);

// Times are rounded to nanoseconds here, and only here.
std::string PlanText(const Plan& plan);

// One JSON object with the fields of PlanDef by their names; numbers are numbers, infinities null.
// kInvalidArgument when the plan names nodes that its graph does not have: scripts read this.
absl::StatusOr<std::string> PlanJson(const Plan& plan);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_PLAN_TEXT_H_
