// From a model to the graph of one training step, as every rank runs it: a pipeline of passes, each shown with
// a small graph before and after in its header. Between any two passes the graph's structure and types are
// checked, so a wrong pass is named by the error.
//
//   LowerOptions options = FromPipeline(pipeline);
//   ASSIGN_OR_RETURN(Graph train, Lower(spec, options));
//   options.kind = StepKind::kEvaluate;
//   ASSIGN_OR_RETURN(Graph evaluate, Lower(evaluation_spec, options));   // same persistent buffers
//
//   expand_stages   forward and backward of every stage and micro-batch
//   recompute       stages that run forward twice instead of keeping what backward needs
//   offload_inputs  what recomputed stages keep, in host memory
//   bucket          parameters and gradients in flat buckets
//   accumulate      one gradient per bucket
//   optimizer       clipping and updates
//   shard_state     ZeRO 0 to 3 over the ranks
//   offload         states and parameter shards in host memory or on storage
//   pinned_copies   what crosses in pinned memory *
//   prefetch        how far ahead parameters are gathered
//   reduce_window   how many transient gradients there are at a time
//   stage_batches   batches loaded by the host, copied to the device *
//   cross_memory    small values where they are read *
//   split_async     collectives beside compute
//
// * For a device with memory of its own.
//
// An evaluation step has the forward nodes only, but the same persistent buffers as the training step (name,
// size, order), so that both share one layout of the persistent bytes - unless it stands alone.
#ifndef MILLRACE_GRAPH_LOWER_LOWER_H_
#define MILLRACE_GRAPH_LOWER_LOWER_H_

#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "graph/ir/graph.h"
#include "graph/ir/model_spec.h"
#include "graph/lower/options.h"
#include "graph/lower/pass.h"

namespace millrace {

absl::StatusOr<Graph> Lower(const ModelSpec& spec, const LowerOptions& options);

// As Lower; `observer` sees the graph after every pass.
using LowerObserver = std::function<void(absl::string_view pass, const Graph& graph)>;
absl::StatusOr<Graph> Lower(const ModelSpec& spec, const LowerOptions& options,
                            const LowerObserver& observer);

// The passes of a step, in order.
std::vector<std::unique_ptr<Pass>> Passes(const LowerOptions& options);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_LOWER_LOWER_H_
