// Opens any kind of data set from its options; pipelines name the kind, nothing above data/ needs
// to know the readers.
#ifndef MILLRACE_DATA_OPEN_DATASET_H_
#define MILLRACE_DATA_OPEN_DATASET_H_

#include <memory>

#include "absl/status/statusor.h"
#include "data/dataset.h"

namespace millrace {

// Reads or generates everything now, so that a bad file is an error before the first step. Relative
// paths are taken from the working directory.
absl::StatusOr<std::shared_ptr<const Dataset>> OpenDataset(const DatasetOptions& options);

}  // namespace millrace

#endif  // MILLRACE_DATA_OPEN_DATASET_H_
