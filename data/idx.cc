#include "data/idx.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "data/byte_dataset.h"
#include "data/file.h"
#include "graph/base/status.h"

namespace millrace {
namespace {

constexpr char kHelp[] =
    "data/digits of this repository holds a small IDX data set; MNIST's files are used after "
    "gunzip";

absl::string_view TypeName(uint8_t type) {
  switch (type) {
    case 0x08:
      return "unsigned byte";
    case 0x09:
      return "signed byte";
    case 0x0B:
      return "16-bit integer";
    case 0x0C:
      return "32-bit integer";
    case 0x0D:
      return "32-bit float";
    case 0x0E:
      return "64-bit float";
    default:
      return "unknown";
  }
}

std::string HexByte(uint8_t byte) { return absl::StrCat(absl::Hex(byte, absl::kZeroPad2)); }

absl::Status Bad(const std::string& path, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat(path, ": ", what));
}

}  // namespace

absl::StatusOr<IdxHeader> ParseIdxHeader(const std::string& path, absl::Span<const uint8_t> file) {
  const int64_t size = static_cast<int64_t>(file.size());
  if (size >= 2 && file[0] == 0x1f && file[1] == 0x8b) {
    return Bad(path, "is compressed with gzip; help: gunzip it first");
  }
  if (size < 4) {
    return Bad(path,
               absl::StrCat("truncated: an IDX file starts with 4 bytes of magic number, file "
                            "has ",
                            size, " bytes"));
  }
  if (file[0] != 0 || file[1] != 0) {
    return Bad(
        path,
        absl::StrCat(
            "wrong magic number ", HexByte(file[0]), " ", HexByte(file[1]), " ", HexByte(file[2]),
            " ", HexByte(file[3]),
            " at byte 0, expected 00 00 08 01 (labels) or 00 00 08 03 (images) of an IDX file"));
  }
  if (file[2] != 0x08) {
    return Bad(path, absl::StrCat("element type 0x", HexByte(file[2]), " (", TypeName(file[2]),
                                  ") at byte 2, expected 0x08 (unsigned byte)"));
  }
  const int dims = file[3];
  IdxHeader header;
  header.data_offset = 4 + 4 * dims;
  if (dims == 0) return Bad(path, "0 dimensions at byte 3, expected 1 (labels), 3 or 4 (images)");
  if (size < header.data_offset) {
    return Bad(path, absl::StrCat("truncated: header of ", dims, " dimensions needs ",
                                  header.data_offset, " bytes, file has ", size, " bytes"));
  }
  // No file is near 2^62 bytes; stopping there keeps the product of hostile dimensions from
  // wrapping.
  constexpr int64_t kLimit = int64_t{1} << 62;
  int64_t elements = 1;
  for (int d = 0; d < dims; ++d) {
    const uint8_t* p = file.data() + 4 + 4 * d;
    const int64_t dim = (int64_t{p[0]} << 24) | (p[1] << 16) | (p[2] << 8) | p[3];
    if (dim == 0) return Bad(path, absl::StrCat("dimension ", d, " at byte ", 4 + 4 * d, " is 0"));
    header.dims.push_back(dim);
    elements = dim > kLimit / elements ? kLimit : elements * dim;
  }
  const int64_t promised = header.data_offset + elements;
  if (size != promised) {
    const std::string what = dims == 1 ? absl::StrCat(elements, " labels")
                                       : absl::StrJoin(header.dims, " x ") + " pixels";
    return Bad(path, absl::StrCat(size < promised ? "truncated" : "too long", ": header promises ",
                                  what, " (", promised, " bytes), file has ", size, " bytes"));
  }
  return header;
}

absl::StatusOr<std::shared_ptr<const Dataset>> OpenIdx(const DatasetOptions& options) {
  if (options.images.empty() || options.labels.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("an IDX data set needs a file of images and a file of labels; ",
                     options.images.empty() ? "images" : "labels", " is not set; help: ", kHelp));
  }
  ASSIGN_OR_RETURN(const std::vector<uint8_t> images, ReadFile(options.images, kHelp));
  ASSIGN_OR_RETURN(const std::vector<uint8_t> labels, ReadFile(options.labels, kHelp));
  ASSIGN_OR_RETURN(const IdxHeader image_header, ParseIdxHeader(options.images, images));
  ASSIGN_OR_RETURN(const IdxHeader label_header, ParseIdxHeader(options.labels, labels));
  const size_t image_dims = image_header.dims.size();
  const size_t label_dims = label_header.dims.size();
  if (image_dims != 3 && image_dims != 4) {
    return Bad(options.images,
               absl::StrCat(image_dims,
                            " dimensions at byte 3, expected 3 (count, "
                            "height, width) or 4 (count, channels, height, width)",
                            image_dims == 1 ? "; help: this is a file of labels" : ""));
  }
  if (label_dims != 1) {
    return Bad(options.labels,
               absl::StrCat(label_dims, " dimensions at byte 3, expected 1",
                            label_dims >= 3 ? "; help: this is a file of images" : ""));
  }
  const int64_t total = image_header.dims[0];
  if (label_header.dims[0] != total) {
    return absl::InvalidArgumentError(absl::StrCat(
        options.images, " has ", total, " images and ", options.labels, " has ",
        label_header.dims[0], " labels, expected as many; help: do both belong to one split?"));
  }
  ByteImages out;
  out.name = options.images;
  out.scale = options.scale;
  out.shape.channels = image_dims == 4 ? static_cast<int>(image_header.dims[1]) : 1;
  out.shape.height = static_cast<int>(image_header.dims[image_dims - 2]);
  out.shape.width = static_cast<int>(image_header.dims[image_dims - 1]);

  // All labels count, not only the kept part: training and test part must agree on the classes.
  const uint8_t* label = labels.data() + label_header.data_offset;
  const int largest = *std::max_element(label, label + total);
  out.classes = options.classes > 0 ? options.classes : largest + 1;
  if (largest >= out.classes) {
    const int64_t at =
        std::find_if(label, label + total, [&](uint8_t l) { return l >= out.classes; }) - label;
    return Bad(options.labels, absl::StrCat("label ", label[at], " of sample ", at, " (byte ",
                                            label_header.data_offset + at,
                                            ") is out of range, "
                                            "expected 0..",
                                            out.classes - 1, " for ", out.classes, " classes"));
  }
  ASSIGN_OR_RETURN(const SampleRange range, ResolveRange(options, total, options.images));
  out.first = range.first;
  out.labels.assign(label + range.first, label + range.first + range.count);
  const uint8_t* pixel =
      images.data() + image_header.data_offset + range.first * out.shape.elements();
  out.pixels.assign(pixel, pixel + range.count * out.shape.elements());
  return MakeByteDataset(std::move(out));
}

}  // namespace millrace
