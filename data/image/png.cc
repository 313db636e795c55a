#include <png.h>

#include <csetjmp>
#include <cstdio>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "data/image/codec.h"
#include "data/image/limits.h"

namespace millrace {
namespace {

struct Errors {
  char message[200];
  bool ended;  // the file was shorter than its chunks
};

struct Source {
  const uint8_t* bytes;
  size_t left;
  Errors* errors;
};

void JumpBack(png_structp png, png_const_charp message) {
  auto* errors = static_cast<Errors*>(png_get_error_ptr(png));
  std::snprintf(errors->message, sizeof(errors->message), "%s", message);
  png_longjmp(png, 1);
}

void SayNothing(png_structp, png_const_charp) {}

void Take(png_structp png, png_bytep to, size_t count) {
  auto* source = static_cast<Source*>(png_get_io_ptr(png));
  if (count > source->left) {
    source->errors->ended = true;
    png_error(png, "the file ends early");
  }
  std::memcpy(to, source->bytes, count);
  source->bytes += count;
  source->left -= count;
}

void Give(png_structp png, png_bytep from, size_t count) {
  auto* out = static_cast<std::vector<uint8_t>*>(png_get_io_ptr(png));
  out->insert(out->end(), from, from + count);
}

void Flush(png_structp) {}

// Everything that may jump; nothing with a destructor lives in here. False: errors->message says
// why.
bool Decode(png_structp png, png_infop info, Source* source, const DecodeOptions& options,
            ByteImage* image, std::vector<png_bytep>* rows, StoredSize* stored) {
  if (setjmp(png_jmpbuf(png)) != 0) return false;
  png_set_read_fn(png, source, Take);
  png_read_info(png, info);
  *stored = {static_cast<int>(png_get_image_height(png, info)),
             static_cast<int>(png_get_image_width(png, info))};
  if (!IsDecodable(*stored)) {
    std::snprintf(source->errors->message, sizeof(source->errors->message),
                  "%d x %d pixels are more than %d MiB", stored->height, stored->width,
                  kLargestPicture >> 20);
    return false;
  }
  const int type = png_get_color_type(png, info);
  png_set_scale_16(png);
  png_set_packing(png);
  if (type == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(png);
  if (type == PNG_COLOR_TYPE_GRAY) png_set_expand_gray_1_2_4_to_8(png);
  // What a palette's or a key colour's transparency becomes is stripped with all other.
  png_set_strip_alpha(png);
  const bool grey = type == PNG_COLOR_TYPE_GRAY || type == PNG_COLOR_TYPE_GRAY_ALPHA;
  if (options.channels == 1 && !grey) png_set_rgb_to_gray_fixed(png, 1, 29900, 58700);
  if (options.channels == 4) {
    if (grey) png_set_gray_to_rgb(png);
    png_set_filler(png, 255, PNG_FILLER_AFTER);
  }
  png_set_interlace_handling(png);
  png_read_update_info(png, info);
  image->height = stored->height;
  image->width = stored->width;
  image->channels = options.channels;
  if (png_get_rowbytes(png, info) != image->stride()) png_error(png, "an unusual pixel layout");
  image->pixels.resize(image->height * image->stride());
  rows->resize(image->height);
  for (int y = 0; y < image->height; ++y) (*rows)[y] = image->row(y);
  png_read_image(png, rows->data());
  png_read_end(png, nullptr);
  return true;
}

bool Encode(png_structp png, png_infop info, const ByteImage& image, std::vector<uint8_t>* out) {
  if (setjmp(png_jmpbuf(png)) != 0) return false;
  png_set_write_fn(png, out, Give, Flush);
  png_set_IHDR(png, info, image.width, image.height, 8,
               image.channels == 1 ? PNG_COLOR_TYPE_GRAY : PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
               PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  png_write_info(png, info);
  for (int y = 0; y < image.height; ++y) png_write_row(png, image.row(y));
  png_write_end(png, info);
  return true;
}

}  // namespace

absl::Status DecodePng(absl::Span<const uint8_t> bytes, absl::string_view name,
                       const DecodeOptions& options, ByteImage* image, StoredSize* stored) {
  Errors errors = {"out of memory", false};
  Source source = {bytes.data(), bytes.size(), &errors};
  StoredSize size;
  std::vector<png_bytep> rows;
  png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &errors, JumpBack, SayNothing);
  png_infop info = png == nullptr ? nullptr : png_create_info_struct(png);
  const bool ok = info != nullptr && Decode(png, info, &source, options, image, &rows, &size);
  png_destroy_read_struct(&png, &info, nullptr);
  if (stored != nullptr) *stored = size;
  if (ok) return absl::OkStatus();
  // libpng stops at any chunk whose checksum or compressed data are wrong: damage, unless it never
  // got as far as a size.
  if (errors.ended || size.height > 0) {
    return absl::DataLossError(absl::StrCat(name, ": damaged or cut off PNG of ", bytes.size(),
                                            " bytes: ", errors.message));
  }
  return absl::InvalidArgumentError(
      absl::StrCat(name, ": not a PNG that can be read: ", errors.message));
}

absl::StatusOr<std::vector<uint8_t>> EncodePng(const ByteImage& image) {
  if (image.height < 1 || image.width < 1 || (image.channels != 1 && image.channels != 3)) {
    return absl::InvalidArgumentError(
        absl::StrCat("PNG of ", image.height, " x ", image.width, " pixels, ", image.channels,
                     " channels; expected 1 or more pixels and 1 or 3 channels"));
  }
  Errors errors = {"out of memory", false};
  std::vector<uint8_t> out;
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &errors, JumpBack, SayNothing);
  png_infop info = png == nullptr ? nullptr : png_create_info_struct(png);
  const bool ok = info != nullptr && Encode(png, info, image, &out);
  png_destroy_write_struct(&png, &info);
  if (!ok) return absl::InternalError(absl::StrCat("PNG encoder: ", errors.message));
  return out;
}

StoredSize PeekSize(absl::Span<const uint8_t> bytes) {
  const auto number = [&bytes](size_t at, int count) {
    int64_t value = 0;
    for (int i = 0; i < count; ++i) value = value << 8 | bytes[at + i];
    return value;
  };
  if (bytes.size() >= 24 && png_sig_cmp(bytes.data(), 0, 8) == 0) {
    const int64_t width = number(16, 4), height = number(20, 4);
    if (width > kLargestPicture || height > kLargestPicture) return {};
    return {static_cast<int>(height), static_cast<int>(width)};
  }
  // JPEG: segments of 0xff, kind, length; the frame header is of kind c0..cf without c4, c8 and cc.
  for (size_t at = 2; at + 9 <= bytes.size() && bytes[at] == 0xff;) {
    const uint8_t kind = bytes[at + 1];
    if (kind == 0xff) {  // padding
      ++at;
      continue;
    }
    if (kind >= 0xc0 && kind <= 0xcf && kind != 0xc4 && kind != 0xc8 && kind != 0xcc) {
      return {static_cast<int>(number(at + 5, 2)), static_cast<int>(number(at + 7, 2))};
    }
    at += 2 + static_cast<size_t>(number(at + 2, 2));
  }
  return {};
}

absl::Status DecodeImage(absl::Span<const uint8_t> bytes, absl::string_view name,
                         const DecodeOptions& options, ByteImage* image, StoredSize* stored) {
  if (bytes.empty()) return absl::InvalidArgumentError(absl::StrCat(name, ": is empty"));
  if (bytes.size() >= 8 && png_sig_cmp(bytes.data(), 0, 8) == 0) {
    return DecodePng(bytes, name, options, image, stored);
  }
  if (bytes.size() >= 3 && bytes[0] == 0xff && bytes[1] == 0xd8 && bytes[2] == 0xff) {
    return DecodeJpeg(bytes, name, options, image, stored);
  }
  return absl::InvalidArgumentError(
      absl::StrCat(name, ": is neither JPEG nor PNG: it begins with bytes ",
                   absl::Hex(bytes[0], absl::kZeroPad2), " ",
                   absl::Hex(bytes.size() > 1 ? bytes[1] : 0, absl::kZeroPad2)));
}

}  // namespace millrace
