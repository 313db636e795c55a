#include "graph/lower/reduce_window.h"

#include <algorithm>

#include "graph/ir/lane_kind.h"
#include "graph/lower/rewriter.h"

namespace millrace {
namespace {

// One transient gradient buffer.
struct Gradient {
  NodeId take = -1;           // the backward that first writes it
  NodeId give = -1;           // the last node that touches it
  bool communicated = false;  // read by a collective
};

class ReduceWindowPass final : public Pass {
 public:
  absl::string_view name() const override { return "reduce_window"; }

  absl::StatusOr<Graph> Run(const Graph& graph, const LowerContext& context) const override {
    // The stages that run before each node: their number is the node's place in the step.
    std::vector<int> place(graph.nodes().size());
    int stages = 0;
    for (size_t n = 0; n < graph.nodes().size(); ++n) {
      place[n] = stages;
      const std::string& op = graph.nodes()[n].op;
      if (op == "forward" || op == "backward") ++stages;
    }
    const std::vector<Gradient> gradients = Gradients(graph);
    std::vector<NodeId> takers;
    for (const Gradient& g : gradients) takers.push_back(g.take);
    std::sort(takers.begin(), takers.end());
    takers.erase(std::unique(takers.begin(), takers.end()), takers.end());

    Rewriter r(graph);
    for (const Gradient& g : gradients) {
      // place[give] stages have run when it is complete; one more may run beside its reduction.
      const int slack = g.communicated && context.options.overlap ? 1 : 0;
      const auto taker = std::find_if(takers.begin(), takers.end(), [&](NodeId n) {
        return n > g.give && place[n] >= place[g.give] + slack;
      });
      NodeId before = -1;
      if (taker != takers.end()) {
        before = *taker;
        r.node(before).control.push_back(g.give);
      }
      if (graph.nodes()[g.give].op != "accumulate" || slack == 0) continue;
      for (NodeId n : graph.consumers(graph.nodes()[g.give].outputs[0])) {
        if (before < 0 || n < before) before = n;
      }
      if (before >= 0) r.MoveBefore(g.give, before);
    }
    return std::move(r).Finish();
  }

 private:
  static std::vector<Gradient> Gradients(const Graph& graph) {
    std::vector<Gradient> by_buffer(graph.buffers().size());
    for (size_t n = 0; n < graph.nodes().size(); ++n) {
      const Node& node = graph.nodes()[n];
      for (const std::vector<ValueId>* ports : {&node.inputs, &node.outputs}) {
        for (ValueId v : *ports) {
          const BufferId b = graph.values()[v].buffer;
          const Buffer& buffer = graph.buffers()[b];
          if (buffer.kind != BufferKind::kGradient || buffer.persistent) continue;
          if (buffer.tier != Tier::kDevice) continue;
          if (by_buffer[b].take < 0) by_buffer[b].take = static_cast<NodeId>(n);
          by_buffer[b].give = static_cast<NodeId>(n);
          by_buffer[b].communicated |=
              LaneKindOf(graph, static_cast<NodeId>(n)) != LaneKind::kCompute;
        }
      }
    }
    std::vector<Gradient> gradients;
    for (const Gradient& g : by_buffer) {
      if (g.take >= 0 && g.give != g.take) gradients.push_back(g);
    }
    return gradients;
  }
};

}  // namespace

std::unique_ptr<Pass> ReduceWindow() { return std::make_unique<ReduceWindowPass>(); }

}  // namespace millrace
