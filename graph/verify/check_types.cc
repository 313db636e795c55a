// Shapes, dtypes and shardings meet at every node, by the contracts of the operations; and its values are in memory that
// its engine reaches.
#include "absl/strings/str_cat.h"
#include "graph/ir/type_check.h"
#include "graph/verify/check.h"

namespace millrace {
namespace verify_internal {

namespace {

// Only copies cross from one tier to another, and only they touch storage: another operation's engine reaches one
// kind of memory. What is
// passed along with the work itself, a few numbers each (norms, coefficients), may be anywhere.
void CheckTiers(const Graph& graph, NodeId id, Report* report) {
  const Node& node = graph.nodes()[id];
  if (node.op == "copy" || node.async == AsyncRole::kDone) return;
  const bool paired = node.partner >= 0 && node.partner < static_cast<NodeId>(graph.nodes().size());
  const std::vector<ValueId>& outputs = paired && node.async == AsyncRole::kStart
                                            ? graph.nodes()[node.partner].outputs
                                            : node.outputs;
  ValueId on_device = -1, on_host = -1;
  for (const auto* values : {&node.inputs, &outputs}) {
    for (ValueId v : *values) {
      const Value& value = graph.values()[v];
      const Buffer& buffer = graph.buffers()[value.buffer];
      if (buffer.kind == BufferKind::kMetric) continue;
      const Tier tier = buffer.tier;
      if (tier == Tier::kStorage) {
        report->Add(-1, node.name, absl::StrCat("works on ", value.name, ", which is on storage"),
                    "copy it to memory first");
      } else if (tier == Tier::kDevice) {
        on_device = v;
      } else {
        on_host = v;
      }
    }
  }
  if (on_device < 0 || on_host < 0) return;
  report->Add(-1, node.name,
              absl::StrCat("works on ", graph.values()[on_device].name, " in device memory and on ",
                           graph.values()[on_host].name, " in host memory"),
              "copy one of them to the other's tier first");
}

}  // namespace

void CheckTypeRules(const Context& context, Report* report) {
  const Findings findings = CheckTypes(context.graph());
  for (const Finding& f : findings.list()) report->Add(f.rank, f.node, f.message, f.suggestion);
  for (NodeId n = 0; n < context.num_nodes(); ++n) CheckTiers(context.graph(), n, report);
  report->set_facts(absl::StrCat(Grouped(context.num_nodes()), " nodes over ",
                                 Grouped(static_cast<int64_t>(context.graph().values().size())),
                                 " values agree in shape, dtype and sharding"));
}

}  // namespace verify_internal
}  // namespace millrace
