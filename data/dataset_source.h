// Labelled images of one shape as samples: reads a Dataset, augments and normalises.
//
//   ASSIGN_OR_RETURN(auto source, MakeDatasetSource(dataset, augment));      // "images", "labels"
#ifndef MILLRACE_DATA_DATASET_SOURCE_H_
#define MILLRACE_DATA_DATASET_SOURCE_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "data/augment.h"
#include "data/dataset.h"
#include "data/sample_source.h"

namespace millrace {

// `fields` in the order of the result: images f32 [C, H, W], labels i64 [], keys i64 []. A sample
// without randomness (evaluation) is only resized and normalised. kInvalidArgument names all mistakes
// of the options and unknown fields.
absl::StatusOr<std::shared_ptr<const SampleSource>> MakeDatasetSource(
    std::shared_ptr<const Dataset> dataset, const AugmentOptions& augment,
    const std::vector<std::string>& fields = {"images", "labels"});

}  // namespace millrace

#endif  // MILLRACE_DATA_DATASET_SOURCE_H_
