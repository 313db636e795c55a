#include "graph/lower/split_async.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "graph/ir/lane_kind.h"
#include "graph/lower/rewriter.h"

namespace millrace {
namespace {

struct Touch {
  NodeId node = -1;
  bool write = false;
};

class Splitter {
 public:
  explicit Splitter(const Graph& graph) : graph_(graph), touches_(graph.buffers().size()) {
    for (size_t n = 0; n < graph.nodes().size(); ++n) {
      const Node& node = graph.nodes()[n];
      for (ValueId v : node.inputs) Add(v, static_cast<NodeId>(n), false);
      for (ValueId v : node.outputs) Add(v, static_cast<NodeId>(n), true);
      for (NodeId c : node.control) {
        NodeId& first = waiter_[c];
        if (first == 0 || static_cast<NodeId>(n) < first) first = static_cast<NodeId>(n);
      }
      compute_before_.push_back(compute_before_.empty() ? 0 : compute_before_.back() + last_cost_);
      lane_.push_back(LaneKindOf(graph, static_cast<NodeId>(n)));
      const bool computes = lane_.back() == LaneKind::kCompute;
      last_cost_ = computes && node.flops + node.memory_bytes > 0 ? 1 : 0;
    }
    compute_before_.push_back(compute_before_.empty() ? 0 : compute_before_.back() + last_cost_);
  }

  absl::StatusOr<Graph> Run() {
    Rewriter r(graph_);
    std::vector<NodeId> done_of(graph_.nodes().size(), -1);
    const auto n = static_cast<NodeId>(graph_.nodes().size());
    for (NodeId start = 0; start < n; ++start) {
      const Node& node = graph_.nodes()[start];
      if (lane_[start] == LaneKind::kCompute || node.async != AsyncRole::kNone) continue;
      const NodeId need = FirstNeed(start);
      if (!Worthwhile(start, need)) continue;
      Node done = node;
      done.name = absl::StrCat(node.name, ".done");
      done.inputs.clear();
      done.control.clear();
      done.async = AsyncRole::kDone;
      done.partner = start;
      const NodeId id =
          need < n ? r.InsertBefore(need, std::move(done)) : r.Append(std::move(done));
      Node& first = r.node(start);
      first.name = absl::StrCat(node.name, ".start");
      first.outputs.clear();
      first.async = AsyncRole::kStart;
      first.partner = id;
      done_of[start] = id;
    }
    for (NodeId id : r.order()) {
      for (NodeId& c : r.node(id).control) {
        if (c < n && done_of[c] >= 0) c = done_of[c];
      }
    }
    return std::move(r).Finish();
  }

 private:
  // Something can run beside it: compute between it and its first need. What is needed by another engine, or is work of
  // one, always counts: the planner, which knows how long things last, joins what is split in vain.
  bool Worthwhile(NodeId start, NodeId need) const {
    if (compute_before_[need] - compute_before_[start + 1] > 0) return true;
    if (lane_[start] != LaneKind::kComm) return true;
    return need < static_cast<NodeId>(lane_.size()) && lane_[need] != LaneKind::kCompute &&
           lane_[need] != LaneKind::kComm;
  }

  void Add(ValueId v, NodeId node, bool write) {
    touches_[graph_.values()[v].buffer].push_back({node, write});
  }

  // The first node behind `n` that must not run beside it; the number of nodes when there is none.
  NodeId FirstNeed(NodeId n) const {
    auto need = static_cast<NodeId>(graph_.nodes().size());
    const Node& node = graph_.nodes()[n];
    const auto waiter = waiter_.find(n);
    if (waiter != waiter_.end()) need = waiter->second;
    const auto next = [&](ValueId v, bool any) {
      const std::vector<Touch>& list = touches_[graph_.values()[v].buffer];
      auto it = std::upper_bound(list.begin(), list.end(), n,
                                 [](NodeId id, const Touch& t) { return id < t.node; });
      while (it != list.end() && !any && !it->write) ++it;
      if (it != list.end()) need = std::min(need, it->node);
    };
    for (ValueId v : node.inputs) next(v, false);
    for (ValueId v : node.outputs) next(v, true);
    return need;
  }

  const Graph& graph_;
  std::vector<LaneKind> lane_;                  // of each node's engine
  std::vector<std::vector<Touch>> touches_;     // per buffer, in the order of the text
  absl::flat_hash_map<NodeId, NodeId> waiter_;  // the first node that waits for a node
  std::vector<int> compute_before_;             // nodes of compute before each place
  int last_cost_ = 0;
};

class SplitAsyncPass final : public Pass {
 public:
  absl::string_view name() const override { return "split_async"; }
  absl::StatusOr<Graph> Run(const Graph& graph, const LowerContext& context) const override {
    if (!context.options.overlap) return graph;
    return Splitter(graph).Run();
  }
};

}  // namespace

std::unique_ptr<Pass> SplitAsync() { return std::make_unique<SplitAsyncPass>(); }

}  // namespace millrace
