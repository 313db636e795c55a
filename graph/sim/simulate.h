// Predicts a step: runs the plan's nodes on a clock, by exactly the rules by which the runtime runs
// them (plan.h), for all ranks. What comes out is a trace of the same format as a measured one, the
// step's length, why it is that long (critical path, waits per lane) and what no order could beat.
//
//   SimOptions options;
//   options.slowdown[3] = 1.2;                                   // what if rank 3 were slower?
//   ASSIGN_OR_RETURN(SimResult result, Simulate(plan, machine, options));
//   printf("%g s, bound %g s\n", result.step_seconds, result.lower_bound_seconds);
//   std::string json = ChromeTraceJson({&ToTrace(result, plan)});
//
// Durations are the plan's (RankPlan::seconds: cost_model.h, or measured ones), stretched where lanes
// contend (Machine.contention). A collective of which the plan says nothing takes the ring formula
// over the machine's links. Ranks of one plan and one speed are simulated once and reported for
// each; that is exact, since they cannot behave differently.
//
// About 0.2 us per node and simulated rank: a step of 1000 nodes on 8 equal ranks takes well under
// a millisecond, so a planner may call it for every change it tries.
#ifndef MILLRACE_GRAPH_SIM_SIMULATE_H_
#define MILLRACE_GRAPH_SIM_SIMULATE_H_

#include <array>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "graph/ir/machine.pb.h"
#include "graph/plan/plan.h"
#include "graph/trace/trace.h"

namespace millrace {

struct SimOptions {
  // Other seconds per node than the plan's, as NodeSeconds gives them for another machine. Entries below
  // 0 and nodes beyond the end take the plan's.
  std::vector<double> seconds;
  // Factor of a rank's compute durations; absent = 1.
  std::map<int, double> slowdown;
  // Simulates every rank on its own even where folding is exact: for tests.
  bool expand = false;
  // false leaves out `spans` and the critical path: for planners that ask only for seconds.
  bool details = true;
};

struct CriticalNode {
  NodeId node = -1;
  int rank = 0;
  int lane = 0;  // index into the rank's lanes
  double seconds = 0;
};

// How a lane spent the step; busy + waits + after_last = step_seconds.
struct LaneUse {
  int rank = 0;
  int lane = 0;
  double busy = 0;
  double wait_data = 0;    // for a value, or in a collective for other ranks
  double wait_lane = 0;    // for a value whose producer stood in another lane's queue
  double wait_credit = 0;  // for a counted resource
  double after_last = 0;   // nothing left to do
};

struct SimResult {
  double step_seconds = 0;
  double lower_bound_seconds = 0;
  std::vector<CriticalNode> critical_path;  // in time order; the seconds add up to step_seconds
  std::vector<LaneUse> lanes;               // by rank, then lane
  double exposed_comm_seconds =
      0;  // communication while the rank computes nothing; the worst rank's
  double hidden_comm_seconds = 0;            // communication under compute, of the same rank
  std::array<int64_t, kTiers> peak_bytes{};  // maximum over ranks
  int64_t events = 0;
  double seconds_to_simulate = 0;
  std::vector<Span> spans;  // of every rank, by rank, then as they ended
};

// kInvalidArgument for a plan that cannot be read, kFailedPrecondition - with who waits for whom -
// for one that cannot finish.
absl::StatusOr<SimResult> Simulate(const Plan& plan, const Machine& machine,
                                   const SimOptions& options = {});

// `plan` must outlive the trace.
Trace ToTrace(const SimResult& result, const Plan& plan);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_SIM_SIMULATE_H_
