// shard_state at stage 3: parameters are shards; each use reads a gathered copy.
#include <map>

#include "absl/strings/str_cat.h"
#include "graph/lower/pass.h"
#include "graph/lower/shard_state.h"

namespace millrace {
namespace lower_internal {
namespace {

class Gatherer {
 public:
  Gatherer(const Graph& graph, const LowerOptions& options, Rewriter* r)
      : graph_(graph), options_(options), r_(*r) {
    for (const Node& node : graph.nodes()) {
      if (node.op == "forward") last_stage_ = std::max(last_stage_, IntAttr(node, "stage", 0));
    }
  }

  void Run() {
    for (size_t v = 0; v < graph_.values().size(); ++v) {
      const Value& value = graph_.values()[v];
      const Buffer& buffer = graph_.buffers()[value.buffer];
      if (buffer.kind != BufferKind::kParameter || value.bucket < 0) continue;
      MakeShard(value.numel(), options_, false, &r_.value(static_cast<ValueId>(v)));
      r_.buffer(value.buffer).bytes = buffer.bytes / options_.world_size;
    }
    for (size_t n = 0; n < graph_.nodes().size(); ++n) {
      const Node& node = graph_.nodes()[n];
      if (!RunsStage(node)) continue;
      for (size_t i = 0; i < node.inputs.size(); ++i) {
        const Value& value = graph_.values()[node.inputs[i]];
        if (graph_.buffers()[value.buffer].kind != BufferKind::kParameter) continue;
        r_.node(static_cast<NodeId>(n)).inputs[i] =
            Gathered(static_cast<NodeId>(n), node.inputs[i], Phase(node, value.bucket));
      }
    }
  }

 private:
  // Uses of one phase share a gathered copy; recomputing a stage belongs to its backward.
  std::string Phase(const Node& node, int32_t bucket) const {
    if (options_.policy == AccumulationPolicy::kKeepGathered) return "forward/0";
    const int64_t m = IntAttr(node, "micro_batch", 0);
    const bool turn =
        options_.keep_at_turn && graph_.buckets()[bucket].slots.back().stage == last_stage_;
    return absl::StrCat(turn || node.op == "forward" ? "forward" : "backward", "/", m);
  }

  ValueId Gathered(NodeId user, ValueId shard, const std::string& phase) {
    const Value& whole = graph_.values()[shard];
    const auto [it, fresh] = gathered_.try_emplace({whole.bucket, phase}, -1);
    if (!fresh) return it->second;
    const std::string& bucket = graph_.buckets()[whole.bucket].name;
    it->second = r_.AddValueWithBuffer({.name = absl::StrCat("gathered/", bucket, "/", phase),
                                        .dtype = whole.dtype,
                                        .shape = whole.shape,
                                        .bucket = whole.bucket},
                                       BufferKind::kGathered);
    Node gather =
        MakeCollective(absl::StrCat("all_gather/", bucket, "/", phase), CollectiveOp::kAllGather,
                       whole.numel() / options_.world_size, whole.dtype, options_);
    gather.inputs = {shard};
    gather.outputs = {it->second};
    r_.InsertBefore(user, std::move(gather));
    return it->second;
  }

  const Graph& graph_;
  const LowerOptions& options_;
  Rewriter& r_;
  int64_t last_stage_ = 0;
  std::map<std::pair<int32_t, std::string>, ValueId> gathered_;
};

}  // namespace

absl::Status GatherParameters(const Graph& graph, const LowerOptions& options, Rewriter* r) {
  Gatherer(graph, options, r).Run();
  return absl::OkStatus();
}

}  // namespace lower_internal
}  // namespace millrace
