// A graph as one line per node, for tests, the headers of passes and people:
//
//   forward/a/0(images/0, param/bucket_1) -> act/a/0, saved/a/0
//   all_gather/bucket_0/forward/0.start(param/bucket_0) after forward/a/0
#ifndef MILLRACE_GRAPH_LOWER_LISTING_H_
#define MILLRACE_GRAPH_LOWER_LISTING_H_

#include <string>

#include "graph/ir/graph.h"

namespace millrace {

std::string Listing(const Graph& graph);

// One line per buffer: "param/bucket_0 4096 B parameter, persistent".
std::string BufferListing(const Graph& graph);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_LOWER_LISTING_H_
