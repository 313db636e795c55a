// The reverse of split_async.h, for pairs under which nothing runs in the planned order: the halves become one
// synchronous node where the start stood, which saves a launch and two wake-ups.
//
// before   all_gather/bucket_0/forward/0.start(param/bucket_0)
//          forward/b/0(act/a/0) -> act/b/0
//          all_gather/bucket_0/forward/0.done() -> gathered/bucket_0/forward/0
// after    all_gather/bucket_0/forward/0(param/bucket_0) -> gathered/bucket_0/forward/0
//          forward/b/0(act/a/0) -> act/b/0
//
// An operation touches its bytes from its start on, so that is its place in the text. A pair whose done waits for
// something behind the start stays a pair.
#ifndef MILLRACE_GRAPH_LOWER_JOIN_ASYNC_H_
#define MILLRACE_GRAPH_LOWER_JOIN_ASYNC_H_

#include <vector>

#include "absl/status/statusor.h"
#include "graph/ir/graph.h"

namespace millrace {

// `starts` are start halves of the graph.
absl::StatusOr<Graph> JoinAsync(const Graph& graph, const std::vector<NodeId>& starts);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_LOWER_JOIN_ASYNC_H_
