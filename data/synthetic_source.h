// Random samples of any tensors that a model's batch may have, for timing pipelines: nothing is read
// or decoded beside the step.
//
//   images*: normal values   masks*: an ellipse   boxes, classes: a few objects, the rest -1
//   labels: below `classes`  spacing: 1, halves of the size: 2   keys: the sample's
//
// Sample i depends on (seed, i, field) only. All are generated at the start.
#ifndef MILLRACE_DATA_SYNTHETIC_SOURCE_H_
#define MILLRACE_DATA_SYNTHETIC_SOURCE_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "data/sample_source.h"

namespace millrace {

struct SyntheticSourceOptions {
  std::vector<FieldSpec> fields;
  int64_t first = 0, count = 1;
  int64_t classes = 10;  // of labels and of boxes
  uint64_t seed = 0;
};

// kInvalidArgument for fields of unknown name or another type than theirs; kResourceExhausted when the
// samples would take more than half of the machine's memory.
absl::StatusOr<std::shared_ptr<const SampleSource>> MakeSyntheticSource(
    const SyntheticSourceOptions& options);

}  // namespace millrace

#endif  // MILLRACE_DATA_SYNTHETIC_SOURCE_H_
