// JPEG and PNG files to pixels and back, by libjpeg-turbo and libpng. Whatever is wrong with a file
// is a status that names it; nothing prints, exits or throws.
//
//   ByteImage image;
//   RETURN_IF_ERROR(DecodeImage(bytes, path, {}, &image));              // by the file's own signature
//   RETURN_IF_ERROR(WriteFileAtomically(path, *EncodeJpeg(image, 90)));
//
// A file that ends early or whose coded data do not fit together is an error, although libjpeg would
// fill the rest with grey: a network should not learn from it.
#ifndef MILLRACE_DATA_IMAGE_CODEC_H_
#define MILLRACE_DATA_IMAGE_CODEC_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "data/image/byte_image.h"

namespace millrace {

struct DecodeOptions {
  // 1: grey. 4: colour. Files of either kind give both.
  int channels = 4;
  // JPEG only: the picture may come out a half, a quarter or an eighth as large as it is stored, as
  // long as it has at least this many rows and columns; 0: its own size. Saves most of the decoding of
  // large pictures.
  int min_height = 0;
  int min_width = 0;
};

// Size of the picture as stored, whatever size it was decoded at.
struct StoredSize {
  int height = 0, width = 0;
};

// What the header says, without decoding; zeros where it is not to be found. Cheap: a file's headers
// are looked through once.
StoredSize PeekSize(absl::Span<const uint8_t> bytes);

// JPEG: grey, YCbCr, RGB, CMYK and YCCK (with Adobe's inverted inks), baseline and progressive. PNG:
// grey, colour, palette, 1 to 16 bits, interlaced; transparency is dropped. EXIF orientation is not
// applied: annotations of data sets refer to the pixels as stored. `image` keeps its memory between
// calls. kInvalidArgument: not an image of these formats, kDataLoss: damaged.
absl::Status DecodeImage(absl::Span<const uint8_t> bytes, absl::string_view name,
                         const DecodeOptions& options, ByteImage* image,
                         StoredSize* stored = nullptr);
absl::Status DecodeJpeg(absl::Span<const uint8_t> bytes, absl::string_view name,
                        const DecodeOptions& options, ByteImage* image,
                        StoredSize* stored = nullptr);
absl::Status DecodePng(absl::Span<const uint8_t> bytes, absl::string_view name,
                       const DecodeOptions& options, ByteImage* image,
                       StoredSize* stored = nullptr);

// Of 1, 3 or 4 channels. Quality 1..100.
absl::StatusOr<std::vector<uint8_t>> EncodeJpeg(const ByteImage& image, int quality);
// Of 1 or 3 channels.
absl::StatusOr<std::vector<uint8_t>> EncodePng(const ByteImage& image);

}  // namespace millrace

#endif  // MILLRACE_DATA_IMAGE_CODEC_H_
