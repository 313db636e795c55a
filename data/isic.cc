#include "data/isic.h"

#include <unistd.h>

#include <cmath>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "data/file.h"
#include "graph/base/status.h"
#include "nlohmann/json.hpp"

namespace millrace {
namespace {

using Json = nlohmann::json;
constexpr char kSpacing[] = "spacing";

bool Exists(const std::string& path) { return access(path.c_str(), R_OK) == 0; }

// An id may be written as its file.
std::string IdOf(absl::string_view text) {
  for (const char* end : {".jpg", ".jpeg", ".png"}) {
    if (absl::ConsumeSuffix(&text, end)) break;
  }
  return std::string(text);
}

bool ReadSpacing(const Json& value, double spacing[2]) {
  if (value.is_number()) {
    spacing[0] = spacing[1] = value.get<double>();
  } else if (value.is_array() && value.size() == 2 && value[0].is_number() &&
             value[1].is_number()) {
    spacing[0] = value[0].get<double>(), spacing[1] = value[1].get<double>();
  } else {
    return false;
  }
  return spacing[0] > 0 && spacing[1] > 0 && std::isfinite(spacing[0]) && std::isfinite(spacing[1]);
}

}  // namespace

absl::StatusOr<PictureSet> ReadIsic(const IsicOptions& options) {
  const std::string file =
      options.splits.empty() ? options.folder + "/splits.json" : options.splits;
  ASSIGN_OR_RETURN(const std::vector<uint8_t> bytes,
                   ReadFile(file,
                            "{\"train\": [ids], \"val\": [ids]}; `millrace data make --format "
                            "isic` writes a small data set with one"));
  const Json json = Json::parse(bytes.begin(), bytes.end(), nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded() || !json.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(file, ": is not a JSON object of lists of image ids"));
  }
  CappedFindings findings("isic");
  std::vector<std::string> parts;
  std::map<std::string, std::string> part_of;
  for (const auto& [part, ids] : json.items()) {
    if (part == kSpacing) continue;
    parts.push_back(part);
    if (!ids.is_array()) {
      findings.Add(absl::StrCat("'", part, "' is no list of image ids"), "", file);
      continue;
    }
    for (const Json& id : ids) {
      if (!id.is_string()) {
        findings.Add(absl::StrCat("'", part, "' holds ", id.dump(), ", expected an image id"), "",
                     file);
        continue;
      }
      const std::string name = IdOf(id.get<std::string>());
      const auto [known, added] = part_of.emplace(name, part);
      if (added) continue;
      findings.Add(known->second == part
                       ? absl::StrCat(name, " is twice in '", part, "'")
                       : absl::StrCat(name, " is in '", known->second, "' and in '", part,
                                      "': what is trained on would be tested on"),
                   "", file);
    }
  }
  if (!json.contains(options.split) || options.split == kSpacing) {
    findings.Add(absl::StrCat("has no part '", options.split, "'"),
                 absl::StrCat("its parts are ", absl::StrJoin(parts, ", ")), file);
    return findings.ToStatus();
  }
  PictureSet set;
  set.name = absl::StrCat(file, " '", options.split, "'");
  set.masks = true;
  const Json* const spacings = json.contains(kSpacing) ? &json[kSpacing] : nullptr;
  int64_t with_spacing = 0;
  std::set<std::string> taken;
  for (const Json& id : json[options.split]) {
    if (!id.is_string()) continue;
    const std::string name = IdOf(id.get<std::string>());
    if (!taken.insert(name).second) continue;  // said above
    Picture picture;
    const std::string stem = absl::StrCat(options.folder, "/images/", name);
    picture.image = stem + ".jpg";
    for (const char* end : {".jpeg", ".png"}) {
      if (!Exists(picture.image) && Exists(stem + end)) picture.image = stem + end;
    }
    picture.mask = absl::StrCat(options.folder, "/masks/", name, "_segmentation.png");
    if (options.missing_is_error) {
      for (const std::string& path : {picture.image, picture.mask}) {
        if (!Exists(path)) {
          findings.Add(absl::StrCat(path, ": no such file"),
                       "fetch it, take its id out of the splits, or set data.on_error: SKIP");
        }
      }
    }
    if (spacings != nullptr && spacings->is_object() && spacings->contains(name)) {
      ++with_spacing;
      if (!ReadSpacing((*spacings)[name], picture.spacing)) {
        findings.Add(absl::StrCat("the spacing of ", name, " is ", (*spacings)[name].dump(),
                                  ", expected a number above 0, or two: height and width"),
                     "", file);
      }
    }
    set.pictures.push_back(std::move(picture));
  }
  set.spacing = with_spacing > 0;
  if (set.spacing && with_spacing < static_cast<int64_t>(set.pictures.size())) {
    findings.Add(
        absl::StrCat("'spacing' is given for ", with_spacing, " of the ", set.pictures.size(),
                     " pictures of '", options.split, "', expected all or none"),
        "", file);
  }
  if (set.pictures.empty()) findings.Add(absl::StrCat("'", options.split, "' is empty"), "", file);
  RETURN_IF_ERROR(findings.ToStatus());
  return set;
}

}  // namespace millrace
