// One step of the lowering: a graph in, a graph out. Passes know nothing of each other beyond the names and
// operations that their headers show; between any two the driver (lower.h) checks structure and types.
#ifndef MILLRACE_GRAPH_LOWER_PASS_H_
#define MILLRACE_GRAPH_LOWER_PASS_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "graph/ir/graph.h"
#include "graph/ir/model_spec.h"
#include "graph/lower/options.h"

namespace millrace {

// What every pass may read.
struct LowerContext {
  const ModelSpec& spec;
  const LowerOptions& options;
};

// Whether the node runs a stage of the model.
inline bool RunsStage(const Node& node) {
  return node.op == "forward" || node.op == "backward" || node.op == "recompute";
}

class Pass {
 public:
  virtual ~Pass() = default;
  virtual absl::string_view name() const = 0;  // "shard_state", as in error messages and dumps
  virtual absl::StatusOr<Graph> Run(const Graph& graph, const LowerContext& context) const = 0;
};

}  // namespace millrace

#endif  // MILLRACE_GRAPH_LOWER_PASS_H_
