// Limits how many transient gradients exist at a time: the backward that begins a new one waits until those
// that were complete before the backward before it have been reduced (and added up). One reduction at a time
// then has a whole backward to hide behind, and memory holds about two stages' gradients instead of all.
// Without overlap, and where nothing is communicated, a gradient is used up before the next one begins.
//
// before   backward/c/0(...) -> ..., grad/bucket_0/c/0
//          reduce_scatter/bucket_0/0(grad/bucket_0/c/0) -> grad/bucket_0
//          backward/b/0(...) -> ..., grad/bucket_1/b/0
//          reduce_scatter/bucket_1/0(grad/bucket_1/b/0) -> grad/bucket_1
//          backward/a/0(...) -> grad/bucket_2/a/0
// after    ...
//          backward/a/0(...) -> grad/bucket_2/a/0 after reduce_scatter/bucket_0/0
//
// An accumulate that frees a gradient moves down to the backward that waits for it, or to the reader of its
// sum: the reduction before it may then be split and hidden. All edges point forward in the text.
#ifndef MILLRACE_GRAPH_LOWER_REDUCE_WINDOW_H_
#define MILLRACE_GRAPH_LOWER_REDUCE_WINDOW_H_

#include <memory>

#include "graph/lower/pass.h"

namespace millrace {

std::unique_ptr<Pass> ReduceWindow();

}  // namespace millrace

#endif  // MILLRACE_GRAPH_LOWER_REDUCE_WINDOW_H_
