// shard_state, first part: where and how gradients are summed over the ranks.
#include "absl/strings/str_cat.h"
#include "graph/lower/shard_state.h"

namespace millrace {
namespace lower_internal {
namespace {

class Reducer {
 public:
  Reducer(const Graph& graph, const LowerOptions& options, Rewriter* r)
      : graph_(graph), options_(options), r_(*r) {}

  absl::Status Bucket(size_t k) {
    const millrace::Bucket& bucket = graph_.buckets()[k];
    std::vector<NodeId> joins, sums;  // joins: or the casts that follow them
    for (int m = 0; m < options_.accumulation; ++m) {
      joins.push_back(graph_.FindNode(absl::StrCat("join/", bucket.name, "/", m)));
      if (joins.back() < 0) {
        return absl::InvalidArgumentError(
            absl::StrCat("expected a node join/", bucket.name, "/", m));
      }
      for (ValueId v : graph_.nodes()[joins.back()].inputs) MarkPartial(v);
      const NodeId cast = graph_.FindNode(absl::StrCat("cast/", bucket.name, "/", m));
      if (cast >= 0) {
        MarkPartial(graph_.nodes()[joins.back()].outputs[0]);
        joins.back() = cast;
      }
      if (m > 0) sums.push_back(graph_.FindNode(absl::StrCat("accumulate/", bucket.name, "/", m)));
    }
    if (sums.empty() || options_.policy == AccumulationPolicy::kReduceEach) {
      ReduceEach(bucket, joins, sums);
    } else {
      ReduceLast(bucket, joins, sums);
    }
    return absl::OkStatus();
  }

 private:
  void MarkPartial(ValueId v) {
    r_.value(v).sharding = Sharding::kPartial;
    r_.value(v).group = options_.group;
  }

  bool scatter() const { return options_.zero_stage >= 1; }
  bool transient() const { return options_.zero_stage >= 2; }

  Node Reduce(const millrace::Bucket& bucket, int m, DType dtype) const {
    return scatter() ? MakeCollective(absl::StrCat("reduce_scatter/", bucket.name, "/", m),
                                      CollectiveOp::kReduceScatter,
                                      bucket.numel / options_.world_size, dtype, options_)
                     : MakeCollective(absl::StrCat("all_reduce/", bucket.name, "/", m),
                                      CollectiveOp::kAllReduce, bucket.numel, dtype, options_);
  }

  // Where the sum over the ranks goes: in place, or (stages 2 and 3) into the persistent shard.
  void PlaceSum(const millrace::Bucket& bucket, bool persistent, Value* sum) {
    if (!scatter()) return;
    const bool shard = transient() && persistent;
    MakeShard(bucket.numel, options_, /*own=*/!shard, sum);
    if (!shard) return;
    sum->offset = 0;
    sum->buffer = r_.AddBuffer({.name = absl::StrCat("grad/", bucket.name),
                                .bytes = sum->bytes(),
                                .kind = BufferKind::kGradient,
                                .persistent = true});
  }

  // The buffer that micro-batch 0 wrote was the persistent gradient.
  void Release(BufferId buffer, std::string name) {
    r_.buffer(buffer).persistent = false;
    r_.buffer(buffer).name = std::move(name);
  }

  // Every join becomes a collective; a cast is followed by one.
  void ReduceEach(const millrace::Bucket& bucket, const std::vector<NodeId>& joins,
                  const std::vector<NodeId>& sums) {
    for (size_t m = 0; m < joins.size(); ++m) {
      const ValueId v = graph_.nodes()[joins[m]].outputs[0];
      Node reduce = Reduce(bucket, static_cast<int>(m), r_.value(v).dtype);
      reduce.outputs = {v};
      if (graph_.nodes()[joins[m]].op == "cast") {
        Value own = r_.value(v);
        own.name = absl::StrCat("grad/", bucket.name, "/", Name(own.dtype), "/", m);
        reduce.inputs = {r_.AddValue(std::move(own))};
        MarkPartial(reduce.inputs[0]);
        r_.node(joins[m]).outputs = reduce.inputs;
        r_.InsertAfter(joins[m], std::move(reduce));
      } else {
        reduce.inputs = graph_.nodes()[joins[m]].inputs;
        r_.node(joins[m]) = std::move(reduce);
      }
      Value& sum = r_.value(v);
      const bool casts = graph_.nodes()[joins[m]].op == "cast";
      if (m == 0 && transient())
        Release(sum.buffer, absl::StrCat("grad/", bucket.name, casts ? "/f32/0" : "/0"));
      PlaceSum(bucket, m == 0, &sum);
    }
    const Value first = r_.value(graph_.nodes()[joins[0]].outputs[0]);
    for (NodeId add : sums) {
      Value& total = r_.value(graph_.nodes()[add].outputs[0]);
      const std::string name = total.name;
      total = first;
      total.name = name;
      if (!scatter()) continue;
      r_.node(add).flops /= options_.world_size;
      r_.node(add).memory_bytes /= options_.world_size;
    }
  }

  // Joins and accumulates stay; one collective follows.
  void ReduceLast(const millrace::Bucket& bucket, const std::vector<NodeId>& joins,
                  const std::vector<NodeId>& sums) {
    for (NodeId n : joins) MarkPartial(graph_.nodes()[n].outputs[0]);
    for (NodeId n : sums) MarkPartial(graph_.nodes()[n].outputs[0]);
    const int last = static_cast<int>(sums.size());
    const ValueId total = graph_.nodes()[sums.back()].outputs[0];
    Value sum = graph_.values()[total];
    r_.value(total).name = absl::StrCat(sum.name, "/sum_", last);
    if (transient()) Release(sum.buffer, absl::StrCat("grad/", bucket.name, "/sum"));
    PlaceSum(bucket, true, &sum);
    Node reduce = Reduce(bucket, last, sum.dtype);
    reduce.inputs = {total};
    const ValueId reduced = r_.AddValue(sum);
    reduce.outputs = {reduced};
    r_.InsertAfter(sums.back(), std::move(reduce));
    for (NodeId n : graph_.consumers(total)) {
      for (ValueId& v : r_.node(n).inputs) {
        if (v == total) v = reduced;
      }
    }
  }

  const Graph& graph_;
  const LowerOptions& options_;
  Rewriter& r_;
};

}  // namespace

absl::Status ReduceGradients(const Graph& graph, const LowerOptions& options, Rewriter* r) {
  if (options.kind == StepKind::kEvaluate) return absl::OkStatus();
  Reducer reducer(graph, options, r);
  for (size_t k = 0; k < graph.buckets().size(); ++k) {
    if (absl::Status s = reducer.Bucket(k); !s.ok()) return s;
  }
  return absl::OkStatus();
}

}  // namespace lower_internal
}  // namespace millrace
