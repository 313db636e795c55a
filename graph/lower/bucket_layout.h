// How parameters are packed into flat buckets, which are gathered, reduced and updated as one.
//
// Buckets are filled in the order in which gradients appear, last stage first, and closed when they have
// reached the limit: bucket_0 is reduced first. A stage that is larger than the limit is split between its
// parameters. Inside a bucket, parameters stand in the model's order, each at a multiple of 16 elements; the
// bucket's end is padded to 16 x ranks elements, so that shards are equal and start at 64 bytes.
//
//   limit 100 B, 2 ranks      bucket_0: head.weight 0, head.bias 16   numel 32
//                             bucket_1: ...
//
// Padding holds zeros: in parameters and states from the start, in gradients because backward clears what its
// slice has between and behind its parameters. Norms and updates then run over whole buckets.
#ifndef MILLRACE_GRAPH_LOWER_BUCKET_LAYOUT_H_
#define MILLRACE_GRAPH_LOWER_BUCKET_LAYOUT_H_

#include <vector>

#include "absl/status/statusor.h"
#include "graph/ir/graph.h"
#include "graph/ir/model_spec.h"

namespace millrace {

// All parameters must have one element type.
absl::StatusOr<std::vector<Bucket>> LayoutBuckets(const ModelSpec& spec, int64_t limit_bytes,
                                                  int ranks);

// The elements of `bucket` that belong to `stage`: slices of a bucket's stages tile it, padding included.
struct Slice {
  int64_t offset = 0;
  int64_t numel = 0;  // 0: the stage has nothing in this bucket
};
Slice SliceOf(const Bucket& bucket, int stage);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_LOWER_BUCKET_LAYOUT_H_
