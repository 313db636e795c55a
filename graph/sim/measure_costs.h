// What a measured trace says of costs: the table that makes predictions of this machine exact
// (plan/cost_table.h), and how much lanes disturb each other.
//
//   CostTable table = MeasureCosts(trace_without_overlap, machine);
//   table.set_seconds_per_step(RestOfStep(trace_without_overlap));
//   AddContention(trace_with_overlap, &table);
//
// Durations come from a run without overlap, where nothing runs beside a node on its rank. A collective's is
// taken from the rank that came last, since the others waited for it.
#ifndef MILLRACE_GRAPH_SIM_MEASURE_COSTS_H_
#define MILLRACE_GRAPH_SIM_MEASURE_COSTS_H_

#include "graph/ir/machine.pb.h"
#include "graph/plan/costs.pb.h"
#include "graph/trace/trace.h"

namespace millrace {

// Median seconds per size of node, and measured / analytic per op. Of all steps in the trace.
CostTable MeasureCosts(const Trace& trace, const Machine& machine);

// What a step costs beside its nodes, in seconds: the time in which a compute thread had all it needed and had not
// begun (mean of the ranks), and what was left of the step when the last one had run its last node. Ranks that wait
// for each other are no part of it: that depends on the step. Median of the steps.
double RestOfStep(const Trace& trace);

// From a trace with overlap: computation beside communication, copies, the host's updates and storage, each with the
// reverse. While both are at work, a second
// of one gets 1/factor of a second done: so a factor is T / (T - S), T being the time of both and S by how much
// the nodes concerned took longer than the table says. Adds nothing where there was no overlap.
void AddContention(const Trace& trace, CostTable* table);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_SIM_MEASURE_COSTS_H_
