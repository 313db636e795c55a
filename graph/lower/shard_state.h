// Makes the step of one rank the step of N ranks (ZeRO). One rank: nothing changes, but that offloaded parameters are
// gathered bucket by bucket all the same. Two ranks, one stage a,
// one bucket; before:
//
//   forward/a/0(images/0, labels/0, param/bucket_0) -> loss/0, logits/0, saved/a/0
//   backward/a/0(images/0, labels/0, saved/a/0, param/bucket_0) -> grad/bucket_0/a/0
//   join/bucket_0/0(grad/bucket_0/a/0) -> grad/bucket_0
//   adamw/bucket_0(param/bucket_0, grad/bucket_0, exp_avg/bucket_0, ...) -> param/bucket_0', ...
//
// stage 0: gradients are summed in place, every rank updates everything
//   all_reduce/bucket_0/0(grad/bucket_0/a/0) -> grad/bucket_0
//
// stage 1: each rank gets its part of the sum, in place, and updates its own shard; the states are shards
//   reduce_scatter/bucket_0/0(grad/bucket_0/a/0) -> grad/bucket_0
//   adamw/bucket_0(param/bucket_0/own, grad/bucket_0, exp_avg/bucket_0, ...) -> param/bucket_0/own', ...
//   all_gather/bucket_0/update(param/bucket_0/own') -> param/bucket_0'
//
// stage 2: as stage 1; the whole gradient is transient, its sum goes to a persistent shard
//
// stage 3: the parameters too are shards, gathered before they are used
//   all_gather/bucket_0/forward/0(param/bucket_0) -> gathered/bucket_0/forward/0
//   forward/a/0(images/0, labels/0, gathered/bucket_0/forward/0) -> loss/0, logits/0, saved/a/0
//   backward/a/0(images/0, labels/0, saved/a/0, gathered/bucket_0/forward/0) -> grad/bucket_0/a/0
//   reduce_scatter/bucket_0/0(grad/bucket_0/a/0) -> grad/bucket_0
//   adamw/bucket_0(param/bucket_0, grad/bucket_0, ...) -> param/bucket_0', ...
//
// Accumulation: with REDUCE_EACH every micro-batch's join becomes the collective, so what is added up are sums
// over the ranks, at every stage in the same order. With the other policies joins stay, and
// "reduce_scatter/bucket_0/<last m>" follows the last accumulate.
//
// Stage 3 gathers a bucket once for all its neighbouring uses: once in forward, again in backward of each
// micro-batch ("all_gather/bucket_0/backward/0"). Kept instead of gathered again: with KEEP_GATHERED
// everything; else a bucket of the last stage, whose backward follows its forward at once: releasing it would
// free its bytes for no node and put a gather on the critical path (LowerOptions::keep_at_turn).
//
// Clipping at stages 1 to 3: every rank has norms of its shards; "all_gather/norm" stands between norm_sum and
// clip_coefficient.
#ifndef MILLRACE_GRAPH_LOWER_SHARD_STATE_H_
#define MILLRACE_GRAPH_LOWER_SHARD_STATE_H_

#include <memory>

#include "graph/lower/pass.h"
#include "graph/lower/rewriter.h"

namespace millrace {

std::unique_ptr<Pass> ShardState();

namespace lower_internal {

// The three parts of the pass, for N > 1.
absl::Status ReduceGradients(const Graph& graph, const LowerOptions& options, Rewriter* r);
absl::Status ShardOptimizer(const Graph& graph, const LowerOptions& options, Rewriter* r);
absl::Status GatherParameters(const Graph& graph, const LowerOptions& options, Rewriter* r);

// `value` becomes one rank's part of a bucket of `numel` elements: a buffer of its own holds just that, or
// (own) its place inside the whole.
void MakeShard(int64_t numel, const LowerOptions& options, bool own, Value* value);

Node MakeCollective(std::string name, CollectiveOp op, int64_t count, DType dtype,
                    const LowerOptions& options);

}  // namespace lower_internal
}  // namespace millrace

#endif  // MILLRACE_GRAPH_LOWER_SHARD_STATE_H_
