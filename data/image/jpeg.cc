#include <algorithm>
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>

// jpeglib.h needs stdio's types before it.
#include <jerror.h>
#include <jpeglib.h>

#include "absl/strings/str_cat.h"
#include "data/image/codec.h"
#include "data/image/limits.h"
#include "graph/base/status.h"

namespace millrace {
namespace {

// libjpeg reports through callbacks; the first error jumps back to where the call began. Nothing
// with a destructor lives between the two.
struct ErrorManager {
  jpeg_error_mgr base;  // first: libjpeg hands back a pointer to it
  jmp_buf back;
  char message[JMSG_LENGTH_MAX];
  bool damaged;
};

void JumpBack(j_common_ptr info) {
  auto* errors = reinterpret_cast<ErrorManager*>(info->err);
  errors->base.format_message(info, errors->message);
  std::longjmp(errors->back, 1);
}

// Level -1 is a warning: libjpeg goes on with made-up pixels. What changes no pixel is let pass.
void StopAtDamage(j_common_ptr info, int level) {
  if (level >= 0) return;
  switch (info->err->msg_code) {
    case JWRN_ADOBE_XFORM:
    case JWRN_BOGUS_ICC:
    case JWRN_EXTRANEOUS_DATA:
    case JWRN_JFIF_MAJOR:
      return;
    default:
      reinterpret_cast<ErrorManager*>(info->err)->damaged = true;
      JumpBack(info);
  }
}

void SayNothing(j_common_ptr) {}

jpeg_error_mgr* Prepare(ErrorManager* errors) {
  jpeg_std_error(&errors->base);
  errors->base.error_exit = JumpBack;
  errors->base.emit_message = StopAtDamage;
  errors->base.output_message = SayNothing;
  errors->damaged = false;
  errors->message[0] = 0;
  return &errors->base;
}

bool IsDamage(const ErrorManager& errors) {
  return errors.damaged || errors.base.msg_code == JERR_INPUT_EOF;
}

// Inks to light. Adobe's files hold 255 - ink, and nearly all CMYK files are Adobe's.
void InksToColour(const uint8_t* cmyk, int width, bool inverted, int channels, uint8_t* out) {
  for (int x = 0; x < width; ++x, cmyk += 4, out += channels) {
    int rgb[3];
    for (int c = 0; c < 3; ++c) {
      const int light = inverted ? cmyk[c] : 255 - cmyk[c];
      const int paper = inverted ? cmyk[3] : 255 - cmyk[3];
      rgb[c] = (light * paper + 127) / 255;
    }
    if (channels == 1) {
      out[0] = static_cast<uint8_t>((299 * rgb[0] + 587 * rgb[1] + 114 * rgb[2] + 500) / 1000);
    } else {
      for (int c = 0; c < 3; ++c) out[c] = static_cast<uint8_t>(rgb[c]);
      out[3] = 255;
    }
  }
}

// The smallest number of eighths that leaves `size` at least `wanted`: of 1, 2, 4 and 8, for which
// libjpeg-turbo has vector code. What lies between takes longer than the whole picture.
int Eighths(int size, int wanted) {
  int eighths = 1;
  while (eighths < 8 && (int64_t{size} * eighths + 7) / 8 < wanted) eighths *= 2;
  return eighths;
}

// Everything that may jump. False: errors->message says why.
bool Decode(jpeg_decompress_struct* info, ErrorManager* errors, absl::Span<const uint8_t> bytes,
            const DecodeOptions& options, ByteImage* image, std::vector<uint8_t>* inks,
            StoredSize* stored) {
  if (setjmp(errors->back) != 0) return false;
  jpeg_create_decompress(info);
  jpeg_mem_src(info, bytes.data(), static_cast<unsigned long>(bytes.size()));
  jpeg_read_header(info, TRUE);
  *stored = {static_cast<int>(info->image_height), static_cast<int>(info->image_width)};
  if (!IsDecodable(*stored)) {
    std::snprintf(errors->message, sizeof(errors->message), "%d x %d pixels are more than %d MiB",
                  stored->height, stored->width, kLargestPicture >> 20);
    return false;
  }
  const bool cmyk = info->jpeg_color_space == JCS_CMYK || info->jpeg_color_space == JCS_YCCK;
  info->out_color_space = cmyk ? JCS_CMYK : options.channels == 1 ? JCS_GRAYSCALE : JCS_EXT_RGBX;
  if (options.min_height > 0 && options.min_width > 0) {
    const int eighths = std::max(Eighths(stored->height, options.min_height),
                                 Eighths(stored->width, options.min_width));
    info->scale_num = static_cast<unsigned>(eighths);
    info->scale_denom = 8;
  }
  jpeg_start_decompress(info);
  image->height = static_cast<int>(info->output_height);
  image->width = static_cast<int>(info->output_width);
  image->channels = options.channels;
  image->pixels.resize(static_cast<size_t>(image->height) * image->stride());
  if (cmyk) inks->resize(static_cast<size_t>(image->width) * 4);
  while (info->output_scanline < info->output_height) {
    const int y = static_cast<int>(info->output_scanline);
    if (cmyk) {
      JSAMPROW row = inks->data();
      jpeg_read_scanlines(info, &row, 1);
      InksToColour(inks->data(), image->width, info->saw_Adobe_marker != 0, options.channels,
                   image->row(y));
    } else {
      JSAMPROW rows[4];
      const int count = std::min(4, image->height - y);
      for (int i = 0; i < count; ++i) rows[i] = image->row(y + i);
      jpeg_read_scanlines(info, rows, static_cast<JDIMENSION>(count));
    }
  }
  jpeg_finish_decompress(info);
  return true;
}

bool Encode(jpeg_compress_struct* info, ErrorManager* errors, const ByteImage& image, int quality,
            unsigned char** bytes, unsigned long* size) {
  if (setjmp(errors->back) != 0) return false;
  jpeg_create_compress(info);
  jpeg_mem_dest(info, bytes, size);
  info->image_height = static_cast<JDIMENSION>(image.height);
  info->image_width = static_cast<JDIMENSION>(image.width);
  info->input_components = image.channels;
  info->in_color_space = image.channels == 1   ? JCS_GRAYSCALE
                         : image.channels == 3 ? JCS_RGB
                                               : JCS_EXT_RGBX;
  jpeg_set_defaults(info);
  jpeg_set_quality(info, quality, TRUE);
  jpeg_start_compress(info, TRUE);
  while (info->next_scanline < info->image_height) {
    JSAMPROW row = const_cast<uint8_t*>(image.row(static_cast<int>(info->next_scanline)));
    jpeg_write_scanlines(info, &row, 1);
  }
  jpeg_finish_compress(info);
  return true;
}

}  // namespace

absl::Status DecodeJpeg(absl::Span<const uint8_t> bytes, absl::string_view name,
                        const DecodeOptions& options, ByteImage* image, StoredSize* stored) {
  jpeg_decompress_struct info;
  std::memset(&info, 0, sizeof(info));
  ErrorManager errors;
  info.err = Prepare(&errors);
  std::vector<uint8_t> inks;
  StoredSize size;
  const bool ok = Decode(&info, &errors, bytes, options, image, &inks, &size);
  jpeg_destroy_decompress(&info);
  if (stored != nullptr) *stored = size;
  if (ok) return absl::OkStatus();
  if (IsDamage(errors)) {
    return absl::DataLossError(absl::StrCat(name, ": damaged or cut off JPEG of ", bytes.size(),
                                            " bytes: ", errors.message));
  }
  return absl::InvalidArgumentError(
      absl::StrCat(name, ": not a JPEG that can be read: ", errors.message));
}

absl::StatusOr<std::vector<uint8_t>> EncodeJpeg(const ByteImage& image, int quality) {
  if (image.height < 1 || image.width < 1 || image.channels < 1 || image.channels == 2 ||
      image.channels > 4 || quality < 1 || quality > 100) {
    return absl::InvalidArgumentError(
        absl::StrCat("JPEG of ", image.height, " x ", image.width, " pixels, ", image.channels,
                     " channels, quality ", quality,
                     "; expected 1 or more pixels, 1, 3 or 4 channels, quality 1..100"));
  }
  jpeg_compress_struct info;
  std::memset(&info, 0, sizeof(info));
  ErrorManager errors;
  info.err = Prepare(&errors);
  unsigned char* bytes = nullptr;
  unsigned long size = 0;
  const bool ok = Encode(&info, &errors, image, quality, &bytes, &size);
  jpeg_destroy_compress(&info);
  std::vector<uint8_t> out;
  if (ok) out.assign(bytes, bytes + size);
  free(bytes);
  if (!ok) return absl::InternalError(absl::StrCat("JPEG encoder: ", errors.message));
  return out;
}

}  // namespace millrace
