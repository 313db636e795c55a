// Checks every node against its operation's contract: number of inputs and outputs, attributes,
// element types, shapes, shardings. Runs between passes and as the verifier's check (a); all
// findings are given at once.
//
//   Findings findings = CheckTypes(graph);
//   if (!findings.ok()) return findings.ToStatus();
//
// Beyond what each contract infers, two rules hold for all operations:
//   * a shard of a parameter is read by collectives and by the operation that updates it in place,
//   and by
//     nothing else ("needs an all_gather");
//   * what no node writes must persist from the step before, or be an input.
// The two halves of an asynchronous operation are checked as the one operation they came from.
#ifndef MILLRACE_GRAPH_IR_TYPE_CHECK_H_
#define MILLRACE_GRAPH_IR_TYPE_CHECK_H_

#include <vector>

#include "graph/base/findings.h"
#include "graph/ir/graph.h"

namespace millrace {

// For graphs of which a part is known to be wrong, so that one mistake is one finding. Empty: none.
struct TypeCheckSkips {
  std::vector<bool> broken_nodes;    // an input is missing
  std::vector<bool> unknown_values;  // the type could not be found out
};

Findings CheckTypes(const Graph& graph, const TypeCheckSkips& skips = {});

// The parts, for the loader of hand-written graphs, which fills in declarations as it goes. `node`
// is a whole operation or the start half, `outputs` are its outputs (those of the done half). The
// graph may be one whose tables are missing (GraphBuilder::peek), but its ids must be good.
//
// Operation, port counts and attributes. False when the operation is unknown or the counts do not
// fit.
bool CheckPorts(const Graph& graph, const Node& node, const std::vector<ValueId>& outputs,
                Findings& findings);

// What the contract says of the outputs: `declared` with everything filled in that the contract
// knows. Returns false and adds a finding when the inputs do not fit. CheckPorts must have returned
// true.
bool InferOutputs(const Graph& graph, const Node& node, std::vector<Value>& declared,
                  Findings& findings);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_IR_TYPE_CHECK_H_
