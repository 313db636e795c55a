// Reader of the binary CIFAR-10 and CIFAR-100 files. A file is records without a header, so its
// length is the only thing that tells a good file from a bad one, next to labels in range:
//
//   CIFAR-10    label, 3072 pixels                        3073 bytes a record
//   CIFAR-100   coarse label, fine label, 3072 pixels     3074 bytes a record
//
// Pixels are 1024 red, 1024 green, 1024 blue bytes, rows of 32: channel, row, column order already.
#ifndef MILLRACE_DATA_CIFAR_H_
#define MILLRACE_DATA_CIFAR_H_

#include <memory>

#include "absl/status/statusor.h"
#include "data/dataset.h"

namespace millrace {

constexpr int kCifarSide = 32;
constexpr int kCifarPixels = 3 * kCifarSide * kCifarSide;
constexpr int kCifar100Coarse = 20;
constexpr int kCifar100Fine = 100;

// options.files read in order as one data set; the part options.first, options.count is kept.
// options.kind says which of the two layouts.
absl::StatusOr<std::shared_ptr<const Dataset>> OpenCifar(const DatasetOptions& options);

}  // namespace millrace

#endif  // MILLRACE_DATA_CIFAR_H_
