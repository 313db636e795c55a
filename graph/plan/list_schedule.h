// The order of every lane: forward list scheduling on the issue lane, by upward rank (a node's seconds plus the
// longest chain behind it), while the comm lanes are simulated beside it, so that "ready" means ready at that
// moment. A ladder of rules decides between ready nodes; the rule that decided is kept as the node's reason.
//
//   shortens the step           the search of order_search.h wants it first
//   starts a collective early   a start half that is ready goes first: it costs little and hides much
//   collective before compute   a collective that is not split, when something waits for it
//   feeds a collective          (ladder kFeedFirst) a node that a collective waits for, the quickest first: an
//                               update whose gather then runs beside the rest of the backward pass
//   frees memory                above half of the budget: what lessens live bytes most
//   critical path               the longer chain behind it
//   program order               the graph's text
//
// Nothing is ready: "waits for <node>", the one whose result comes first. No ladder is best everywhere (early
// updates hide their gathers, late ones hide the last reduction), so the planner tries all and keeps the best.
#ifndef MILLRACE_GRAPH_PLAN_LIST_SCHEDULE_H_
#define MILLRACE_GRAPH_PLAN_LIST_SCHEDULE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "graph/plan/lanes.h"
#include "graph/plan/plan.h"

namespace millrace {

enum class Ladder : uint8_t {
  kCriticalPath,
  kFeedFirst,     // as kCriticalPath, with "feeds a collective" above it
  kProgramOrder,  // the text's order among ready nodes
};
absl::string_view Name(Ladder ladder);

// What a search says of a node beside the ladder's rules.
enum class Nudge : uint8_t {
  kNone,
  kHurry,  // before all others, when it is ready
  kYield,  // a collective: among the other nodes, by its chain, instead of first
};

struct ScheduleOptions {
  Ladder ladder = Ladder::kCriticalPath;
  std::vector<Nudge> nudges = {};  // per node; empty: none
  int64_t budget_bytes = 0;        // of the device tier; 0: no memory rule
};

struct Schedule {
  std::vector<Lane> lanes;
  std::vector<double> start_time;   // per node
  std::vector<std::string> reason;  // per node
  std::vector<Edge>
      edges;  // `dependencies`, lane neighbours, and what keeps a group's collectives apart
  double makespan = 0;
};

// Fails when the dependencies close a cycle.
absl::StatusOr<Schedule> ListSchedule(const Graph& graph, const LaneTable& table,
                                      const std::vector<Edge>& dependencies,
                                      const std::vector<double>& seconds,
                                      const ScheduleOptions& options);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_PLAN_LIST_SCHEDULE_H_
