#include "graph/lower/listing.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace millrace {

std::string Listing(const Graph& graph) {
  auto value_name = [&](std::string* out, ValueId v) { out->append(graph.values()[v].name); };
  auto node_name = [&](std::string* out, NodeId n) { out->append(graph.nodes()[n].name); };
  std::string text;
  for (const Node& node : graph.nodes()) {
    absl::StrAppend(&text, node.name, "(", absl::StrJoin(node.inputs, ", ", value_name), ")");
    if (!node.outputs.empty()) {
      absl::StrAppend(&text, " -> ", absl::StrJoin(node.outputs, ", ", value_name));
    }
    if (!node.control.empty()) {
      absl::StrAppend(&text, " after ", absl::StrJoin(node.control, ", ", node_name));
    }
    text.push_back('\n');
  }
  return text;
}

std::string BufferListing(const Graph& graph) {
  std::string text;
  for (const Buffer& b : graph.buffers()) {
    absl::StrAppend(&text, b.name, " ", b.bytes, " B ", Name(b.kind),
                    b.persistent ? ", persistent" : "", "\n");
  }
  return text;
}

}  // namespace millrace
