// What a measured trace says of costs: the table that makes predictions of this machine exact
// (plan/cost_table.h), and how much lanes disturb each other.
//
//   CostTable table = MeasureCosts(trace_without_overlap, machine);
//   table.set_seconds_per_step(RestOfStep(trace_without_overlap, machine, table));
//   AddContention(trace_with_overlap, &table);
//
// Durations come from a run without overlap, where nothing runs beside a node on its rank. A collective's is
// taken from the rank that came last, since the others waited for it.
#ifndef MILLRACE_GRAPH_SIM_MEASURE_COSTS_H_
#define MILLRACE_GRAPH_SIM_MEASURE_COSTS_H_

#include "absl/status/statusor.h"
#include "graph/ir/machine.pb.h"
#include "graph/plan/costs.pb.h"
#include "graph/trace/trace.h"

namespace millrace {

// Median seconds per size of node, and measured / analytic per op. Of all steps in the trace.
CostTable MeasureCosts(const Trace& trace, const Machine& machine);

// Median measured step less the step that the table predicts for this plan: what no node explains - waking
// the threads, ranks waiting for each other. At least 0.
absl::StatusOr<double> RestOfStep(const Trace& trace, const Machine& machine,
                                  const CostTable& table);

// From a trace with overlap: computation under communication and the reverse. While both are at work, a second
// of one gets 1/factor of a second done: so a factor is T / (T - S), T being the time of both and S by how much
// the nodes concerned took longer than the table says. Adds nothing where there was no overlap.
void AddContention(const Trace& trace, CostTable* table);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_SIM_MEASURE_COSTS_H_
