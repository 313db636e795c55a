// Where devices have streams, the runtime keeps fewer orders than the plan states (graph/plan/stream_edges.h). The same
// proof as for the plan's own edges, on those: no two conflicting accesses are unordered, no cycle.
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "graph/plan/stream_edges.h"
#include "graph/verify/check.h"

namespace millrace {
namespace verify_internal {

void CheckStreams(const Context& context, Report* report) {
  if (!context.plan->separate_memory) {
    report->set_facts("one memory, one compute thread: the plan's edges are what is run");
    return;
  }
  int64_t kept = 0, stated = 0;
  for (const RankView& view : context.ranks) {
    absl::StatusOr<std::vector<Edge>> edges = StreamEdges(*context.plan, *view.plan);
    if (!edges.ok()) {
      report->Add(view.rank, "", std::string(edges.status().message()));
      continue;
    }
    Context relaxed;
    relaxed.plan = context.plan;
    RankView own;
    own.plan = view.plan;
    own.rank = view.rank;
    own.lane = view.lane;
    own.position = view.position;
    own.before = std::make_unique<HappensBefore>(context.num_nodes(), view.plan->lanes, *edges);
    if (!own.before->acyclic()) {
      report->Add(view.rank, context.node(own.before->cycle()[0]).name,
                  "is on a cycle of the orders that streams keep");
      continue;
    }
    kept += static_cast<int64_t>(edges->size());
    stated += static_cast<int64_t>(view.plan->edges.size());
    relaxed.ranks.push_back(std::move(own));
    CheckRaces(relaxed, report);
  }
  if (report->ok()) {
    report->set_facts(absl::StrCat("free of races with the ", Grouped(kept),
                                   " orders that streams keep (stated: ", Grouped(stated), ")"));
  }
}

}  // namespace verify_internal
}  // namespace millrace
