// How large a picture may be before its header counts as damage: a few bytes can claim 65535 x 65535.
#ifndef MILLRACE_DATA_IMAGE_LIMITS_H_
#define MILLRACE_DATA_IMAGE_LIMITS_H_

#include <cstdint>

#include "data/image/codec.h"

namespace millrace {

constexpr int kLargestPicture = 1 << 28;  // pixels: 16384 x 16384

inline bool IsDecodable(const StoredSize& size) {
  return size.height >= 1 && size.width >= 1 &&
         int64_t{size.height} * size.width <= kLargestPicture;
}

}  // namespace millrace

#endif  // MILLRACE_DATA_IMAGE_LIMITS_H_
