// A pipeline's data: opens the files that its `data` block names, and feeds load_batch nodes from the loader
// (training) or from a pass over the test set (evaluation).
#ifndef MILLRACE_PIPELINES_RUNNER_BATCHES_H_
#define MILLRACE_PIPELINES_RUNNER_BATCHES_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "data/evaluation_pass.h"
#include "data/loader.h"
#include "data/metrics/ground_truth.h"
#include "graph/ir/pipeline_text.h"
#include "ops/kernel_registry.h"

namespace millrace {

// What the model (or the hand-written step) wants of an image.
struct ImageNeeds {
  int64_t channels = 0, height = 0, width = 0;
  int64_t classes = 0;  // 0: not known; else labels must be below it
};

struct OpenedData {
  std::shared_ptr<const Dataset> train;
  std::shared_ptr<const Dataset> evaluate;  // null when the pipeline has no evaluation data
  AugmentOptions augment;
  std::shared_ptr<const GroundTruth> truth;  // of `evaluate`; null when it has no boxes
};

// Relative paths are looked for in `folders`, in order. All mistakes at once: missing files, images of another
// shape than the model's, labels outside its classes; each at the line that names the file.
absl::StatusOr<OpenedData> OpenData(const LoadedPipeline& pipeline, const ImageNeeds& needs,
                                    const std::vector<std::string>& folders);

// The first existing folders[i] + "/" + path, or `path` itself when it is absolute or nowhere.
std::string FindFile(const std::string& path, const std::vector<std::string>& folders);

class TrainBatches final : public BatchSource {
 public:
  explicit TrainBatches(std::unique_ptr<Loader> loader) : loader_(std::move(loader)) {}
  absl::Status Next(int rank, int64_t micro_batch, absl::Span<void* const> tensors) override {
    return loader_->Next(rank, static_cast<int>(micro_batch), static_cast<float*>(tensors[0]),
                         static_cast<int64_t*>(tensors[1]));
  }
  Loader& loader() { return *loader_; }

 private:
  std::unique_ptr<Loader> loader_;
};

// One pass over the test set, its batches dealt out to the ranks in turn. A rank whose share has ended gets
// zeros, so that all ranks run the same number of steps.
class EvalBatches final : public BatchSource {
 public:
  static absl::StatusOr<std::unique_ptr<EvalBatches>> Create(
      std::shared_ptr<const Dataset> dataset, const AugmentOptions& augment, int64_t batch,
      int ranks, std::shared_ptr<const GroundTruth> truth);
  absl::Status Next(int rank, int64_t micro_batch, absl::Span<void* const> tensors) override;
  void Restart();
  int64_t steps() const { return steps_; }
  // Indices of the samples in the batch that `rank` got last, without the padding.
  const std::vector<int64_t>& samples(int rank) const { return samples_[rank]; }
  const std::shared_ptr<const GroundTruth>& truth() const { return truth_; }

 private:
  std::vector<EvaluationPass> passes_;
  std::vector<std::vector<int64_t>> samples_;
  std::vector<int64_t> given_;  // batches, per rank, of this pass
  std::shared_ptr<const GroundTruth> truth_;
  int64_t steps_ = 0;
};

}  // namespace millrace

#endif  // MILLRACE_PIPELINES_RUNNER_BATCHES_H_
