// Measured costs of nodes, in place of the analytic ones where they fit: a node whose op and size were
// measured costs what was measured, any other node of a measured op the analytic seconds times the op's
// factor. So a table made with one ZeRO stage predicts the others.
//
//   ASSIGN_OR_RETURN(const CostTable table, LoadCostTable("tiny.costs.textproto", findings));
//   std::vector<double> seconds = NodeSeconds(graph, machine, &table);      // cost_model.h
//   Machine measured = WithMeasured(machine, table);                        // contention, seconds_per_step
#ifndef MILLRACE_GRAPH_PLAN_COST_TABLE_H_
#define MILLRACE_GRAPH_PLAN_COST_TABLE_H_

#include <map>
#include <string>
#include <tuple>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "graph/base/findings.h"
#include "graph/ir/graph.h"
#include "graph/ir/machine.pb.h"
#include "graph/plan/costs.pb.h"

namespace millrace {

absl::StatusOr<CostTable> LoadCostTable(const std::string& path, Findings& findings);
absl::StatusOr<CostTable> ParseCostTable(absl::string_view text, const std::string& file,
                                         Findings& findings);
std::string ToText(const CostTable& table);

// What a node's cost depends on. The halves of a split collective are of the size of the whole.
NodeCost SizeOfNode(const Graph& graph, NodeId node);

// The machine with what the table measured of it.
Machine WithMeasured(const Machine& machine, const CostTable& table);

// Finds costs; `table` outlives it.
class CostLookup {
 public:
  explicit CostLookup(const CostTable& table);
  // Measured seconds of the node, or `analytic` times the op's factor.
  double Seconds(const Graph& graph, NodeId node, double analytic) const;

 private:
  using Key = std::tuple<std::string, int64_t, int64_t, int64_t, int32_t>;
  static Key KeyOf(const NodeCost& size);
  std::map<Key, double> seconds_;
  std::map<std::string, double> factor_;
};

}  // namespace millrace

#endif  // MILLRACE_GRAPH_PLAN_COST_TABLE_H_
