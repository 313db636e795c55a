#include "pipelines/runner/open_pictures.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "data/coco.h"
#include "data/isic.h"
#include "data/picture_source.h"

namespace millrace {
namespace {

JointAugmentOptions AugmentOf(const Augment& a) {
  JointAugmentOptions o;
  o.horizontal_flip = a.horizontal_flip();
  o.vertical_flip = a.vertical_flip();
  o.rotation_degrees = a.rotation_degrees();
  o.scale_min = a.scale_min();
  o.scale_max = a.scale_max();
  o.shift_pixels = a.shift_pixels();
  o.crop_area_min = a.crop_area_min();
  o.crop_aspect = a.crop_aspect();
  o.brightness = a.brightness();
  o.contrast = a.contrast();
  o.saturation = a.saturation();
  o.box_visible_min = a.box_visible_min();
  o.mean.assign(a.mean().begin(), a.mean().end());
  o.std.assign(a.std().begin(), a.std().end());
  return o;
}

// Boxes as annotated, with crowds.
class BoxTruth final : public GroundTruth {
 public:
  BoxTruth(std::shared_ptr<const PictureSource> source, int64_t categories)
      : source_(std::move(source)), categories_(categories) {}
  int64_t categories() const override { return categories_; }
  absl::StatusOr<ImageTruth> Of(int64_t sample) const override {
    const Picture& picture = source_->set().pictures[sample];
    ImageTruth truth{picture.height, picture.width, {}};
    for (const PictureObject& o : picture.objects) {
      truth.objects.push_back({sample,
                               source_->ClassOf(o.category),
                               {o.box.x, o.box.y, o.box.width, o.box.height},
                               o.area,
                               o.crowd});
    }
    return truth;
  }

 private:
  const std::shared_ptr<const PictureSource> source_;
  const int64_t categories_;
};

std::string Under(const std::string& folder, const std::string& path) {
  return absl::StartsWith(path, "/") ? path : absl::StrCat(folder, "/", path);
}

absl::StatusOr<PictureSet> Read(const Data& data, const std::string& folder, bool evaluate) {
  const bool missing_is_error = data.on_error() == Data::FAIL;
  const bool own = evaluate && data.has_eval_split();
  if (data.format() == Data::ISIC) {
    IsicOptions o;
    o.folder = folder;
    if (data.has_annotations()) o.splits = Under(folder, data.annotations());
    o.split = own ? data.eval_split() : data.has_split() ? data.split() : "train";
    o.missing_is_error = missing_is_error;
    return ReadIsic(o);
  }
  const std::string split = own ? data.eval_split() : data.has_split() ? data.split() : "train2017";
  CocoOptions o;
  o.images = absl::StrCat(folder, "/", split);
  const std::string given = own ? data.eval_annotations() : data.annotations();
  o.annotations =
      Under(folder, given.empty() ? absl::StrCat("annotations/instances_", split, ".json") : given);
  o.missing_is_error = missing_is_error;
  return ReadCoco(o);
}

}  // namespace

void OpenPictures(const LoadedPipeline& pipeline, const std::vector<FieldSpec>& fields,
                  int64_t classes, const std::string& folder, bool evaluation, OpenedData* opened,
                  Findings* findings) {
  const Data& data = pipeline.proto.data();
  // Once, although training and evaluation would both say it.
  const auto complain = [&](const char* at, const absl::Status& status) {
    Findings said = FindingsOf(status);
    if (said.ok()) {
      const std::pair<std::string, std::string> parts =
          absl::StrSplit(status.message(), absl::MaxSplits("; help: ", 1));
      said.Add({.check = "data", .message = parts.first, .suggestion = parts.second});
    }
    for (const Finding& f : said.list()) {
      const std::string message =
          f.file.empty() ? f.message : absl::StrCat(f.file, ": ", f.message);
      bool known = false;
      for (const Finding& old : findings->list()) known |= old.message == message;
      if (!known) findings->Add(pipeline.At(at, f.check, message, f.suggestion));
    }
  };
  const auto open = [&](bool evaluate) -> std::shared_ptr<const PictureSource> {
    const char* const at = evaluate && data.has_eval_split() ? "data.eval_split"
                           : data.has_split()                ? "data.split"
                                                             : "data.folder";
    absl::StatusOr<PictureSet> set = Read(data, folder, evaluate);
    if (!set.ok()) {
      complain(at, set.status());
      return nullptr;
    }
    const int64_t total = static_cast<int64_t>(set->pictures.size());
    const int64_t first = evaluate ? data.eval_first() : data.first();
    const int64_t wanted = evaluate ? data.eval_count() : data.count();
    const int64_t count = wanted > 0 ? wanted : total - first;
    if (first >= total || count > total - first) {
      complain(evaluate ? "data.eval_count" : "data.count",
               absl::InvalidArgumentError(absl::StrCat(set->name, ": pictures [", first, ", ",
                                                       first + std::max<int64_t>(count, 1),
                                                       ") are asked for, it has ", total)));
      return nullptr;
    }
    set->pictures = {set->pictures.begin() + first, set->pictures.begin() + first + count};
    PictureSourceOptions o;
    o.augment = AugmentOf(data.augment());
    o.contiguous_classes = data.contiguous_classes();
    if (data.format() == Data::COCO) o.classes = classes;
    auto source = MakePictureSource(*std::move(set), fields, o);
    if (source.ok()) return *source;
    complain("data.format", source.status());
    return nullptr;
  };
  opened->train = open(/*evaluate=*/false);
  if (!evaluation) return;
  const auto evaluate = open(/*evaluate=*/true);
  opened->evaluate = evaluate;
  if (evaluate == nullptr || !evaluate->set().boxes) return;
  int64_t categories = 0;
  for (const PictureCategory& c : evaluate->set().categories) {
    categories = std::max(categories, evaluate->ClassOf(c.id) + 1);
  }
  opened->truth = std::make_shared<const BoxTruth>(evaluate, std::max(categories, int64_t{1}));
}

}  // namespace millrace
