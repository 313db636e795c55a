#include "pipelines/runner/open_data.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "data/dataset_source.h"
#include "data/open_dataset.h"
#include "data/synthetic_source.h"
#include "graph/base/findings.h"
#include "graph/base/status.h"
#include "pipelines/runner/open_pictures.h"

namespace millrace {
namespace {

constexpr char kLabelledHelp[] =
    "data/digits of the repository has IDX files; `millrace data make --format cifar100` writes "
    "others";
constexpr char kPicturesHelp[] =
    "`millrace data make --format isic|coco --out DIR` writes a small data set";

bool HasEvaluation(const Data& data) {
  return data.has_eval_images() || data.has_eval_split() || data.eval_first() > 0 ||
         data.eval_count() > 0;
}

AugmentOptions AugmentOf(const Augment& a) {
  AugmentOptions o;
  o.horizontal_flip_probability = a.horizontal_flip();
  o.random_crop_padding = a.crop_padding();
  o.rotation_degrees = a.rotation_degrees();
  o.scale_min = a.scale_min();
  o.scale_max = a.scale_max();
  o.shift_pixels = a.shift_pixels();
  o.resize_height = o.resize_width = a.resize();
  o.mean.assign(a.mean().begin(), a.mean().end());
  o.std.assign(a.std().begin(), a.std().end());
  return o;
}

DatasetOptions CommonOptions(const Pipeline& p, const ImageNeeds& needs) {
  DatasetOptions o;
  o.scale = static_cast<float>(p.data().max_value());
  o.classes = static_cast<int>(needs.classes);
  o.seed = static_cast<uint64_t>(p.train().seed());
  if (p.data().format() == Data::SYNTHETIC) {
    o.kind = DatasetOptions::Kind::kSynthetic;
    o.shape = {static_cast<int>(needs.channels), static_cast<int>(needs.height),
               static_cast<int>(needs.width)};
    if (o.classes == 0) o.classes = 10;
  } else {
    o.kind = p.data().format() == Data::IDX ? DatasetOptions::Kind::kIdx
                                            : DatasetOptions::Kind::kCifar100;
  }
  return o;
}

void CheckShape(const Dataset& dataset, const AugmentOptions& augment, const ImageNeeds& needs,
                const LoadedPipeline& pipeline, const char* at, Findings* findings) {
  const ImageShape s = dataset.shape();
  const int64_t height = augment.resize_height > 0 ? augment.resize_height : s.height;
  const int64_t width = augment.resize_width > 0 ? augment.resize_width : s.width;
  if (s.channels == needs.channels && height == needs.height && width == needs.width) return;
  const bool only_size = s.channels == needs.channels && needs.height == needs.width;
  findings->Add(pipeline.At(
      at, "data",
      absl::StrCat(dataset.description(), " gives images of ", s.channels, " x ", height, " x ",
                   width, " (channels, height, width), the model expects ", needs.channels, " x ",
                   needs.height, " x ", needs.width),
      only_size ? absl::StrCat("data.augment.resize: ", needs.height) : ""));
}

// `path` as found in `folders`; a file that is in none of them is a finding.
std::string ExistingFile(const std::string& path, const std::vector<std::string>& folders,
                         const LoadedPipeline& pipeline, const char* at, Findings* findings,
                         std::string help = kLabelledHelp) {
  const std::string file = FindFile(path, folders);
  if (file.empty() || access(file.c_str(), F_OK) == 0) return file;
  const size_t slash = path.rfind('/') + 1;  // 0 when there is none
  std::vector<std::string> neighbours;
  std::error_code ignored;
  for (const std::string& folder :
       absl::StartsWith(path, "/") ? std::vector<std::string>{""} : folders) {
    for (const auto& e :
         std::filesystem::directory_iterator(folder + "/" + path.substr(0, slash), ignored)) {
      neighbours.push_back(e.path().filename().string());
    }
  }
  const std::string near = Nearest(path.substr(slash), neighbours);
  std::string looked = absl::StrCat(path, ": no such file");
  std::vector<std::string> places =
      absl::StartsWith(path, "/") ? std::vector<std::string>{} : folders;
  places.erase(std::unique(places.begin(), places.end()), places.end());
  absl::StrAppend(&looked, places.empty() ? "" : ", expected it in ", absl::StrJoin(places, ", "));
  if (!near.empty()) help = absl::StrCat("did you mean '", path.substr(0, slash), near, "'?");
  findings->Add(pipeline.At(at, "data", std::move(looked), std::move(help)));
  return file;
}

// What a source says of its fields, at `at`; a status without findings is of its files or counts, at `otherwise`.
void Complain(const LoadedPipeline& pipeline, const char* at, const char* otherwise,
              const absl::Status& status, Findings* findings) {
  const Findings said = FindingsOf(status);
  for (const Finding& f : said.list()) {
    findings->Add(pipeline.At(at, f.check, f.message, f.suggestion));
  }
  if (said.ok()) findings->Add(pipeline.At(otherwise, "data", std::string(status.message())));
}

// IDX, CIFAR and synthetic images with labels.
void OpenLabelled(const LoadedPipeline& pipeline, const ImageNeeds& needs,
                  const std::vector<std::string>& folders, OpenedData* opened,
                  Findings* all_findings) {
  const Data& data = pipeline.proto.data();
  const AugmentOptions augment = AugmentOf(data.augment());
  std::vector<std::string> fields;
  for (const FieldSpec& field : needs.fields) fields.push_back(field.name);
  if (fields.empty()) fields = {"images", "labels"};
  Findings& findings = *all_findings;
  const auto open = [&](bool evaluate) -> std::shared_ptr<const SampleSource> {
    DatasetOptions o = CommonOptions(pipeline.proto, needs);
    const bool own_images = evaluate && data.has_eval_images(),
               own_labels = evaluate && data.has_eval_labels();
    const char* const at_images = own_images ? "data.eval_images" : "data.images";
    const char* const at_labels = own_labels ? "data.eval_labels" : "data.labels";
    if (evaluate && !own_images && !own_labels && !findings.ok())
      return nullptr;  // of the same files: said already
    const size_t found_before = findings.list().size();
    o.images = ExistingFile(own_images ? data.eval_images() : data.images(), folders, pipeline,
                            at_images, &findings);
    o.labels = ExistingFile(own_labels ? data.eval_labels() : data.labels(), folders, pipeline,
                            at_labels, &findings);
    if (findings.list().size() > found_before) return nullptr;
    if (o.kind == DatasetOptions::Kind::kCifar100) o.files = {o.images};
    o.first = evaluate ? data.eval_first() : data.first();
    const int64_t count = evaluate ? data.eval_count() : data.count();
    o.count = count > 0 ? count : -1;
    if (o.kind == DatasetOptions::Kind::kSynthetic) {
      o.count = evaluate ? data.eval_count() : data.synthetic_count();
      if (evaluate) o.first = data.synthetic_count();  // other images than the training part's
    }
    absl::StatusOr<std::shared_ptr<const Dataset>> dataset = OpenDataset(o);
    if (!dataset.ok()) {
      const std::pair<std::string, std::string> said =
          absl::StrSplit(dataset.status().message(), absl::MaxSplits("; help: ", 1));
      const bool of_labels = !o.labels.empty() && absl::StartsWith(said.first, o.labels);
      const std::string help =
          said.second.empty() ? "fetch the file again, or name another one" : said.second;
      findings.Add(pipeline.At(of_labels ? at_labels : at_images, "data", said.first, help));
      return nullptr;
    }
    CheckShape(**dataset, augment, needs, pipeline, at_images, &findings);
    auto source = MakeDatasetSource(*dataset, augment, fields);
    if (source.ok()) return *source;
    Complain(pipeline, "data", "data", source.status(), &findings);
    return nullptr;
  };
  opened->train = open(/*evaluate=*/false);
  if (HasEvaluation(data)) opened->evaluate = open(/*evaluate=*/true);
}

// Masks, boxes, several scales: whatever the model reads.
void OpenSyntheticTensors(const LoadedPipeline& pipeline, const ImageNeeds& needs,
                          OpenedData* opened, Findings* findings) {
  const Data& data = pipeline.proto.data();
  if (data.has_augment()) {
    findings->Add(pipeline.At("data.augment", "changes_nothing",
                              "data.augment changes nothing for synthetic masks and boxes, "
                              "expected it to be left out",
                              "take data.augment out, or set data.format to ISIC or COCO"));
  }
  const auto open = [&](bool evaluate) -> std::shared_ptr<const SampleSource> {
    SyntheticSourceOptions o;
    o.fields = needs.fields;
    o.seed = static_cast<uint64_t>(pipeline.proto.train().seed());
    if (needs.classes > 0) o.classes = needs.classes;
    o.count = evaluate ? data.eval_count() : data.synthetic_count();
    o.first = evaluate ? data.synthetic_count() : data.first();
    auto source = MakeSyntheticSource(o);
    if (source.ok()) return *source;
    Complain(pipeline, "data.format", "data.synthetic_count", source.status(), findings);
    return nullptr;
  };
  opened->train = open(/*evaluate=*/false);
  if (HasEvaluation(data)) opened->evaluate = open(/*evaluate=*/true);
}

bool IsLabelled(const ImageNeeds& needs) {
  bool labels = needs.fields.empty(), other = false;
  for (const FieldSpec& f : needs.fields) {
    labels |= f.name == "labels";
    other |= f.name != "labels" && f.name != "images" && f.name != "keys";
  }
  return labels && !other;
}

}  // namespace

std::string FindFile(const std::string& path, const std::vector<std::string>& folders) {
  if (path.empty() || absl::StartsWith(path, "/")) return path;
  for (const std::string& folder : folders) {
    const std::string candidate = folder + "/" + path;
    if (access(candidate.c_str(), F_OK) == 0) return candidate;
  }
  return path;
}

absl::StatusOr<OpenedData> OpenData(const LoadedPipeline& pipeline, const ImageNeeds& needs,
                                    const std::vector<std::string>& folders) {
  const Data& data = pipeline.proto.data();
  OpenedData opened;
  Findings findings;
  opened.on_error = data.on_error() == Data::SKIP ? OnError::kSkip : OnError::kFail;
  if (data.format() == Data::ISIC || data.format() == Data::COCO) {
    const std::string folder =
        ExistingFile(data.folder(), folders, pipeline, "data.folder", &findings, kPicturesHelp);
    if (findings.ok()) {
      OpenPictures(pipeline, needs.fields, needs.classes, folder, HasEvaluation(data), &opened,
                   &findings);
    }
  } else if (data.format() == Data::SYNTHETIC && !IsLabelled(needs)) {
    OpenSyntheticTensors(pipeline, needs, &opened, &findings);
  } else {
    OpenLabelled(pipeline, needs, folders, &opened, &findings);
  }
  RETURN_IF_ERROR(findings.ToStatus());
  return opened;
}

}  // namespace millrace
