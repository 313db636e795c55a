// Graphs as protobuf text, both ways.
//
// A lowered graph is printed whole (ToText) and read back equal: same ids, offsets, order. A step written by
// hand may leave out what follows from the rest:
//   * a value without `buffer` gets one of its own, with the value's name and `kind`; parameters and optimizer
//     states persist; an output that its operation writes in place shares the input's bytes;
//   * a value that is written but has no `value` entry, or one without a shape, gets its type from the
//     operation's contract;
//   * a collective gets group, count and element type from its inputs; groups that the text does not size are
//     sized by the pipeline ("data").
//
//   Findings findings;
//   ASSIGN_OR_RETURN(Graph g, ParseGraph(R"pb(
//       group { name: "data" size: 2 }
//       value { name: "w" shape: [512] sharding: "sharded" kind: "parameter" init: "normal:0.02" }
//       node { name: "gather" op: "all_gather" input: "w" output: "whole" })pb", "step.textproto", {}, findings));
#ifndef MILLRACE_GRAPH_IR_TEXT_H_
#define MILLRACE_GRAPH_IR_TEXT_H_

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "graph/base/findings.h"
#include "graph/ir/graph.h"
#include "graph/ir/graph.pb.h"
#include "graph/ir/model_spec.h"
#include "graph/ir/text_reader.h"

namespace millrace {

// With the spec, slots of buckets also say their parameter's name.
GraphDef ToProto(const Graph& graph, const ModelSpec* spec = nullptr);
// One line for each group, bucket, buffer, value and node; deterministic.
std::string ToText(const Graph& graph, const ModelSpec* spec = nullptr);
std::string ToText(const GraphDef& def);

struct GraphTextOptions {
  // Sizes of groups, by the pipeline; the text must not say otherwise. "data" is 1 when nobody says.
  std::map<std::string, int> groups;
  // parallel.zero.stage: at 3, parameters must be declared as shards and gathered before use.
  int zero_stage = 0;
  // Check every node against its contract (type_check.h). Off: structure only, for graphs of made-up operations;
  // nothing is then inferred.
  bool check_types = true;
};

// All findings at once, with the place of the field that is wrong. `prefix` is the path of the graph in the text
// that `locations` describe: "" or "graph".
absl::StatusOr<Graph> GraphFromProto(const GraphDef& def, const TextLocations& locations,
                                     const std::string& prefix, const GraphTextOptions& options,
                                     Findings& findings);
absl::StatusOr<Graph> ParseGraph(absl::string_view text, const std::string& file,
                                 const GraphTextOptions& options, Findings& findings);

// The parameters of a hand-written step, in the order of the text: values of kind "parameter" with their `init`
// (default zeros). The shape is what a rank holds; rank r of a sharded one holds elements [r, r + 1) x numel of
// the flat whole.
std::vector<ParamSpec> HandWrittenParameters(const GraphDef& def);
// "zeros", "ones", "constant:3", "normal:0.02", "truncated_normal:0.02", "uniform:0.1".
std::optional<InitSpec> ParseInit(absl::string_view text);

// The inverse of Name(), for texts.
std::optional<Tier> ParseTier(absl::string_view name);
std::optional<BufferKind> ParseBufferKind(absl::string_view name);
std::optional<Sharding> ParseSharding(absl::string_view name);
std::optional<CollectiveOp> ParseCollectiveOp(absl::string_view name);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_IR_TEXT_H_
