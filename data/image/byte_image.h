// A decoded picture: what codecs give, generators draw on and transforms read. Rows from top to
// bottom, the channels of a pixel side by side.
//
//   ByteImage image(450, 600, 3);
//   image.at(y, x)[0] = 255;                       // red
#ifndef MILLRACE_DATA_IMAGE_BYTE_IMAGE_H_
#define MILLRACE_DATA_IMAGE_BYTE_IMAGE_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace millrace {

// 1 channel: grey. 3: red, green, blue. 4: the same and one byte without meaning, so that a pixel
// is one vector of four.
struct ByteImage {
  ByteImage() = default;
  ByteImage(int h, int w, int c, uint8_t value = 0)
      : height(h), width(w), channels(c), pixels(static_cast<size_t>(h) * w * c, value) {}

  int height = 0, width = 0, channels = 0;
  std::vector<uint8_t> pixels;

  size_t stride() const { return static_cast<size_t>(width) * channels; }
  uint8_t* row(int y) { return pixels.data() + y * stride(); }
  const uint8_t* row(int y) const { return pixels.data() + y * stride(); }
  uint8_t* at(int y, int x) { return row(y) + static_cast<size_t>(x) * channels; }
  const uint8_t* at(int y, int x) const { return row(y) + static_cast<size_t>(x) * channels; }
};

}  // namespace millrace

#endif  // MILLRACE_DATA_IMAGE_BYTE_IMAGE_H_
