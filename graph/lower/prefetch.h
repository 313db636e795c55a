// Decides how far ahead of its use a bucket is gathered (stage 3): gather j may begin when bucket j - depth
// comes into use, that is after the stage before it, so that at most `depth` buckets lie there waiting. Depth 0
// gathers a bucket right before its own use. Three stages, a bucket each, depth 1:
//
// before   all_gather/bucket_2/forward/0(param/bucket_2) -> gathered/bucket_2/forward/0
//          forward/a/0(..., gathered/bucket_2/forward/0) -> ...
//          all_gather/bucket_1/forward/0(param/bucket_1) -> gathered/bucket_1/forward/0
//          forward/b/0(...) -> ...
//          all_gather/bucket_0/forward/0(param/bucket_0) -> gathered/bucket_0/forward/0
//          forward/c/0(...) -> ...
// after    all_gather/bucket_2/forward/0(param/bucket_2) -> gathered/bucket_2/forward/0
//          all_gather/bucket_1/forward/0(param/bucket_1) -> gathered/bucket_1/forward/0
//          forward/a/0(..., gathered/bucket_2/forward/0) -> ...
//          all_gather/bucket_0/forward/0(param/bucket_0) -> gathered/bucket_0/forward/0 after forward/a/0
//          forward/b/0(...) -> ...
//          forward/c/0(...) -> ...
//
// All edges point forward in the text, so the window cannot deadlock, also where a stage needs several buckets
// at once. An offloaded shard is copied in before it is gathered: its copy begins one use earlier than the gather, so
// that both have a stage to hide behind; on one rank the copy is the gather. The planner reads the window's size off the result (plan/credits.h). prefetch_bytes lessens the
// depth where that many bytes would be waiting. Without overlap the depth is 0: waiting buckets hide nothing.
#ifndef MILLRACE_GRAPH_LOWER_PREFETCH_H_
#define MILLRACE_GRAPH_LOWER_PREFETCH_H_

#include <memory>

#include "graph/lower/pass.h"

namespace millrace {

std::unique_ptr<Pass> Prefetch();

}  // namespace millrace

#endif  // MILLRACE_GRAPH_LOWER_PREFETCH_H_
