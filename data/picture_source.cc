#include "data/picture_source.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "data/file.h"
#include "data/image/codec.h"
#include "graph/base/status.h"

namespace millrace {
namespace {

struct Scratch : SampleScratch {
  ByteImage image, mask;
  ResampleScratch resample;
};

// Where each tensor lies among the fields; -1: not asked for.
struct Layout {
  std::vector<int> images, masks;  // by scale
  int boxes = -1, classes = -1, spacing = -1, keys = -1;
  int channels = 3;
  int64_t max_objects = 0;
};

// A mask file: 255 (or anything above the middle) is inside; a file of zeros and ones means these.
absl::Status ReadMask(const std::string& path, ByteImage* mask) {
  ASSIGN_OR_RETURN(const std::vector<uint8_t> bytes,
                   ReadFile(path, "every picture needs its mask"));
  RETURN_IF_ERROR(DecodeImage(bytes, path, {1}, mask));
  const uint8_t largest = *std::max_element(mask->pixels.begin(), mask->pixels.end());
  const uint8_t limit = largest <= 1 ? 1 : 128;
  for (uint8_t& v : mask->pixels) v = v >= limit ? 1 : 0;
  return absl::OkStatus();
}

// "images.2" -> 2, "images" -> 0; -1 when it is not this name.
int ScaleOf(absl::string_view name, absl::string_view base) {
  if (name == base) return 0;
  int scale = -1;
  if (!absl::StartsWith(name, absl::StrCat(base, ".")) ||
      !absl::SimpleAtoi(name.substr(base.size() + 1), &scale) || scale < 1) {
    return -1;
  }
  return scale;
}

class Source : public PictureSource {
 public:
  Source(PictureSet set, const std::vector<FieldSpec>& fields, const PictureSourceOptions& options,
         Layout layout)
      : PictureSource(std::move(set), options), fields_(fields), layout_(std::move(layout)) {}

  int64_t size() const override { return static_cast<int64_t>(set_.pictures.size()); }
  const std::vector<FieldSpec>& fields() const override { return fields_; }
  std::string description() const override {
    return absl::StrCat(set_.name, ": ", size(), " pictures with ", set_.masks ? "masks" : "boxes");
  }
  std::string NameOf(int64_t index) const override { return set_.pictures[index].image; }
  std::unique_ptr<SampleScratch> NewScratch() const override { return std::make_unique<Scratch>(); }

  absl::Status Get(int64_t index, const SampleKey& key, absl::Span<void* const> out,
                   SampleScratch* given) const override {
    if (index < 0 || index >= size()) {
      return absl::OutOfRangeError(
          absl::StrCat("sample ", index, " does not exist in ", description()));
    }
    auto* scratch = static_cast<Scratch*>(given);
    const Picture& picture = set_.pictures[index];
    ASSIGN_OR_RETURN(const std::vector<uint8_t> bytes,
                     ReadFile(picture.image, "fetch it, or set data.on_error: SKIP"));
    const CounterRng rng = key.rng();
    const CounterRng* chance = key.random ? &rng : nullptr;
    const StoredSize first = SizeOf(layout_.images[0]);
    DecodeOptions decode;
    StoredSize stored = PeekSize(bytes);
    PictureMap map;
    if (stored.height > 0 && stored.width > 0) {
      map = DrawGeometry(options_.augment, stored, first.height, first.width, chance);
      for (const int field : layout_.images) {
        const StoredSize size = SizeOf(field);
        const StoredSize needed = NeededSize(map, stored, size.height, size.width);
        decode.min_height = std::max(decode.min_height, needed.height);
        decode.min_width = std::max(decode.min_width, needed.width);
      }
    }
    RETURN_IF_ERROR(DecodeImage(bytes, picture.image, decode, &scratch->image, &stored));
    if (picture.height > 0 && (picture.height != stored.height || picture.width != stored.width)) {
      return absl::InvalidArgumentError(absl::StrCat(
          picture.image, ": has ", stored.height, " x ", stored.width, " pixels, its annotations ",
          "are for ", picture.height, " x ", picture.width));
    }
    map = DrawGeometry(options_.augment, stored, first.height, first.width, chance);
    FillImages(stored, map, chance, out, scratch);
    if (!layout_.masks.empty()) {
      RETURN_IF_ERROR(ReadMask(picture.mask, &scratch->mask));
      for (const int field : layout_.masks) {
        const std::vector<int64_t>& shape = fields_[field].shape;
        ResampleMask(scratch->mask, stored, map, static_cast<int>(shape[0]),
                     static_cast<int>(shape[1]), static_cast<uint8_t*>(out[field]));
      }
    }
    if (layout_.boxes >= 0 || layout_.classes >= 0) FillBoxes(picture, map, out);
    if (layout_.spacing >= 0) FillSpacing(picture, map, out);
    if (layout_.keys >= 0) *static_cast<int64_t*>(out[layout_.keys]) = key.value();
    return absl::OkStatus();
  }

 private:
  StoredSize SizeOf(int image_field) const {
    const std::vector<int64_t>& shape = fields_[image_field].shape;
    return {static_cast<int>(shape[1]), static_cast<int>(shape[2])};
  }

  void FillImages(const StoredSize& stored, const PictureMap& map, const CounterRng* chance,
                  absl::Span<void* const> out, Scratch* scratch) const {
    const ColourJitter jitter = DrawColour(options_.augment, chance);
    double grey = 0;
    for (size_t s = 0; s < layout_.images.size(); ++s) {
      const int field = layout_.images[s];
      const StoredSize size = SizeOf(field);
      const int64_t pixels = int64_t{size.height} * size.width;
      Resample(scratch->image, stored, map, size.height, size.width, &scratch->resample);
      const float* packed = scratch->resample.packed.data();
      if (s == 0 && jitter.contrast != 1) grey = MeanGrey(packed, pixels);
      ToPlanes(packed, pixels, ColourOf(options_.augment, jitter, grey), layout_.channels,
               static_cast<float*>(out[field]));
    }
  }

  // Largest objects first, so that what does not fit M is the least.
  void FillBoxes(const Picture& picture, const PictureMap& map, absl::Span<void* const> out) const {
    struct Kept {
      MovedBox box;
      int64_t label;
    };
    std::vector<Kept> kept;
    for (const PictureObject& object : picture.objects) {
      if (object.crowd || object.box.width <= 0 || object.box.height <= 0) continue;
      const MovedBox box = MoveBox(object.box, map);
      if (box.visible < options_.augment.box_visible_min || box.width <= 0 || box.height <= 0) {
        continue;
      }
      kept.push_back({box, ClassOf(object.category)});
    }
    const auto larger = [](const Kept& a, const Kept& b) {
      return a.box.width * a.box.height > b.box.width * b.box.height;
    };
    if (static_cast<int64_t>(kept.size()) > layout_.max_objects) {
      std::stable_sort(kept.begin(), kept.end(), larger);
      kept.resize(layout_.max_objects);
    }
    for (int64_t m = 0; m < layout_.max_objects; ++m) {
      const bool there = m < static_cast<int64_t>(kept.size());
      if (layout_.boxes >= 0) {
        float* box = static_cast<float*>(out[layout_.boxes]) + 4 * m;
        const MovedBox b = there ? kept[m].box : MovedBox();
        box[0] = static_cast<float>(b.cx), box[1] = static_cast<float>(b.cy);
        box[2] = static_cast<float>(b.width), box[3] = static_cast<float>(b.height);
      }
      if (layout_.classes >= 0) {
        static_cast<int64_t*>(out[layout_.classes])[m] = there ? kept[m].label : -1;
      }
    }
  }

  void FillSpacing(const Picture& picture, const PictureMap& map,
                   absl::Span<void* const> out) const {
    auto* spacing = static_cast<float*>(out[layout_.spacing]);
    const StoredSize first = SizeOf(layout_.images[0]);
    const double unit =
        set_.spacing ? 1 : std::sqrt(PixelHeight(map, first.height) * PixelWidth(map, first.width));
    for (const int field : layout_.images) {
      const StoredSize size = SizeOf(field);
      *spacing++ = static_cast<float>(picture.spacing[0] * PixelHeight(map, size.height) / unit);
      *spacing++ = static_cast<float>(picture.spacing[1] * PixelWidth(map, size.width) / unit);
    }
  }

  const std::vector<FieldSpec> fields_;
  const Layout layout_;
};

// Finds the places of the fields; whatever does not fit is a finding.
Layout LayoutOf(const PictureSet& set, const std::vector<FieldSpec>& fields, Findings* findings) {
  Layout layout;
  const auto complain = [findings](std::string message, std::string help = "") {
    findings->Add({.check = "data", .message = std::move(message), .suggestion = std::move(help)});
  };
  std::map<int, int> images, masks;
  for (int f = 0; f < static_cast<int>(fields.size()); ++f) {
    const FieldSpec& field = fields[f];
    const auto expect = [&](DType dtype, size_t dimensions, const char* what) {
      if (field.dtype == dtype && field.shape.size() == dimensions) return true;
      complain(absl::StrCat("the model's '", field.name, "' is ", ToText(field),
                            " for each sample, expected ", Name(dtype), " ", what));
      return false;
    };
    const int image_scale = ScaleOf(field.name, "images"),
              mask_scale = ScaleOf(field.name, "masks");
    if (image_scale >= 0) {
      if (!expect(DType::kF32, 3, "[3 or 1, height, width]")) continue;
      images[image_scale] = f;
      if (field.shape[0] != 1 && field.shape[0] != 3) {
        complain(absl::StrCat("'", field.name, "' has ", field.shape[0],
                              " channels; pictures are read as 3 (colour) or 1 (grey)"),
                 "set the model's number of channels to 3 or 1");
      }
    } else if (mask_scale >= 0) {
      if (!set.masks) {
        complain(absl::StrCat("the model's '", field.name, "' needs a data set with masks, ",
                              set.name, " has boxes"),
                 "a detection model, or data.format: ISIC");
        continue;
      }
      if (expect(DType::kU8, 2, "[height, width]")) masks[mask_scale] = f;
    } else if (field.name == "boxes" || field.name == "classes") {
      if (!set.boxes) {
        complain(absl::StrCat("the model's '", field.name, "' needs a data set with boxes, ",
                              set.name, " has masks"),
                 "a segmentation model, or data.format: COCO");
        continue;
      }
      const bool boxes = field.name == "boxes";
      if (!(boxes ? expect(DType::kF32, 2, "[objects, 4]") : expect(DType::kI64, 1, "[objects]"))) {
        continue;
      }
      (boxes ? layout.boxes : layout.classes) = f;
      if (layout.max_objects != 0 && layout.max_objects != field.shape[0]) {
        complain("the model's 'boxes' and 'classes' have room for different numbers of objects");
      }
      layout.max_objects = field.shape[0];
    } else if (field.name == "spacing") {
      if (expect(DType::kF32, 2, "[scales, 2]")) layout.spacing = f;
    } else if (field.name == "keys") {
      if (expect(DType::kI64, 0, "[]")) layout.keys = f;
    } else {
      complain(
          absl::StrCat("the model's batch has '", field.name, "', which ", set.name,
                       " cannot give; it has images, ", set.masks ? "masks" : "boxes, classes",
                       ", spacing and keys"),
          field.name == "labels" ? "a classification model reads data.format IDX or CIFAR100" : "");
    }
  }
  for (const auto& [scale, f] : images) {
    if (scale != static_cast<int>(layout.images.size())) {
      complain(absl::StrCat("'", fields[f].name, "' without the scale before it"));
    }
    layout.images.push_back(f);
  }
  for (const auto& [scale, f] : masks) layout.masks.push_back(f);
  if (images.empty() && findings->ok()) complain("the model's batch has no 'images'");
  if (layout.spacing >= 0 && fields[layout.spacing].shape.size() == 2 &&
      fields[layout.spacing].shape !=
          std::vector<int64_t>{static_cast<int64_t>(layout.images.size()), 2}) {
    complain(absl::StrCat("the model's 'spacing' is ", ToText(fields[layout.spacing]),
                          " for each sample, its images have ", layout.images.size(), " scales"));
  }
  if (!layout.images.empty()) {
    layout.channels = static_cast<int>(fields[layout.images[0]].shape[0]);
  }
  for (const int f : layout.images) {
    if (fields[f].shape[0] != layout.channels) {
      complain(absl::StrCat("'", fields[f].name, "' has another number of channels than 'images'"));
    }
  }
  return layout;
}

}  // namespace

int64_t PictureSource::ClassOf(int64_t category) const {
  if (!options_.contiguous_classes) return category;
  const auto at = std::lower_bound(set_.categories.begin(), set_.categories.end(), category,
                                   [](const PictureCategory& c, int64_t id) { return c.id < id; });
  return at - set_.categories.begin();
}

absl::StatusOr<ByteImage> PictureSource::Mask(int64_t index) const {
  ByteImage mask;
  RETURN_IF_ERROR(ReadMask(set_.pictures[index].mask, &mask));
  return mask;
}

absl::StatusOr<std::shared_ptr<const PictureSource>> MakePictureSource(
    PictureSet set, const std::vector<FieldSpec>& fields, const PictureSourceOptions& options) {
  Findings findings;
  Layout layout = LayoutOf(set, fields, &findings);
  CheckJointAugment(options.augment, layout.channels, &findings);
  if (options.classes > 0 && !set.categories.empty()) {
    const int64_t largest = options.contiguous_classes
                                ? static_cast<int64_t>(set.categories.size()) - 1
                                : set.categories.back().id;
    if (largest >= options.classes) {
      findings.Add({.check = "data",
                    .message = absl::StrCat(set.name, " has classes up to ", largest,
                                            ", the model has 0..", options.classes - 1),
                    .suggestion = absl::StrCat(
                        "set the model's num_classes to ", largest + 1,
                        options.contiguous_classes ? "" : " or data.contiguous_classes: true")});
    }
  }
  RETURN_IF_ERROR(findings.ToStatus());
  return std::make_shared<const Source>(std::move(set), fields, options, std::move(layout));
}

}  // namespace millrace
