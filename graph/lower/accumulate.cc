#include "graph/lower/accumulate.h"

#include <algorithm>
#include <map>

#include "absl/strings/str_cat.h"
#include "graph/lower/rewriter.h"

namespace millrace {
namespace {

// What backward wrote of one bucket in one micro-batch.
struct Written {
  std::vector<ValueId> slices;
  NodeId last = -1;
};

class AccumulatePass final : public Pass {
 public:
  absl::string_view name() const override { return "accumulate"; }

  absl::StatusOr<Graph> Run(const Graph& graph, const LowerContext& context) const override {
    Rewriter r(graph);
    const int micro_batches = context.options.accumulation;
    std::map<Key, Written> gradients = Gradients(graph);
    for (size_t k = 0; k < graph.buckets().size(); ++k) {
      const Bucket& bucket = graph.buckets()[k];
      ValueId total = -1;
      for (int m = 0; m < micro_batches; ++m) {
        const Written& written = gradients[{static_cast<int32_t>(k), m}];
        if (written.slices.empty()) continue;
        const Value& first = graph.values()[written.slices[0]];
        const std::string whole = absl::StrCat("grad/", bucket.name);
        Node join{.name = absl::StrCat("join/", bucket.name, "/", m),
                  .op = "join",
                  .inputs = written.slices};
        join.attrs["bucket"] = static_cast<int64_t>(k);
        Value joined{.name = micro_batches == 1 ? whole : absl::StrCat(whole, "/", m),
                     .dtype = first.dtype,
                     .shape = {bucket.numel},
                     .buffer = first.buffer,
                     .bucket = static_cast<int32_t>(k)};
        const bool widens = Widens(first.dtype, context.options);
        if (widens) joined.name = absl::StrCat(whole, "/", Name(first.dtype), "/", m);
        ValueId addend = r.AddValue(joined);
        join.outputs = {addend};
        NodeId at = r.InsertAfter(written.last, std::move(join));
        if (widens) at = Widen(bucket, m, micro_batches, at, &addend, &r);
        if (total < 0) {
          const BufferId kept = r.value(addend).buffer;
          r.buffer(kept).persistent = true;
          r.buffer(kept).name = whole;
          total = addend;
          continue;
        }
        Node add{.name = absl::StrCat("accumulate/", bucket.name, "/", m),
                 .op = "accumulate",
                 .inputs = {total, addend}};
        Value sum = r.value(total);
        sum.name = m == micro_batches - 1 ? whole : absl::StrCat(whole, "/sum_", m);
        total = r.AddValue(sum);
        add.outputs = {total};
        add.flops = bucket.numel;
        add.memory_bytes = 3 * sum.bytes();
        r.InsertAfter(at, std::move(add));
      }
    }
    return std::move(r).Finish();
  }

 private:
  using Key = std::pair<int32_t, int64_t>;  // bucket, micro-batch

  static bool Widens(DType dtype, const LowerOptions& options) {
    return dtype != DType::kF32 && options.reduce_dtype == DType::kF32;
  }

  // From here on the gradient is f32, in a buffer of its own.
  static NodeId Widen(const Bucket& bucket, int m, int micro_batches, NodeId join,
                      ValueId* gradient, Rewriter* r) {
    Value wide = r->value(*gradient);
    const int64_t narrow_bytes = wide.bytes();
    const std::string whole = absl::StrCat("grad/", bucket.name);
    wide.name = micro_batches == 1 ? whole : absl::StrCat(whole, "/", m);
    wide.dtype = DType::kF32;
    wide.buffer = r->AddBuffer({.name = absl::StrCat(whole, "/f32/", m),
                                .bytes = wide.bytes(),
                                .kind = BufferKind::kGradient});
    Node cast{
        .name = absl::StrCat("cast/", bucket.name, "/", m), .op = "cast", .inputs = {*gradient}};
    cast.attrs["to"] = std::string(Name(DType::kF32));
    cast.memory_bytes = narrow_bytes + wide.bytes();
    *gradient = r->AddValue(std::move(wide));
    cast.outputs = {*gradient};
    return r->InsertAfter(join, std::move(cast));
  }

  static std::map<Key, Written> Gradients(const Graph& graph) {
    std::map<Key, Written> gradients;
    for (size_t n = 0; n < graph.nodes().size(); ++n) {
      const Node& node = graph.nodes()[n];
      if (node.op != "backward") continue;
      for (ValueId v : node.outputs) {
        const int32_t bucket = graph.values()[v].bucket;
        if (bucket < 0) continue;
        Written& w = gradients[{bucket, IntAttr(node, "micro_batch", 0)}];
        w.slices.push_back(v);
        w.last = static_cast<NodeId>(n);
      }
    }
    for (auto& [key, w] : gradients) {
      std::sort(w.slices.begin(), w.slices.end(), [&](ValueId a, ValueId b) {
        return graph.values()[a].offset < graph.values()[b].offset;
      });
    }
    return gradients;
  }
};

}  // namespace

std::unique_ptr<Pass> Accumulate() { return std::make_unique<AccumulatePass>(); }

}  // namespace millrace
