#include "graph/lower/lower.h"

#include "absl/strings/str_cat.h"
#include "graph/base/status.h"
#include "graph/ir/type_check.h"
#include "graph/lower/accumulate.h"
#include "graph/lower/bucket.h"
#include "graph/lower/cross_memory.h"
#include "graph/lower/expand_stages.h"
#include "graph/lower/offload.h"
#include "graph/lower/offload_inputs.h"
#include "graph/lower/optimizer.h"
#include "graph/lower/pinned_copies.h"
#include "graph/lower/prefetch.h"
#include "graph/lower/recompute.h"
#include "graph/lower/reduce_window.h"
#include "graph/lower/shard_state.h"
#include "graph/lower/split_async.h"
#include "graph/lower/stage_batches.h"

namespace millrace {
namespace {

absl::StatusOr<Graph> RunPasses(const std::vector<std::unique_ptr<Pass>>& passes, Graph graph,
                                const LowerContext& context, const LowerObserver& observer) {
  for (const std::unique_ptr<Pass>& pass : passes) {
    absl::StatusOr<Graph> next = pass->Run(graph, context);
    if (!next.ok())
      return Annotate(next.status(), "lowering ", context.spec.name, ", pass ", pass->name());
    graph = *std::move(next);
    if (observer) observer(pass->name(), graph);
    const Findings findings = CheckTypes(graph);
    if (findings.ok()) continue;
    return absl::InternalError(absl::StrCat("lowering ", context.spec.name, ": pass ", pass->name(),
                                            " made a wrong graph\n", findings.ToText()));
  }
  return graph;
}

// `graph` with the persistent buffers of `like`, in their order, in front of its own others.
absl::StatusOr<Graph> AdoptPersistentBuffers(const Graph& like, const Graph& graph) {
  GraphBuilder builder(graph.name());
  for (const auto& [group, size] : graph.groups()) builder.SetGroup(group, size);
  for (const Bucket& bucket : graph.buckets()) builder.AddBucket(bucket);
  absl::flat_hash_map<std::string, BufferId> persistent;
  for (const Buffer& buffer : like.buffers()) {
    if (buffer.persistent) persistent[buffer.name] = builder.AddBuffer(buffer);
  }
  std::vector<BufferId> renumbered;
  for (const Buffer& buffer : graph.buffers()) {
    if (!buffer.persistent) {
      renumbered.push_back(builder.AddBuffer(buffer));
      continue;
    }
    const auto it = persistent.find(buffer.name);
    if (it == persistent.end() || builder.buffer(it->second).bytes != buffer.bytes) {
      return absl::InvalidArgumentError(
          absl::StrCat("the evaluation model keeps '", buffer.name,
                       "', which the training model does not keep in the same size"));
    }
    renumbered.push_back(it->second);
  }
  for (Value value : graph.values()) {
    value.buffer = renumbered[value.buffer];
    builder.AddValue(std::move(value));
  }
  for (const Node& node : graph.nodes()) builder.AddNode(node);
  return std::move(builder).Build();
}

}  // namespace

std::vector<std::unique_ptr<Pass>> Passes(const LowerOptions& options) {
  std::vector<std::unique_ptr<Pass>> passes;
  passes.push_back(ExpandStages());
  if (options.kind == StepKind::kTrain) {
    passes.push_back(RecomputeStages());
    passes.push_back(OffloadInputs());
  }
  passes.push_back(BucketParameters());
  if (options.kind == StepKind::kTrain) {
    passes.push_back(Accumulate());
    passes.push_back(OptimizerStep());
  }
  passes.push_back(ShardState());
  passes.push_back(OffloadState());
  passes.push_back(PinnedCopies());
  passes.push_back(Prefetch());
  passes.push_back(ReduceWindow());
  passes.push_back(StageBatches());
  passes.push_back(CrossMemory());
  passes.push_back(SplitAsync());
  return passes;
}

absl::StatusOr<Graph> Lower(const ModelSpec& spec, const LowerOptions& options,
                            const LowerObserver& observer) {
  RETURN_IF_ERROR(Check(options));
  const LowerContext context{spec, options};
  const bool evaluate = options.kind == StepKind::kEvaluate;
  ASSIGN_OR_RETURN(Graph empty, GraphBuilder(evaluate ? "evaluate" : "train").Build());
  ASSIGN_OR_RETURN(Graph graph, RunPasses(Passes(options), std::move(empty), context, observer));
  if (!evaluate || options.alone) return graph;
  LowerOptions train = options;
  train.kind = StepKind::kTrain;
  ASSIGN_OR_RETURN(Graph like, Lower(spec, train, nullptr));
  return AdoptPersistentBuffers(like, graph);
}

absl::StatusOr<Graph> Lower(const ModelSpec& spec, const LowerOptions& options) {
  return Lower(spec, options, nullptr);
}

}  // namespace millrace
