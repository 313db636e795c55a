// Packs blocks with lifetimes into as few bytes as it can: two blocks whose lifetimes meet get different bytes.
// NP-hard in general; greedy placement in several orders is within a few percent of the bound on training steps.
//
//   Packing p = Pack(blocks, largest_live_bytes);     // p.offset[i] is block i's place
#ifndef MILLRACE_GRAPH_PLAN_PACKING_H_
#define MILLRACE_GRAPH_PLAN_PACKING_H_

#include <cstdint>
#include <string>
#include <vector>

#include "graph/plan/liveness.h"

namespace millrace {

struct Block {
  int64_t bytes = 0;
  LiveRange live;
};

struct Packing {
  std::vector<int64_t> offset;  // per block
  int64_t bytes = 0;            // the highest end
  std::string order;            // "by size", "by area", "by birth", "by lifetime", "... improved"
};

// Stops as soon as `bound` is met; otherwise a local search improves the best order. Up to 8000 blocks all orders are tried (quadratic); beyond that only the
// order of birth, which needs to look at live blocks only.
Packing Pack(const std::vector<Block>& blocks, int64_t bound);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_PLAN_PACKING_H_
