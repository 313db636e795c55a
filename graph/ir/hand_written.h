// The second half of reading a graph's text (graph_from_proto.cc is the first): fills in what a hand-written step
// leaves out, and checks the result.
#ifndef MILLRACE_GRAPH_IR_HAND_WRITTEN_H_
#define MILLRACE_GRAPH_IR_HAND_WRITTEN_H_

#include <vector>

#include "absl/status/statusor.h"
#include "graph/ir/text.h"

namespace millrace {

// What the text said of a value, beside the value.
struct DraftValue {
  BufferKind kind = BufferKind::kActivation;
  bool declared = false;    // has an entry of its own, without a buffer
  bool has_buffer = false;  // names its buffer
  bool has_shape = false;
  bool has_dtype = false;
  bool has_sharding = false;
  bool has_kind = false;
  bool used = false;  // some node reads or writes it
};

struct DraftNode {
  bool has_count = false;
  bool has_dtype = false;
  bool has_cost = false;
  bool broken = false;  // a finding says already that an input is unknown
};

struct DraftGraph {
  explicit DraftGraph(const std::string& name) : builder(name) {}
  GraphBuilder builder;
  std::vector<DraftValue> values;  // as many as the builder has values
  std::vector<DraftNode> nodes;
};

absl::StatusOr<Graph> FinishGraph(DraftGraph draft, const GraphTextOptions& options,
                                  Findings& findings);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_IR_HAND_WRITTEN_H_
