#include "data/coco.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "data/file.h"
#include "graph/base/status.h"
#include "nlohmann/json.hpp"

namespace millrace {
namespace {

using Json = nlohmann::json;

constexpr char kHelp[] =
    "COCO's annotations_trainval2017.zip holds it; `millrace data make --format coco` writes a "
    "small "
    "data set in this layout";

bool Number(const Json& object, const char* key, double* out) {
  const auto at = object.find(key);
  if (at == object.end() || !at->is_number()) return false;
  *out = at->get<double>();
  return std::isfinite(*out);
}

bool Integer(const Json& object, const char* key, int64_t* out) {
  const auto at = object.find(key);
  if (at == object.end() || !at->is_number_integer()) return false;
  *out = at->get<int64_t>();
  return true;
}

// One annotation with the id of its picture; the sizes of pictures may come behind it in the file.
struct Annotation {
  int64_t image = 0;
  PictureObject object;
  int rle_height = 0, rle_width = 0;  // of an RLE, to compare with the picture's
};

class Reader {
 public:
  explicit Reader(const std::string& file) : file_(file), findings_("coco") {}

  // One member of the lists "images", "annotations", "categories".
  void Take(const std::string& list, const Json& json) {
    if (list == "images") return TakeImage(json);
    if (list == "annotations") return TakeAnnotation(json);
    if (list == "categories") return TakeCategory(json);
  }

  absl::StatusOr<PictureSet> Finish(const CocoOptions& options) {
    PictureSet set;
    set.name = file_;
    set.boxes = true;
    for (const auto& [id, name] : categories_) set.categories.push_back({id, name});
    std::map<int64_t, size_t> place;
    for (Picture& picture : pictures_) {
      picture.image = absl::StrCat(options.images, "/", picture.image);
      if (!place.emplace(picture.id, place.size()).second) {
        Complain("image", picture.id, "is there twice");
      }
      if (options.missing_is_error && access(picture.image.c_str(), R_OK) != 0) {
        findings_.Add(absl::StrCat(picture.image, ": no such file (image ", picture.id, ")"),
                      "fetch it, or set data.on_error: SKIP");
      }
    }
    if (pictures_.empty()) findings_.Add("has no images", kHelp, file_);
    if (categories_.empty()) findings_.Add("has no categories", kHelp, file_);
    for (const Annotation& a : annotations_) {
      const int64_t id = a.object.annotation;
      if (categories_.count(a.object.category) == 0) {
        Complain("annotation", id,
                 absl::StrCat("has category_id ", a.object.category,
                              ", which is no category of the file"));
      }
      const auto at = place.find(a.image);
      if (at == place.end() || at->second >= pictures_.size()) {
        Complain("annotation", id,
                 absl::StrCat("belongs to image ", a.image, ", which the file does not have"));
        continue;
      }
      Picture& picture = pictures_[at->second];
      if (a.rle_height > 0 && (a.rle_height != picture.height || a.rle_width != picture.width)) {
        Complain("annotation", id,
                 absl::StrCat("has an RLE of ", a.rle_height, " x ", a.rle_width, ", image ",
                              a.image, " has ", picture.height, " x ", picture.width));
      }
      picture.objects.push_back(a.object);
    }
    RETURN_IF_ERROR(findings_.ToStatus());
    set.pictures = std::move(pictures_);
    return set;
  }

 private:
  void Complain(const char* what, int64_t id, std::string message) {
    findings_.Add(absl::StrCat(what, " ", id, " ", message), "", file_);
  }

  void TakeImage(const Json& json) {
    Picture picture;
    int64_t height = 0, width = 0;
    const auto name = json.find("file_name");
    if (!Integer(json, "id", &picture.id) || name == json.end() || !name->is_string() ||
        !Integer(json, "height", &height) || !Integer(json, "width", &width) || height < 1 ||
        width < 1 || height > 65535 || width > 65535) {
      findings_.Add(absl::StrCat("image ", pictures_.size(),
                                 " of the list lacks one of id, file_name, height, width"),
                    "", file_);
      return;
    }
    picture.image = name->get<std::string>();
    picture.height = static_cast<int>(height);
    picture.width = static_cast<int>(width);
    pictures_.push_back(std::move(picture));
  }

  void TakeCategory(const Json& json) {
    int64_t id = 0;
    const auto name = json.find("name");
    if (!Integer(json, "id", &id) || id < 0) {
      findings_.Add(absl::StrCat("a category without an id of 0 or more: ", json.dump()), "",
                    file_);
      return;
    }
    const bool named = name != json.end() && name->is_string();
    if (!categories_.emplace(id, named ? name->get<std::string>() : "").second) {
      Complain("category", id, "is there twice");
    }
  }

  void TakeAnnotation(const Json& json) {
    Annotation a;
    PictureObject& o = a.object;
    if (!Integer(json, "id", &o.annotation)) {
      findings_.Add(absl::StrCat("annotation ", annotations_.size(), " of the list has no id"), "",
                    file_);
      return;
    }
    const int64_t id = o.annotation;
    if (!ids_.insert(id).second) Complain("annotation", id, "is there twice");
    if (!Integer(json, "image_id", &a.image) || !Integer(json, "category_id", &o.category)) {
      return Complain("annotation", id, "lacks image_id or category_id");
    }
    const auto box = json.find("bbox");
    bool good = box != json.end() && box->is_array() && box->size() == 4;
    for (size_t i = 0; good && i < 4; ++i) good = (*box)[i].is_number();
    if (!good) return Complain("annotation", id, "has no bbox of four numbers");
    o.box = {(*box)[0], (*box)[1], (*box)[2], (*box)[3]};
    if (!(o.box.width >= 0 && o.box.height >= 0)) {
      return Complain("annotation", id,
                      absl::StrCat("has a bbox of ", o.box.width, " x ", o.box.height, " pixels"));
    }
    if (!Number(json, "area", &o.area)) o.area = o.box.width * o.box.height;
    int64_t crowd = 0;
    Integer(json, "iscrowd", &crowd);
    o.crowd = crowd != 0;
    const auto region = json.find("segmentation");
    if (region != json.end()) {
      const absl::Status status = CheckRegion(*region, &a);
      if (!status.ok()) return Complain("annotation", id, std::string(status.message()));
    }
    annotations_.push_back(a);
  }

  static absl::Status CheckRegion(const Json& region, Annotation* a) {
    if (region.is_array()) {
      for (const Json& polygon : region) {
        if (!polygon.is_array() || polygon.size() < 6 || polygon.size() % 2 != 0) {
          return absl::InvalidArgumentError(absl::StrCat("has a polygon of ", polygon.size(),
                                                         " numbers, expected x and y of 3 "
                                                         "corners or more"));
        }
        for (const Json& v : polygon) {
          if (!v.is_number()) return absl::InvalidArgumentError("has a polygon of other things");
        }
      }
      return absl::OkStatus();
    }
    const auto size = region.find("size"), counts = region.find("counts");
    if (!region.is_object() || size == region.end() || counts == region.end() ||
        !size->is_array() || size->size() != 2 || !(*size)[0].is_number_integer() ||
        !(*size)[1].is_number_integer()) {
      return absl::InvalidArgumentError("has a segmentation that is neither polygons nor RLE");
    }
    a->rle_height = (*size)[0].get<int>(), a->rle_width = (*size)[1].get<int>();
    if (a->rle_height < 1 || a->rle_width < 1) {
      return absl::InvalidArgumentError("has an RLE without size");
    }
    if (counts->is_string()) {
      return RleFromString(counts->get_ref<const std::string&>(), a->rle_height, a->rle_width)
          .status();
    }
    std::vector<int64_t> runs;
    if (!counts->is_array()) return absl::InvalidArgumentError("has an RLE without counts");
    for (const Json& v : *counts) {
      if (!v.is_number_integer()) return absl::InvalidArgumentError("has an RLE of other things");
      runs.push_back(v.get<int64_t>());
    }
    return RleFromCounts(std::move(runs), a->rle_height, a->rle_width).status();
  }

  const std::string file_;
  CappedFindings findings_;
  std::vector<Picture> pictures_;
  std::vector<Annotation> annotations_;
  std::set<int64_t> ids_;
  std::map<int64_t, std::string> categories_;
};

}  // namespace

absl::StatusOr<PictureSet> ReadCoco(const CocoOptions& options) {
  const std::string& file = options.annotations;
  ASSIGN_OR_RETURN(const std::vector<uint8_t> bytes, ReadFile(file, kHelp));
  Reader reader(file);
  std::string list;
  // A member of a list is taken when it ends and is not kept in the tree.
  const auto take = [&](int depth, Json::parse_event_t event, Json& json) {
    if (event == Json::parse_event_t::key && depth == 1) list = json.get<std::string>();
    if (event != Json::parse_event_t::object_end || depth != 2) return true;
    reader.Take(list, json);
    return false;
  };
  const Json rest = Json::parse(bytes.begin(), bytes.end(), take, /*allow_exceptions=*/false);
  if (rest.is_discarded() || !rest.is_object()) {
    // Once more without a tree, for the place of the mistake.
    std::string why = "is not a JSON object";
    try {
      const Json ignored = Json::parse(bytes.begin(), bytes.end());
    } catch (const Json::exception& e) {
      why = e.what();
    }
    return absl::InvalidArgumentError(absl::StrCat(file, ": ", why));
  }
  return reader.Finish(options);
}

}  // namespace millrace
