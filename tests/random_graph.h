// Random steps that are valid by construction, and something that runs them: what the property test of planner,
// verifier and executors draws from. Nodes read and write a few hundred numbers each, so that a thousand steps run in
// seconds, but have everything that real steps have: values in place, own shards, slices of one buffer, buffers that
// persist, groups within groups, collectives synchronous and split, control edges.
//
//   RandomGraph drawn = DrawGraph(seed);
//   absl::StatusOr<Plan> plan = MakePlan(drawn.graph, Machine(), {.world_size = drawn.world_size});
#ifndef MILLRACE_TESTS_RANDOM_GRAPH_H_
#define MILLRACE_TESTS_RANDOM_GRAPH_H_

#include <cstdint>
#include <vector>

#include "graph/ir/graph.h"

namespace millrace {

struct RandomGraph {
  Graph graph;
  int world_size = 1;  // 1 to 4
  int in_place = 0;    // updates in place, own shards and joins included
};

// What every node has read, by rank and node: StepContext::user points to one, with a place for every node.
using RandomGraphDigests = std::vector<std::vector<uint64_t>>;

// The operations are "blend" (any inputs, any outputs), "renew" (its first input in place), and the collectives and
// join of the product. Kernels of blend and renew are linked with this file; every number they write is a hash of all
// that they read, their node, rank and step.
RandomGraph DrawGraph(uint64_t seed);

}  // namespace millrace

#endif  // MILLRACE_TESTS_RANDOM_GRAPH_H_
