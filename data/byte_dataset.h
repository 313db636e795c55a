// What IDX and CIFAR readers share: resolving the part of the file that was asked for, and a data
// set over images kept in memory as bytes (a quarter of their size as floats; one copy serves all
// ranks of a process).
#ifndef MILLRACE_DATA_BYTE_DATASET_H_
#define MILLRACE_DATA_BYTE_DATASET_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "data/dataset.h"

namespace millrace {

struct SampleRange {
  int64_t first = 0;
  int64_t count = 0;
};

// options.first and options.count held against the `total` samples of the source called `name`.
absl::StatusOr<SampleRange> ResolveRange(const DatasetOptions& options, int64_t total,
                                         absl::string_view name);

struct ByteImages {
  std::string name;   // the file, for messages
  int64_t first = 0;  // place of the first image in the file, for messages
  ImageShape shape;
  int classes = 0;
  float scale = 255;
  std::vector<uint8_t> pixels;  // shape.elements() for each label
  std::vector<uint8_t> labels;  // already checked to be below `classes`
};

// kInvalidArgument when a pixel is above the scale: the result would leave [0, 1].
absl::StatusOr<std::shared_ptr<const Dataset>> MakeByteDataset(ByteImages images);

// The errors of a wrong Get() call, the same for every data set.
absl::Status CheckGet(const Dataset& dataset, int64_t index, size_t pixels);

}  // namespace millrace

#endif  // MILLRACE_DATA_BYTE_DATASET_H_
