// A plan made by hand, small enough to know every number of it: one stage with one bucket of 60
// elements in 64, its parameters and momentum sharded over two ranks, gathered beside the loading
// of the batch.
//
//   issue lane  load_batch/0, all_gather/bucket_0.start, forward/a/0, backward/a/0,
//               reduce_scatter/bucket_0, sgd/bucket_0, all_reduce/loss
//   comm:data   all_gather/bucket_0.done
//
// `edit` changes the graph before it is built; `bucket` is the bucket.
#ifndef MILLRACE_GRAPH_PLAN_TESTING_SMALL_PLAN_H_
#define MILLRACE_GRAPH_PLAN_TESTING_SMALL_PLAN_H_

#include <functional>
#include <utility>

#include "absl/status/statusor.h"
#include "graph/plan/plan.h"

namespace millrace {

inline Bucket SmallBucket() {
  Bucket bucket;
  bucket.name = "bucket_0";
  bucket.slots = {{0, 0, 0, 48}, {0, 1, 48, 12}};
  bucket.numel = 64;
  return bucket;
}

inline void AddSmallNodes(GraphBuilder& b) {
  auto value = [&](const char* name, std::vector<int64_t> shape, BufferKind kind,
                   Sharding sharding = Sharding::kReplicated, bool persistent = false) {
    Value v;
    v.name = name;
    v.shape = std::move(shape);
    v.sharding = sharding;
    if (sharding != Sharding::kReplicated) v.group = "data";
    return b.AddValueWithBuffer(v, kind, persistent);
  };
  // The same bytes written anew.
  auto update = [&](ValueId old) {
    Value v = b.value(old);
    v.name += "'";
    return b.AddValue(v);
  };
  using S = Sharding;
  const ValueId images = value("images/0", {4, 3}, BufferKind::kInput);
  const ValueId param = value("param/bucket_0", {32}, BufferKind::kParameter, S::kSharded, true);
  const ValueId momentum =
      value("momentum/bucket_0", {32}, BufferKind::kOptimizerState, S::kSharded, true);
  const ValueId gathered = value("gathered/bucket_0/forward/0", {64}, BufferKind::kGathered);
  const ValueId loss = value("loss/0", {1}, BufferKind::kMetric, S::kPartial);
  const ValueId saved = value("saved/a/0", {100}, BufferKind::kSaved);
  const ValueId grad = value("grad/bucket_0/a/0", {64}, BufferKind::kGradient, S::kPartial);
  const ValueId shard = value("grad/bucket_0", {32}, BufferKind::kGradient, S::kSharded);
  const ValueId mean = value("loss", {1}, BufferKind::kMetric);
  const ValueId new_param = update(param), new_momentum = update(momentum);

  auto node = [&](const char* name, const char* op, std::vector<ValueId> in,
                  std::vector<ValueId> out) -> Node& {
    Node n;
    n.name = name;
    n.op = op;
    n.inputs = std::move(in);
    n.outputs = std::move(out);
    return b.node(b.AddNode(n));
  };
  auto collective = [](Node& n, CollectiveOp op, int64_t count) {
    n.is_collective = true;
    n.collective = {op, "data", DType::kF32, count};
  };
  auto half = [](Node& n, AsyncRole role, NodeId partner) {
    n.async = role;
    n.partner = partner;
  };
  node("load_batch/0", "load_batch", {}, {images}).attrs["micro_batch"] = int64_t{0};
  Node& start = node("all_gather/bucket_0.start", "all_gather", {param}, {});
  collective(start, CollectiveOp::kAllGather, 32);
  half(start, AsyncRole::kStart, 2);
  Node& done = node("all_gather/bucket_0.done", "all_gather", {}, {gathered});
  collective(done, CollectiveOp::kAllGather, 32);
  half(done, AsyncRole::kDone, 1);
  node("forward/a/0", "forward", {images, gathered}, {loss, saved}).flops = 1000;
  node("backward/a/0", "backward", {images, saved, gathered}, {grad}).flops = 2000;
  collective(node("reduce_scatter/bucket_0", "reduce_scatter", {grad}, {shard}),
             CollectiveOp::kReduceScatter, 32);
  node("sgd/bucket_0", "sgd", {param, shard, momentum}, {new_param, new_momentum}).control = {4};
  collective(node("all_reduce/loss", "all_reduce", {loss}, {mean}), CollectiveOp::kAllReduce, 1);
}

inline absl::StatusOr<Plan> SmallPlan(const std::function<void(GraphBuilder&)>& edit = {},
                                      Bucket bucket = SmallBucket()) {
  GraphBuilder b("step");
  b.SetGroup("data", 2);
  b.AddBucket(std::move(bucket));
  AddSmallNodes(b);
  if (edit) edit(b);
  absl::StatusOr<Graph> graph = std::move(b).Build();
  if (!graph.ok()) return graph.status();

  Plan plan;
  plan.name = "small";
  plan.machine = "desk";
  plan.world_size = 2;
  plan.graph = *std::move(graph);
  plan.budget_bytes = {8192, 0, 0, 0};
  plan.hash = "0123";
  plan.seconds_to_plan = 0.25;
  RankPlan r;
  r.ranks = {0, 1};
  r.lanes = {{"compute", LaneKind::kCompute, {0, 1, 3, 4, 5, 6, 7}},
             {"comm:data", LaneKind::kComm, {2}}};
  r.edges = {{0, 3, EdgeKind::kData},    {1, 2, EdgeKind::kAsync}, {2, 3, EdgeKind::kData},
             {3, 4, EdgeKind::kData},    {4, 5, EdgeKind::kData},  {5, 6, EdgeKind::kData},
             {4, 6, EdgeKind::kControl}, {3, 7, EdgeKind::kData},  {1, 6, EdgeKind::kHazard},
             {0, 1, EdgeKind::kLane},    {6, 7, EdgeKind::kLane}};
  int64_t at = 0;
  for (const Buffer& buffer : plan.graph.buffers()) {
    r.offset.push_back(at);
    at += (buffer.bytes + 63) / 64 * 64;
  }
  r.arena_bytes = {at, 0, 4096, 0};
  r.persistent_bytes = {256, 0, 0, 0};
  r.live_bytes_bound = {at - 64, 0, 4096, 0};
  r.at_peak = {{Tier::kDevice, "saved/a/0", 400}, {Tier::kHost, "batches", 4096}};
  r.credits = {{"prefetch", 1, "buckets", {{1, 4, 1}}}};
  for (size_t i = 0; i < plan.graph.nodes().size(); ++i) {
    r.start_time.push_back(static_cast<double>(i) * 1e-3);
    r.seconds.push_back(1e-3);
    r.reason.push_back("reason of " + plan.graph.nodes()[i].name);
  }
  plan.rank_plans.push_back(std::move(r));
  return plan;
}

}  // namespace millrace

#endif  // MILLRACE_GRAPH_PLAN_TESTING_SMALL_PLAN_H_
