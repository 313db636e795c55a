// Which prediction answers for which object: the assignment with the least total cost, as detection transformers
// (DETR) train with. No torch here.
//
//   std::vector<int64_t> column = Assign(cost, rows, columns);     // per row, -1: none
//   MatchQueries(image, options, match);                           // per query the object's index, -1: none
//
// Equal input gives equal output: among assignments of equal cost the same one is found every time. Costs that are
// not numbers count as very large, so that diverged training ends with a loss that is not a number, not in here.
#ifndef MILLRACE_MODELS_MATCHING_H_
#define MILLRACE_MODELS_MATCHING_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace millrace {

// cost: [rows, columns]. min(rows, columns) rows get a column each, by successive shortest augmenting paths with
// potentials (Jonker and Volgenant): O(min^2 * max).
std::vector<int64_t> Assign(absl::Span<const double> cost, int64_t rows, int64_t columns);

// What the three parts count, in matching or in the loss.
struct SetWeights {
  double classification = 1, l1 = 5, giou = 2;
};

struct MatchOptions {
  SetWeights weights;
  bool focal = true;  // classes by sigmoid, each alone; otherwise by softmax
  double alpha = 0.25, gamma = 2;
};

// One image: predictions, and objects of which those of class -1 are padding. Boxes: cx, cy, w, h.
struct ImageToMatch {
  const float* logits;                // [queries, classes]
  const float* boxes;                 // [queries, 4]
  const int64_t* target_classes;      // [targets]
  const float* target_boxes;          // [targets, 4]
  int64_t queries, classes, targets;  // of softmax, the last class is "no object"
};

// match: [queries]. With more objects than queries, the costliest objects stay without.
void MatchQueries(const ImageToMatch& image, const MatchOptions& options, int64_t* match);

}  // namespace millrace

#endif  // MILLRACE_MODELS_MATCHING_H_
