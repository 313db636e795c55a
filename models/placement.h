// From the trace of a stage's allocations to a place for each: offsets in the node's workspace and in the
// block that lives from forward to backward. Pure arithmetic over lifetimes, without torch.
//
//   forward   alloc 0 (saved), alloc 1, free 1, alloc 2 (output)
//   backward  alloc 3, free 0, alloc 4, free 3, free 4
//
// gives saved = {0}, workspace forward {1}, output {2}, workspace backward {3}, and puts 4 into the place
// of 0, which is free by then: a stage's backward lives mostly in the memory that its forward left.
// In the same way forward's scratch goes to places whose saved tensors come later.
#ifndef MILLRACE_MODELS_PLACEMENT_H_
#define MILLRACE_MODELS_PLACEMENT_H_

#include <cstdint>
#include <map>
#include <vector>

#include "graph/ir/model_spec.h"
#include "models/allocator.h"

namespace millrace {

// Allocations that are a tensor of the graph, by id: region kOutput, kInputGrad or kParamGrad, and index.
using BoundaryAllocations = std::map<int32_t, Placement>;

struct StageTrace {
  std::vector<AllocationEvent> forward;   // ids count from 0
  std::vector<AllocationEvent> backward;  // ids go on; frees of forward's allocations are in here
  BoundaryAllocations boundary;
};

struct StagePlacement {
  AllocationPlan forward, backward;
  int64_t saved_bytes = 0;
};

StagePlacement PlaceTraining(const StageTrace& trace);

// For a node that saves nothing.
AllocationPlan PlaceAlone(const std::vector<AllocationEvent>& events,
                          const BoundaryAllocations& boundary);

}  // namespace millrace

#endif  // MILLRACE_MODELS_PLACEMENT_H_
