#include "data/dataset_source.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "graph/base/findings.h"
#include "graph/base/status.h"

namespace millrace {
namespace {

struct Scratch : SampleScratch {
  Augmenter::Scratch augment;
  std::vector<float> pixels;
};

class DatasetSource : public SampleSource {
 public:
  DatasetSource(std::shared_ptr<const Dataset> dataset, Augmenter augmenter,
                std::vector<FieldSpec> fields, int images, int labels, int keys)
      : dataset_(std::move(dataset)),
        augmenter_(std::move(augmenter)),
        fields_(std::move(fields)),
        images_(images),
        labels_(labels),
        keys_(keys) {}

  int64_t size() const override { return dataset_->size(); }
  const std::vector<FieldSpec>& fields() const override { return fields_; }
  std::string description() const override { return dataset_->description(); }
  std::string NameOf(int64_t index) const override { return absl::StrCat("sample ", index); }
  std::unique_ptr<SampleScratch> NewScratch() const override {
    auto scratch = std::make_unique<Scratch>();
    scratch->pixels.resize(static_cast<size_t>(dataset_->shape().elements()));
    return scratch;
  }

  absl::Status Get(int64_t index, const SampleKey& key, absl::Span<void* const> out,
                   SampleScratch* given) const override {
    auto* scratch = static_cast<Scratch*>(given);
    const absl::Span<float> image(static_cast<float*>(out[images_]),
                                  augmenter_.output().elements());
    const bool direct = key.random ? augmenter_.identity() : augmenter_.evaluation_identity();
    int64_t label = 0;
    RETURN_IF_ERROR(dataset_->Get(index, direct ? image : absl::MakeSpan(scratch->pixels), &label));
    if (!direct && key.random) {
      augmenter_.Train(scratch->pixels, key.rng(), image, &scratch->augment);
    } else if (!direct) {
      augmenter_.Evaluate(scratch->pixels, image, &scratch->augment);
    }
    if (labels_ >= 0) *static_cast<int64_t*>(out[labels_]) = label;
    if (keys_ >= 0) *static_cast<int64_t*>(out[keys_]) = key.value();
    return absl::OkStatus();
  }

 private:
  const std::shared_ptr<const Dataset> dataset_;
  const Augmenter augmenter_;
  const std::vector<FieldSpec> fields_;
  const int images_, labels_, keys_;  // places in the fields, -1: not asked for
};

}  // namespace

absl::StatusOr<std::shared_ptr<const SampleSource>> MakeDatasetSource(
    std::shared_ptr<const Dataset> dataset, const AugmentOptions& augment,
    const std::vector<std::string>& fields) {
  ASSIGN_OR_RETURN(Augmenter augmenter, Augmenter::Create(augment, dataset->shape()));
  const ImageShape shape = augmenter.output();
  std::vector<FieldSpec> specs;
  Findings findings;
  int images = -1, labels = -1, keys = -1;
  for (const std::string& name : fields) {
    const int place = static_cast<int>(specs.size());
    if (name == "images") {
      images = place;
      specs.push_back({name, DType::kF32, {shape.channels, shape.height, shape.width}});
    } else if (name == "labels" || name == "keys") {
      (name == "labels" ? labels : keys) = place;
      specs.push_back({name, DType::kI64, {}});
    } else {
      findings.Add({.check = "data",
                    .message = absl::StrCat(dataset->description(), " has no '", name,
                                            "', it has images, labels and keys")});
    }
  }
  if (images < 0 && findings.ok()) {
    findings.Add({.check = "data", .message = "a data set of images without its images"});
  }
  RETURN_IF_ERROR(findings.ToStatus());
  return std::make_shared<const DatasetSource>(std::move(dataset), std::move(augmenter),
                                               std::move(specs), images, labels, keys);
}

}  // namespace millrace
