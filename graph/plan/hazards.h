// What must precede what before any lane is ordered: values, control edges, halves of asynchronous
// operations, and - the hazards - accesses to the same bytes of one buffer, of which one writes.
//
//   x = forward(p)        reads param/bucket_0
//   p' = adamw(p, g)      writes the same bytes      hazard: forward -> adamw
//
// Pairs are ordered as in the graph's text. An asynchronous operation touches its inputs and outputs from its
// start to its done: a hazard leaves at done and arrives at start. A value at an own shard counts as all shards.
#ifndef MILLRACE_GRAPH_PLAN_HAZARDS_H_
#define MILLRACE_GRAPH_PLAN_HAZARDS_H_

#include <vector>

#include "absl/status/statusor.h"
#include "graph/plan/plan.h"

namespace millrace {

// All such edges, each (from, to, kind) once. Fails when a node reads bytes that were overwritten before it in
// the text, naming node, value and writer.
absl::StatusOr<std::vector<Edge>> Dependencies(const Graph& graph);

// One touch of a buffer by an operation, from the begin of one node to the end of another.
struct Access {
  NodeId begin = -1;
  NodeId end = -1;
  ValueId value = -1;
  bool write = false;
};

// Per buffer, in the order of the text.
std::vector<std::vector<Access>> AccessesByBuffer(const Graph& graph);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_PLAN_HAZARDS_H_
