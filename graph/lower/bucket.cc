#include "graph/lower/bucket.h"

#include <algorithm>
#include <map>

#include "absl/strings/str_cat.h"
#include "graph/base/status.h"
#include "graph/lower/bucket_layout.h"
#include "graph/lower/rewriter.h"

namespace millrace {
namespace {

class BucketPass final : public Pass {
 public:
  absl::string_view name() const override { return "bucket"; }

  absl::StatusOr<Graph> Run(const Graph& graph, const LowerContext& context) const override {
    const LowerOptions& options = context.options;
    ASSIGN_OR_RETURN(std::vector<Bucket> buckets,
                     LayoutBuckets(context.spec, options.reduce_bucket_bytes, options.world_size));
    Rewriter r(graph);
    DType dtype = DType::kF32;
    for (size_t b = 0; b < graph.buffers().size(); ++b) {
      if (graph.buffers()[b].kind == BufferKind::kParameter)
        r.EraseBuffer(static_cast<BufferId>(b));
    }
    for (const Value& v : graph.values()) {
      if (graph.buffers()[v.buffer].kind == BufferKind::kParameter) dtype = v.dtype;
    }
    std::vector<ValueId> params;
    std::vector<std::vector<int32_t>> buckets_of(context.spec.stages.size());
    for (size_t k = 0; k < buckets.size(); ++k) {
      const auto id = static_cast<int32_t>(k);
      params.push_back(r.AddValueWithBuffer({.name = absl::StrCat("param/", buckets[k].name),
                                             .dtype = dtype,
                                             .shape = {buckets[k].numel},
                                             .bucket = id},
                                            BufferKind::kParameter, true));
      for (const ParamSlot& slot : buckets[k].slots) {
        std::vector<int32_t>& list = buckets_of[slot.stage];
        if (list.empty() || list.back() != id) list.push_back(id);
      }
      r.AddBucket(buckets[k]);
    }
    // The bucket that holds a stage's first parameters was filled last.
    for (std::vector<int32_t>& list : buckets_of) std::reverse(list.begin(), list.end());

    // (bucket, micro-batch) -> the gradient's buffer
    std::map<std::pair<int32_t, int64_t>, BufferId> gradients;
    for (NodeId n : r.order()) {
      Node& node = r.node(n);
      if (!RunsStage(node)) continue;
      const auto stage = static_cast<int>(IntAttr(node, "stage", 0));
      const int64_t m = IntAttr(node, "micro_batch", 0);
      std::vector<ValueId> inputs, outputs;
      for (ValueId v : node.inputs) {
        if (graph.buffers()[graph.values()[v].buffer].kind != BufferKind::kParameter) {
          inputs.push_back(v);
          continue;
        }
        for (int32_t k : buckets_of[stage]) inputs.push_back(params[k]);
      }
      for (ValueId v : node.outputs) {
        if (graph.buffers()[graph.values()[v].buffer].kind != BufferKind::kGradient) {
          outputs.push_back(v);
          continue;
        }
        for (int32_t k : buckets_of[stage]) {
          const Slice slice = SliceOf(buckets[k], stage);
          const auto [it, fresh] = gradients.try_emplace({k, m}, -1);
          if (fresh) {
            it->second = r.AddBuffer({.name = absl::StrCat("grad/", buckets[k].name, "/", m),
                                      .bytes = buckets[k].numel * SizeOf(dtype),
                                      .kind = BufferKind::kGradient});
          }
          outputs.push_back(
              r.AddValue({.name = absl::StrCat("grad/", buckets[k].name, "/",
                                               context.spec.stages[stage].name, "/", m),
                          .dtype = dtype,
                          .shape = {slice.numel},
                          .buffer = it->second,
                          .offset = slice.offset * SizeOf(dtype),
                          .bucket = k}));
        }
      }
      node.inputs = std::move(inputs);
      node.outputs = std::move(outputs);
    }
    return std::move(r).Finish();
  }
};

}  // namespace

std::unique_ptr<Pass> BucketParameters() { return std::make_unique<BucketPass>(); }

}  // namespace millrace
