// Splits collectives into a start and a done where compute can run between the two.
//
// before   all_gather/bucket_0/forward/0(param/bucket_0) -> gathered/bucket_0/forward/0
//          forward/b/0(act/a/0, gathered/bucket_1/forward/0) -> act/b/0
//          forward/c/0(act/b/0, gathered/bucket_0/forward/0) -> loss/0
// after    all_gather/bucket_0/forward/0.start(param/bucket_0)
//          forward/b/0(act/a/0, gathered/bucket_1/forward/0) -> act/b/0
//          all_gather/bucket_0/forward/0.done() -> gathered/bucket_0/forward/0
//          forward/c/0(act/b/0, gathered/bucket_0/forward/0) -> loss/0
//
// The start stands where the collective stood, the done right before the first node that needs the result, its
// bytes, or the bytes that it reads, or waits for it. With no compute between them the collective stays
// whole: two halves would cost a wake-up and hide nothing. Nodes that waited for the collective wait for done.
// With overlap = false nothing is split.
#ifndef MILLRACE_GRAPH_LOWER_SPLIT_ASYNC_H_
#define MILLRACE_GRAPH_LOWER_SPLIT_ASYNC_H_

#include <memory>

#include "graph/lower/pass.h"

namespace millrace {

std::unique_ptr<Pass> SplitAsync();

}  // namespace millrace

#endif  // MILLRACE_GRAPH_LOWER_SPLIT_ASYNC_H_
