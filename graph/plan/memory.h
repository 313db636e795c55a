// Gives every buffer its place in its tier's arena: persistent ones first, in the graph's order, then the
// transient ones, each at the lowest offset that fits among those in use at the same time. The result depends
// on the order in which they are placed and no order is best everywhere, so four are tried - largest first,
// largest bytes x lifetime first, earliest first, longest-lived first - and the best is then improved by
// a local search. The largest number of live bytes, which no placement can beat, stands beside it.
#ifndef MILLRACE_GRAPH_PLAN_MEMORY_H_
#define MILLRACE_GRAPH_PLAN_MEMORY_H_

#include <array>
#include <string>
#include <vector>

#include "graph/plan/liveness.h"
#include "graph/plan/plan.h"

namespace millrace {

struct MemoryPlan {
  std::vector<int64_t> offset;  // per buffer, multiple of 64
  std::array<int64_t, kTiers> arena_bytes{};
  std::array<int64_t, kTiers> persistent_bytes{};
  std::array<int64_t, kTiers> live_bytes_bound{};
  std::array<std::string, kTiers> packing;  // the order that won: "by size", "by area", ...
  std::vector<PeakEntry> at_peak;
};

MemoryPlan PlaceBuffers(const Graph& graph, const std::vector<LiveRange>& ranges);

// Only the bound, for comparing orders.
int64_t LiveBytesBound(const Graph& graph, const std::vector<LiveRange>& ranges, Tier tier);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_PLAN_MEMORY_H_
