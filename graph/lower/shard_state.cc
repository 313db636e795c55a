#include "graph/lower/shard_state.h"

#include "absl/strings/str_cat.h"
#include "graph/base/status.h"

namespace millrace {
namespace lower_internal {

void MakeShard(int64_t numel, const LowerOptions& options, bool own, Value* value) {
  value->shape = {numel / options.world_size};
  value->sharding = Sharding::kSharded;
  value->group = options.group;
  value->own_shard = own;
}

Node MakeCollective(std::string name, CollectiveOp op, int64_t count, DType dtype,
                    const LowerOptions& options) {
  Node node{.name = std::move(name), .op = std::string(Name(op))};
  node.is_collective = true;
  node.collective = {.op = op, .group = options.group, .dtype = dtype, .count = count};
  // What a rank's memory sees: its own buffer read and written once.
  const int64_t whole = op == CollectiveOp::kAllReduce ? count : count * options.world_size;
  node.memory_bytes = 2 * whole * SizeOf(dtype);
  return node;
}

namespace {

// Of an update's ports, the one that is a parameter; -1 when none is.
int ParameterPort(const Graph& graph, const std::vector<ValueId>& ports) {
  for (size_t i = 0; i < ports.size(); ++i) {
    const BufferKind kind = graph.buffers()[graph.values()[ports[i]].buffer].kind;
    if (kind == BufferKind::kParameter) return static_cast<int>(i);
  }
  return -1;
}

}  // namespace

absl::Status ShardOptimizer(const Graph& graph, const LowerOptions& options, Rewriter* r) {
  if (options.zero_stage == 0) return absl::OkStatus();
  const int ranks = options.world_size;
  for (size_t n = 0; n < graph.nodes().size(); ++n) {
    const Node& old = graph.nodes()[n];
    if (old.op != "adamw" && old.op != "adam" && old.op != "sgd") continue;
    const auto id = static_cast<NodeId>(n);
    const Bucket& bucket = graph.buckets()[IntAttr(old, "bucket", 0)];
    r->node(id).flops /= ranks;
    r->node(id).memory_bytes /= ranks;
    for (const std::vector<ValueId>* ports : {&old.inputs, &old.outputs}) {
      for (ValueId v : *ports) {
        const Buffer& buffer = graph.buffers()[graph.values()[v].buffer];
        if (buffer.kind != BufferKind::kOptimizerState) continue;
        MakeShard(bucket.numel, options, false, &r->value(v));
        r->buffer(graph.values()[v].buffer).bytes = buffer.bytes / ranks;
      }
    }
    if (options.zero_stage == 3) continue;  // its parameters are shards everywhere
    const std::string own = absl::StrCat("param/", bucket.name, "/own");
    // The parameter itself is read in f32 only; in 16 bits it is written alone, a copy of the master.
    if (const int i = ParameterPort(graph, old.inputs); i >= 0) {
      Value part = graph.values()[old.inputs[i]];
      part.name = own;
      MakeShard(bucket.numel, options, true, &part);
      r->node(id).inputs[i] = r->AddValue(part);
    }
    const int out = ParameterPort(graph, old.outputs);
    if (out < 0) return absl::InternalError(absl::StrCat(old.name, " updates no parameter"));
    const Value whole = graph.values()[old.outputs[out]];
    Value& updated = r->value(old.outputs[out]);
    updated.name = absl::StrCat(own, "'");
    MakeShard(bucket.numel, options, true, &updated);
    Node gather =
        MakeCollective(absl::StrCat("all_gather/", bucket.name, "/update"),
                       CollectiveOp::kAllGather, bucket.numel / ranks, whole.dtype, options);
    gather.inputs = {old.outputs[out]};
    gather.outputs = {r->AddValue(whole)};
    r->InsertAfter(id, std::move(gather));
  }
  const NodeId sum = graph.FindNode("norm_sum"), clip = graph.FindNode("clip_coefficient");
  if (sum < 0 || clip < 0) return absl::OkStatus();
  const ValueId norm = graph.nodes()[sum].outputs[0];
  std::vector<ValueId> partial = graph.nodes()[sum].inputs;
  partial.push_back(norm);
  for (ValueId v : partial) {
    r->value(v).sharding = Sharding::kPartial;
    r->value(v).group = options.group;
  }
  const Value& words = graph.values()[norm];
  Node gather = MakeCollective("all_gather/norm", CollectiveOp::kAllGather, words.numel(),
                               words.dtype, options);
  gather.inputs = {norm};
  gather.outputs = {r->AddValueWithBuffer(
      {.name = "norm/gathered", .dtype = words.dtype, .shape = {words.numel() * ranks}},
      BufferKind::kMetric)};
  r->node(clip).inputs[0] = gather.outputs[0];
  r->InsertBefore(clip, std::move(gather));
  return absl::OkStatus();
}

}  // namespace lower_internal

namespace {

class ShardStatePass final : public Pass {
 public:
  absl::string_view name() const override { return "shard_state"; }
  absl::StatusOr<Graph> Run(const Graph& graph, const LowerContext& context) const override {
    Rewriter r(graph);
    if (context.options.world_size == 1) {
      // Whole parameters that lie elsewhere are brought in bucket by bucket all the same.
      if (context.options.offload.parameters == Tier::kDevice) return graph;
      RETURN_IF_ERROR(lower_internal::GatherParameters(graph, context.options, &r));
      return std::move(r).Finish();
    }
    RETURN_IF_ERROR(lower_internal::ReduceGradients(graph, context.options, &r));
    RETURN_IF_ERROR(lower_internal::ShardOptimizer(graph, context.options, &r));
    if (context.options.zero_stage == 3) {
      RETURN_IF_ERROR(lower_internal::GatherParameters(graph, context.options, &r));
    }
    return std::move(r).Finish();
  }
};

}  // namespace

std::unique_ptr<Pass> ShardState() { return std::make_unique<ShardStatePass>(); }

}  // namespace millrace
