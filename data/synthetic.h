// Images of independent standard normal values with random labels: what a timing pipeline trains
// on, so that neither disk nor decoding stands beside the step. Generated once, before the first
// step.
//
// Image i and its label depend on (seed, i, shape) only - not on how many are generated or by which
// rank - so options.first = 0 and options.first = 1000 are two different parts of one endless
// source.
#ifndef MILLRACE_DATA_SYNTHETIC_H_
#define MILLRACE_DATA_SYNTHETIC_H_

#include <memory>

#include "absl/status/statusor.h"
#include "data/dataset.h"

namespace millrace {

// Uses options.shape, classes, seed, first and count. kResourceExhausted when the images would take
// more than half of the machine's memory.
absl::StatusOr<std::shared_ptr<const Dataset>> MakeSynthetic(const DatasetOptions& options);

}  // namespace millrace

#endif  // MILLRACE_DATA_SYNTHETIC_H_
