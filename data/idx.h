// Reader of IDX files, the format of MNIST, Fashion-MNIST and the digits in data/digits.
//
//   byte 0, 1   zero
//   byte 2      element type; 0x08 (unsigned byte) is the one read here
//   byte 3      number of dimensions d
//   4 + 4 k     dimension k as a big-endian 32-bit number, d of them
//   4 + 4 d     the elements, last dimension fastest
//
// Images have 3 dimensions (count, height, width) or 4 (count, channels, height, width), labels 1.
#ifndef MILLRACE_DATA_IDX_H_
#define MILLRACE_DATA_IDX_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "data/dataset.h"

namespace millrace {

struct IdxHeader {
  std::vector<int64_t> dims;
  int64_t data_offset = 0;  // byte where the elements start
};

// Reads and checks a header against the bytes of the whole file called `path` (for messages).
absl::StatusOr<IdxHeader> ParseIdxHeader(const std::string& path, absl::Span<const uint8_t> file);

// options.images and options.labels, read whole; the part options.first, options.count is kept.
absl::StatusOr<std::shared_ptr<const Dataset>> OpenIdx(const DatasetOptions& options);

}  // namespace millrace

#endif  // MILLRACE_DATA_IDX_H_
