#include "graph/lower/cross_memory.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "graph/base/status.h"
#include "graph/lower/pinned_copies.h"
#include "graph/lower/rewriter.h"
#include "graph/lower/stage_batches.h"

namespace millrace {
namespace {

// At most so many bytes of a state that belongs to no bucket are a few numbers: a loss scale.
constexpr int64_t kFewBytes = 256;

enum class Side : uint8_t { kDevice, kHost };

Side SideOf(Tier tier) { return tier == Tier::kDevice ? Side::kDevice : Side::kHost; }

class Crosser {
 public:
  explicit Crosser(const Graph& graph) : graph_(graph), r_(graph) {}

  absl::StatusOr<Graph> Run() {
    for (const Value& v : graph_.values()) {
      if (v.bucket >= 0) of_bucket_.insert(v.buffer);
    }
    for (NodeId n : graph_.topological_order()) {
      const Node& node = graph_.nodes()[n];
      if (node.op == "copy" || node.async == AsyncRole::kDone) continue;
      Cross(n,
            node.async == AsyncRole::kStart ? graph_.nodes()[node.partner].outputs : node.outputs);
    }
    return std::move(r_).Finish();
  }

 private:
  bool IsSmall(ValueId v) const {
    const BufferId b = graph_.values()[v].buffer;
    const Buffer& buffer = graph_.buffers()[b];
    if (buffer.kind == BufferKind::kMetric) return true;
    return buffer.kind == BufferKind::kOptimizerState && buffer.bytes <= kFewBytes &&
           of_bucket_.count(b) == 0;
  }
  Tier TierOf(ValueId v) { return r_.buffer(r_.value(v).buffer).tier; }

  Side SideOfNode(const Node& node, const std::vector<ValueId>& outputs) {
    if (node.is_collective) return Side::kDevice;
    for (const std::vector<ValueId>* values : {&node.inputs, &outputs}) {
      for (ValueId v : *values) {
        if (!IsSmall(v)) return SideOf(TierOf(v));
      }
    }
    const std::vector<ValueId>& known = node.inputs.empty() ? outputs : node.inputs;
    const bool on_device = std::any_of(known.begin(), known.end(), [this](ValueId v) {
      return SideOf(TierOf(v)) == Side::kDevice;
    });
    return on_device ? Side::kDevice : Side::kHost;
  }

  void Cross(NodeId n, const std::vector<ValueId>& outputs) {
    const Side side = SideOfNode(graph_.nodes()[n], outputs);
    std::vector<ValueId> missing;
    for (ValueId v : graph_.nodes()[n].inputs) {
      const bool crosses = IsSmall(v) && SideOf(TierOf(v)) != side;
      const bool new_here = std::find(missing.begin(), missing.end(), v) == missing.end();
      if (crosses && copies_.count(v) == 0 && new_here) missing.push_back(v);
    }
    if (!missing.empty()) Copy(n, missing, side);
    for (ValueId& v : r_.node(n).inputs) {
      if (IsOriginal(v) && SideOf(TierOf(v)) != side && copies_.count(v) > 0) v = copies_[v];
    }
    if (side == Side::kDevice) return;
    for (ValueId v : outputs) {
      Buffer& buffer = r_.buffer(r_.value(v).buffer);
      if (IsSmall(v) && !buffer.persistent && buffer.tier == Tier::kDevice) {
        buffer.tier = Tier::kPinned;
      }
    }
  }

  bool IsOriginal(ValueId v) const { return v < static_cast<ValueId>(graph_.values().size()); }

  // One node brings all of `values` to `side`.
  void Copy(NodeId reader, const std::vector<ValueId>& values, Side side) {
    const std::string prefix = side == Side::kDevice ? "device" : "host";
    const std::string what =
        values.size() == 1 ? graph_.values()[values[0]].name : graph_.nodes()[reader].name;
    Node copy{.name = absl::StrCat("copy_to_", prefix, "/", what), .op = "copy", .inputs = values};
    NodeId behind = -1;
    bool found_at_start = false;
    for (ValueId v : values) {
      Value value = graph_.values()[v];
      value.name = absl::StrCat(prefix, "_", value.name);
      value.own_shard = false;
      value.offset = 0;
      copies_[v] = r_.AddValueWithBuffer(std::move(value), BufferKind::kMetric);
      r_.buffer(r_.value(copies_[v]).buffer).tier =
          side == Side::kDevice ? Tier::kDevice : Tier::kPinned;
      copy.outputs.push_back(copies_[v]);
      copy.memory_bytes += 2 * graph_.values()[v].bytes();
      found_at_start = found_at_start || graph_.producer(v) < 0;
      behind = std::max(behind, graph_.producer(v));
    }
    if (found_at_start || behind > reader) {
      r_.InsertBefore(reader, std::move(copy));
    } else {
      r_.InsertAfter(behind, std::move(copy));
    }
  }

  const Graph& graph_;
  Rewriter r_;
  std::set<BufferId> of_bucket_;       // buffers that hold a bucket's values
  std::map<ValueId, ValueId> copies_;  // of a value, on the side where it is not
};

class CrossMemoryPass final : public Pass {
 public:
  absl::string_view name() const override { return "cross_memory"; }
  absl::StatusOr<Graph> Run(const Graph& graph, const LowerContext& context) const override {
    if (!context.options.separate_memory) return graph;
    return Crosser(graph).Run();
  }
};

}  // namespace

std::unique_ptr<Pass> CrossMemory() { return std::make_unique<CrossMemoryPass>(); }

absl::StatusOr<Graph> SeparateMemory(const Graph& graph) {
  LowerOptions options;
  options.separate_memory = true;
  const ModelSpec none;
  const LowerContext context{none, options};
  ASSIGN_OR_RETURN(const Graph pinned, PinnedCopies()->Run(graph, context));
  ASSIGN_OR_RETURN(const Graph staged, StageBatches()->Run(pinned, context));
  return CrossMemory()->Run(staged, context);
}

}  // namespace millrace
