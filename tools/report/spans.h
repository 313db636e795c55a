// What a step's spans say beyond their times: which predecessor each one waited for, how much later it could end,
// and where communication runs while nothing computes. All functions take the spans of one rank and one step.
//
//   std::vector<Cause> causes = Causes(rank_plan, spans);      // causes[i].node ended last before spans[i]
//   std::vector<int64_t> slack = Slack(graph, rank_plan, spans, step_end_ns);
//   for (const auto& [begin, end] : Exposed(graph, rank_plan, spans)) ...
#ifndef MILLRACE_TOOLS_REPORT_SPANS_H_
#define MILLRACE_TOOLS_REPORT_SPANS_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "graph/plan/plan.h"
#include "graph/trace/trace.h"

namespace millrace {

// The predecessor that ended last; node -1: there is none.
struct Cause {
  NodeId node = -1;
  EdgeKind kind = EdgeKind::kData;
};
std::vector<Cause> Causes(const RankPlan& rank_plan, const std::vector<Span>& spans);

// Nanoseconds by which each span may end later while the step still ends at `end_ns`, in this order of the lanes.
// Other ranks are not looked at, so it holds where all ranks do the same at the same time.
std::vector<int64_t> Slack(const Graph& graph, const RankPlan& rank_plan,
                           const std::vector<Span>& spans, int64_t end_ns);

// Time in which a communication lane is busy, or the compute lane is in a collective, and nothing computes; by
// the rules of graph/trace/breakdown.h, whose exposed_ns is their sum. Sorted, without overlaps.
std::vector<std::pair<int64_t, int64_t>> Exposed(const Graph& graph, const RankPlan& rank_plan,
                                                 const std::vector<Span>& spans);

}  // namespace millrace

#endif  // MILLRACE_TOOLS_REPORT_SPANS_H_
