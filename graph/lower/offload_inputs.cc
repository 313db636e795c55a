#include "graph/lower/offload_inputs.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "graph/lower/rewriter.h"

namespace millrace {
namespace {

class InputOffloader {
 public:
  explicit InputOffloader(const Graph& graph) : graph_(graph), r_(graph) {}

  absl::StatusOr<Graph> Run() {
    std::vector<NodeId> stages;  // what runs a stage, in the order of the text
    for (size_t n = 0; n < graph_.nodes().size(); ++n) {
      const auto id = static_cast<NodeId>(n);
      const Node& node = graph_.nodes()[n];
      if (!RunsStage(node)) continue;
      if (node.op == "recompute") Recompute(id, stages);
      stages.push_back(id);
    }
    return std::move(r_).Finish();
  }

 private:
  void Recompute(NodeId recompute, const std::vector<NodeId>& before) {
    for (ValueId v : graph_.nodes()[recompute].inputs) {
      const Value& value = graph_.values()[v];
      if (graph_.buffers()[value.buffer].kind != BufferKind::kActivation) continue;
      // Behind the last forward that reads it; back beside the stage that runs before this one.
      NodeId last = -1;
      std::vector<NodeId> late;
      for (NodeId reader : graph_.consumers(v)) {
        const Node& node = graph_.nodes()[reader];
        if (node.op == "forward") {
          last = std::max(last, reader);
        } else {
          late.push_back(reader);
        }
      }
      if (last < 0 || before.size() < 2) continue;
      const std::string tail = value.name.substr(value.name.find('/'));
      const ValueId host =
          Like(value, absl::StrCat("host_act", tail), BufferKind::kSaved, Tier::kHost);
      const ValueId back =
          Like(value, absl::StrCat("back", tail), BufferKind::kActivation, Tier::kDevice);
      r_.InsertAfter(last, Copy(absl::StrCat("copy_to_host/", value.name), v, host));
      Node in = Copy(absl::StrCat("copy_to_device/", value.name), host, back);
      in.control = {before[before.size() - 2]};
      r_.InsertBefore(before.back(), std::move(in));
      for (NodeId reader : late) {
        for (ValueId& input : r_.node(reader).inputs) {
          if (input == v) input = back;
        }
      }
    }
  }

  ValueId Like(const Value& value, std::string name, BufferKind kind, Tier tier) {
    Value v;
    v.CopyTypeFrom(value);
    v.name = std::move(name);
    const ValueId id = r_.AddValueWithBuffer(std::move(v), kind);
    r_.buffer(r_.value(id).buffer).tier = tier;
    return id;
  }

  Node Copy(std::string name, ValueId from, ValueId to) {
    Node node{.name = std::move(name), .op = "copy", .inputs = {from}, .outputs = {to}};
    node.memory_bytes = 2 * r_.value(from).bytes();
    return node;
  }

  const Graph& graph_;
  Rewriter r_;
};

class OffloadInputsPass final : public Pass {
 public:
  absl::string_view name() const override { return "offload_inputs"; }
  absl::StatusOr<Graph> Run(const Graph& graph, const LowerContext& context) const override {
    if (!context.options.recompute.offload_inputs) return graph;
    return InputOffloader(graph).Run();
  }
};

}  // namespace

std::unique_ptr<Pass> OffloadInputs() { return std::make_unique<OffloadInputsPass>(); }

}  // namespace millrace
