#include "pipelines/runner/batches.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <numeric>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "data/open_dataset.h"
#include "graph/base/findings.h"
#include "graph/base/status.h"

namespace millrace {
namespace {

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
                         const LoadedPipeline& pipeline, const char* at, Findings* findings) {
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
  std::string help =
      "data/digits of the repository has IDX files; `millrace data make --format cifar100` writes "
      "others";
  if (!near.empty()) help = absl::StrCat("did you mean '", path.substr(0, slash), near, "'?");
  findings->Add(pipeline.At(at, "data", std::move(looked), std::move(help)));
  return file;
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
  opened.augment = AugmentOf(data.augment());
  Findings findings;
  const auto open = [&](bool evaluate) -> std::shared_ptr<const Dataset> {
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
    CheckShape(**dataset, opened.augment, needs, pipeline, at_images, &findings);
    return *dataset;
  };
  opened.train = open(/*evaluate=*/false);
  if (data.has_eval_images() || data.eval_first() > 0 || data.eval_count() > 0) {
    opened.evaluate = open(/*evaluate=*/true);
  }
  RETURN_IF_ERROR(findings.ToStatus());
  return opened;
}

absl::StatusOr<std::unique_ptr<EvalBatches>> EvalBatches::Create(
    std::shared_ptr<const Dataset> dataset, const AugmentOptions& augment, int64_t batch, int ranks,
    std::shared_ptr<const GroundTruth> truth) {
  auto batches = std::make_unique<EvalBatches>();
  for (int r = 0; r < ranks; ++r) {
    ASSIGN_OR_RETURN(EvaluationPass pass,
                     EvaluationPass::Create(dataset, augment, batch, r, ranks));
    batches->steps_ = std::max(batches->steps_, pass.batches());
    batches->passes_.push_back(std::move(pass));
  }
  batches->samples_.resize(ranks);
  batches->given_.resize(ranks);
  batches->truth_ = std::move(truth);
  return batches;
}

absl::Status EvalBatches::Next(int rank, int64_t, absl::Span<void* const> tensors) {
  auto* const images = static_cast<float*>(tensors[0]);
  auto* const labels = static_cast<int64_t*>(tensors[1]);
  const int64_t batch = passes_[rank].batch();
  ASSIGN_OR_RETURN(const int64_t n, passes_[rank].Next(images, labels));
  const int64_t ranks = static_cast<int64_t>(passes_.size());
  samples_[rank].resize(n);
  std::iota(samples_[rank].begin(), samples_[rank].end(), (given_[rank]++ * ranks + rank) * batch);
  if (n == 0) std::fill(images, images + batch * passes_[rank].shape().elements(), 0.0f);
  std::fill(labels + n, labels + batch,
            0);  // padding needs a label that exists; its result is not counted
  return absl::OkStatus();
}

void EvalBatches::Restart() {
  for (EvaluationPass& pass : passes_) pass.Restart();
  std::fill(given_.begin(), given_.end(), 0);
}

}  // namespace millrace
