#include "data/byte_dataset.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "graph/base/status.h"

namespace millrace {
namespace {

class ByteDataset : public Dataset {
 public:
  explicit ByteDataset(ByteImages images) : images_(std::move(images)) {}

  int64_t size() const override { return static_cast<int64_t>(images_.labels.size()); }
  ImageShape shape() const override { return images_.shape; }
  int classes() const override { return images_.classes; }
  std::string description() const override {
    const ImageShape& s = images_.shape;
    return absl::StrCat(images_.name, " [", images_.first, ", ", images_.first + size(),
                        "): ", size(), " images of ", s.channels, "x", s.height, "x", s.width, ", ",
                        images_.classes, " classes");
  }

  absl::Status Get(int64_t index, absl::Span<float> pixels, int64_t* label) const override {
    RETURN_IF_ERROR(CheckGet(*this, index, pixels.size()));
    const int64_t n = images_.shape.elements();
    const uint8_t* from = images_.pixels.data() + index * n;
    float* to = pixels.data();
    const float scale = images_.scale;
    // A division, not a product with the reciprocal: the largest value must become exactly 1.
    for (int64_t i = 0; i < n; ++i) to[i] = static_cast<float>(from[i]) / scale;
    *label = images_.labels[index];
    return absl::OkStatus();
  }

 private:
  const ByteImages images_;
};

}  // namespace

absl::StatusOr<SampleRange> ResolveRange(const DatasetOptions& options, int64_t total,
                                         absl::string_view name) {
  const int64_t count = options.count < 0 ? total - options.first : options.count;
  if (options.first < 0 || options.first > total || count > total - options.first) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": the split asks for samples [", options.first, ", ",
                     options.count < 0 ? "end" : absl::StrCat(options.first + count),
                     "), the file has ", total, "; help: lower first or count"));
  }
  if (count == 0) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": the split [", options.first, ", ",
                                                   options.first, ") of ", total,
                                                   " samples is empty; help: set count"));
  }
  return SampleRange{options.first, count};
}

absl::StatusOr<std::shared_ptr<const Dataset>> MakeByteDataset(ByteImages images) {
  if (!(images.scale > 0)) {
    return absl::InvalidArgumentError(absl::StrCat(images.name, ": scale is ", images.scale,
                                                   ", expected the largest pixel value"));
  }
  uint8_t largest = 0;
  for (uint8_t p : images.pixels) largest = p > largest ? p : largest;
  if (largest > images.scale) {
    const int64_t n = images.shape.elements();
    size_t at = 0;
    while (images.pixels[at] <= images.scale) ++at;
    return absl::InvalidArgumentError(absl::StrCat(
        images.name, ": pixel ", at % n, " of image ", images.first + static_cast<int64_t>(at / n),
        " is ", images.pixels[at], ", above scale ", images.scale,
        "; help: set scale to the largest value a pixel can have (", largest > 16 ? 255 : 16, ")"));
  }
  return std::make_shared<const ByteDataset>(std::move(images));
}

absl::Status CheckGet(const Dataset& dataset, int64_t index, size_t pixels) {
  if (index < 0 || index >= dataset.size()) {
    return absl::OutOfRangeError(
        absl::StrCat("sample ", index, " does not exist in ", dataset.description()));
  }
  if (static_cast<int64_t>(pixels) != dataset.shape().elements()) {
    return absl::InvalidArgumentError(absl::StrCat("room for ", pixels, " pixels, expected ",
                                                   dataset.shape().elements(), " for ",
                                                   dataset.description()));
  }
  return absl::OkStatus();
}

}  // namespace millrace
