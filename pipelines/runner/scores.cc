#include "pipelines/runner/scores.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "data/metrics/detection.h"
#include "data/metrics/segmentation.h"
#include "graph/base/status.h"

namespace millrace {
namespace {

constexpr size_t kDetectionsPerImage = 100;

// Index of the tensor called `name`, whose shape has `dimensions`.
absl::StatusOr<size_t> IndexOf(const std::vector<TensorSpec>& tensors, const std::string& name,
                               size_t dimensions, const char* what) {
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (tensors[i].name == name && tensors[i].shape.size() == dimensions) return i;
  }
  return absl::InvalidArgumentError(absl::StrCat("evaluation needs ", what, " '", name, "' of ",
                                                 dimensions,
                                                 " dimensions, which the model does not have"));
}
absl::StatusOr<size_t> OutputOf(const ModelSpec& spec, const std::string& name, size_t dimensions) {
  return IndexOf(spec.stages.back().outputs, name, dimensions, "an output");
}
absl::StatusOr<size_t> TensorOf(const ModelSpec& spec, const std::string& name, size_t dimensions) {
  return IndexOf(spec.batch, name, dimensions, "a tensor of the batch");
}

template <typename T>
const T* As(const std::vector<const void*>& list, size_t i) {
  return static_cast<const T*>(list[i]);
}

EvalMetrics Named(Task task, double loss, int64_t samples, const std::vector<double>& values) {
  EvalMetrics m;
  m.loss = loss;
  m.samples = samples;
  const std::vector<std::string> names = ScoreNames(task);
  for (size_t i = 0; i < names.size(); ++i) m.values.emplace_back(names[i], values[i]);
  return m;
}

class ClassificationScores final : public Scores {
 public:
  static absl::StatusOr<std::unique_ptr<Scores>> Create(const ModelSpec& spec) {
    auto scores = std::make_unique<ClassificationScores>();
    ASSIGN_OR_RETURN(scores->logits_, OutputOf(spec, "logits", 2));
    ASSIGN_OR_RETURN(scores->labels_, TensorOf(spec, "labels", 1));
    scores->classes_ = spec.stages.back().outputs[scores->logits_].shape[1];
    return scores;
  }

  absl::Status Add(const ScoredBatch& batch) override {
    const auto* rows = As<float>(batch.outputs, logits_);
    const auto* labels = As<int64_t>(batch.tensors, labels_);
    for (size_t i = 0; i < batch.samples.size(); ++i, rows += classes_) AddRow(rows, labels[i]);
    samples_ += static_cast<int64_t>(batch.samples.size());
    return absl::OkStatus();
  }

  EvalMetrics Result() const override {
    const auto n = static_cast<double>(std::max<int64_t>(1, samples_));
    return Named(Task::kClassification, loss_ / n, samples_, {top1_ / n, top5_ / n});
  }

 private:
  // Rank of the label = number of classes that score higher; equal scores count for the lower class, so that the
  // result does not depend on sorting.
  void AddRow(const float* logits, int64_t label) {
    const double top = *std::max_element(logits, logits + classes_);
    double sum = 0;
    int64_t better = 0;
    for (int64_t c = 0; c < classes_; ++c) {
      sum += std::exp(logits[c] - top);
      if (logits[c] > logits[label] || (logits[c] == logits[label] && c < label)) ++better;
    }
    loss_ += std::log(sum) + top - logits[label];
    top1_ += better < 1 ? 1 : 0;
    top5_ += better < 5 ? 1 : 0;
  }

  size_t logits_ = 0, labels_ = 0;
  int64_t classes_ = 0, samples_ = 0;
  double loss_ = 0, top1_ = 0, top5_ = 0;
};

// The model's own loss.
class LossMean {
 public:
  void Add(const ScoredBatch& batch, int64_t batch_size) {
    const auto n = static_cast<double>(batch.samples.size());
    if (n == 0) return;
    Sum& sum = static_cast<int64_t>(batch.samples.size()) == batch_size ? full_ : padded_;
    sum.loss += n * static_cast<double>(*As<float>(batch.outputs, 0));
    sum.samples += n;
  }
  double value() const {
    const Sum& sum = full_.samples > 0 ? full_ : padded_;
    return sum.samples > 0 ? sum.loss / sum.samples : 0;
  }

 private:
  struct Sum {
    double loss = 0, samples = 0;
  };
  Sum full_, padded_;
};

class SegmentationTaskScores final : public Scores {
 public:
  static absl::StatusOr<std::unique_ptr<Scores>> Create(const ModelSpec& spec) {
    auto scores = std::make_unique<SegmentationTaskScores>();
    ASSIGN_OR_RETURN(scores->logits_, OutputOf(spec, "logits", 4));
    ASSIGN_OR_RETURN(scores->masks_, TensorOf(spec, "masks", 3));
    scores->shape_ = spec.stages.back().outputs[scores->logits_].shape;
    return scores;
  }

  absl::Status Add(const ScoredBatch& batch) override {
    const int64_t classes = shape_[1], pixels = shape_[2] * shape_[3];
    const auto* logits = As<float>(batch.outputs, logits_);
    const auto* masks = As<uint8_t>(batch.tensors, masks_);
    for (size_t i = 0; i < batch.samples.size(); ++i) {
      meter_.Add(logits, masks, classes, pixels);
      logits += classes * pixels;
      masks += pixels;
    }
    loss_.Add(batch, shape_[0]);
    samples_ += static_cast<int64_t>(batch.samples.size());
    return absl::OkStatus();
  }

  EvalMetrics Result() const override {
    const SegmentationScores s = meter_.Scores();
    return Named(Task::kSegmentation, loss_.value(), samples_,
                 {s.hard.dice, s.hard.iou, s.sensitivity, s.specificity});
  }

 private:
  size_t logits_ = 0, masks_ = 0;
  std::vector<int64_t> shape_;
  int64_t samples_ = 0;
  SegmentationMeter meter_;
  LossMean loss_;
};

class DetectionTaskScores final : public Scores {
 public:
  static absl::StatusOr<std::unique_ptr<Scores>> Create(const ModelSpec& spec,
                                                        std::shared_ptr<const GroundTruth> truth) {
    ASSIGN_OR_RETURN(const size_t logits, OutputOf(spec, "class_logits", 3));
    const int64_t channels = spec.stages.back().outputs[logits].shape[2];
    const int64_t categories = truth == nullptr ? channels : truth->categories();
    if (channels != categories && channels != categories + 1) {
      return absl::InvalidArgumentError(absl::StrCat("the model tells ", channels,
                                                     " classes apart, the evaluation data have ",
                                                     categories, " categories"));
    }
    auto scores = std::make_unique<DetectionTaskScores>(categories);
    scores->logits_ = logits;
    scores->shape_ = spec.stages.back().outputs[logits].shape;
    ASSIGN_OR_RETURN(scores->boxes_, OutputOf(spec, "boxes", 3));
    if (truth == nullptr) {
      ASSIGN_OR_RETURN(const size_t images, TensorOf(spec, "images", 4));
      scores->height_ = spec.batch[images].shape[2];
      scores->width_ = spec.batch[images].shape[3];
      ASSIGN_OR_RETURN(scores->target_boxes_, TensorOf(spec, "boxes", 3));
      ASSIGN_OR_RETURN(scores->target_classes_, TensorOf(spec, "classes", 2));
      scores->room_ = spec.batch[scores->target_classes_].shape[1];
    }
    scores->truth_ = std::move(truth);
    return scores;
  }
  explicit DetectionTaskScores(int64_t categories) : categories_(categories), meter_(categories) {}

  absl::Status Add(const ScoredBatch& batch) override {
    for (size_t i = 0; i < batch.samples.size(); ++i) {
      ImageTruth truth;
      if (truth_ == nullptr) {
        truth = OfBatch(batch, static_cast<int64_t>(i));
      } else {
        ASSIGN_OR_RETURN(truth, truth_->Of(batch.samples[i]));
      }
      for (const GroundTruthObject& o : truth.objects) meter_.AddObject(o);
      AddDetections(batch, static_cast<int64_t>(i), truth);
    }
    loss_.Add(batch, shape_[0]);
    samples_ += static_cast<int64_t>(batch.samples.size());
    return absl::OkStatus();
  }

  EvalMetrics Result() const override {
    const DetectionScores s = meter_.Scores();
    return Named(Task::kDetection, loss_.value(), samples_,
                 {s.ap(), s.ap50(), s.ap75(), s.small(), s.medium(), s.large()});
  }

 private:
  static BoxXywh Pixels(const float* b, const ImageTruth& image) {
    const auto w = static_cast<double>(image.width), h = static_cast<double>(image.height);
    return {(b[0] - b[2] / 2.0) * w, (b[1] - b[3] / 2.0) * h, b[2] * w, b[3] * h};
  }

  ImageTruth OfBatch(const ScoredBatch& batch, int64_t i) const {
    ImageTruth truth{height_, width_, {}};
    const auto* boxes = As<float>(batch.tensors, target_boxes_) + i * room_ * 4;
    const auto* classes = As<int64_t>(batch.tensors, target_classes_) + i * room_;
    for (int64_t m = 0; m < room_; ++m) {
      if (classes[m] < 0) continue;
      const BoxXywh box = Pixels(boxes + 4 * m, truth);
      truth.objects.push_back(
          {batch.samples[static_cast<size_t>(i)], classes[m], box, box.w * box.h, false});
    }
    return truth;
  }

  void AddDetections(const ScoredBatch& batch, int64_t i, const ImageTruth& image) {
    const int64_t queries = shape_[1], channels = shape_[2];
    const auto* logits = As<float>(batch.outputs, logits_) + i * queries * channels;
    const auto* boxes = As<float>(batch.outputs, boxes_) + i * queries * 4;
    struct Candidate {
      double score;
      int64_t query, category;
    };
    std::vector<Candidate> found;
    for (int64_t q = 0; q < queries; ++q) {
      const float* x = logits + q * channels;
      if (channels == categories_) {
        for (int64_t c = 0; c < channels; ++c) {
          found.push_back({1 / (1 + std::exp(-static_cast<double>(x[c]))), q, c});
        }
      } else {
        const double top = *std::max_element(x, x + channels);
        double sum = 0;
        for (int64_t c = 0; c < channels; ++c) sum += std::exp(x[c] - top);
        const int64_t best = std::max_element(x, x + categories_) - x;
        found.push_back({std::exp(x[best] - top) / sum, q, best});
      }
    }
    // A score that is no number must not disturb the order.
    const auto key = [](const Candidate& c) { return std::isnan(c.score) ? -1 : c.score; };
    std::stable_sort(found.begin(), found.end(),
                     [&](const Candidate& a, const Candidate& b) { return key(a) > key(b); });
    if (found.size() > kDetectionsPerImage) found.resize(kDetectionsPerImage);
    for (const Candidate& c : found) {
      meter_.AddDetection({batch.samples[static_cast<size_t>(i)], c.category, c.score,
                           Pixels(boxes + 4 * c.query, image)});
    }
  }

  const int64_t categories_;
  std::shared_ptr<const GroundTruth> truth_;
  size_t logits_ = 0, boxes_ = 0, target_boxes_ = 0, target_classes_ = 0;
  std::vector<int64_t> shape_;
  int64_t height_ = 0, width_ = 0, room_ = 0, samples_ = 0;
  DetectionMeter meter_;
  LossMean loss_;
};

}  // namespace

std::vector<std::string> ScoreNames(Task task) {
  switch (task) {
    case Task::kSegmentation:
      return {"dice", "iou", "sensitivity", "specificity"};
    case Task::kDetection:
      return {"ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"};
    case Task::kClassification:
      break;
  }
  return {"top1", "top5"};
}

absl::StatusOr<std::unique_ptr<Scores>> Scores::Create(Task task, const ModelSpec& spec,
                                                       std::shared_ptr<const GroundTruth> truth) {
  switch (task) {
    case Task::kSegmentation:
      return SegmentationTaskScores::Create(spec);
    case Task::kDetection:
      return DetectionTaskScores::Create(spec, std::move(truth));
    case Task::kClassification:
      break;
  }
  return ClassificationScores::Create(spec);
}

}  // namespace millrace
