// Feeds the load_batch nodes of a plan: from the loader (training) or from a pass over the test set (evaluation).
#ifndef MILLRACE_PIPELINES_RUNNER_BATCHES_H_
#define MILLRACE_PIPELINES_RUNNER_BATCHES_H_

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "data/evaluation_pass.h"
#include "data/loader.h"
#include "ops/kernel_registry.h"
#include "pipelines/runner/open_data.h"

namespace millrace {

// One line on stderr, at the time that a file is left out.
void SayBadSample(const BadSample& bad);

class TrainBatches final : public BatchSource {
 public:
  explicit TrainBatches(std::unique_ptr<Loader> loader) : loader_(std::move(loader)) {}
  absl::Status Next(int rank, int64_t micro_batch, absl::Span<void* const> tensors) override {
    return loader_->Next(rank, static_cast<int>(micro_batch), tensors);
  }
  Loader& loader() { return *loader_; }

 private:
  std::unique_ptr<Loader> loader_;
};

// One pass over the test set, its batches dealt out to the ranks in turn. What a batch lacks of its size - behind the
// end, or where a bad file is left out - is zeros (classes: -1), so that all ranks run the same number of steps.
class EvalBatches final : public BatchSource {
 public:
  static absl::StatusOr<std::unique_ptr<EvalBatches>> Create(const OpenedData& data, int64_t batch,
                                                             int ranks);
  absl::Status Next(int rank, int64_t micro_batch, absl::Span<void* const> tensors) override;
  void Restart();
  int64_t steps() const { return steps_; }
  // Indices of the samples in the batch that `rank` got last, without the padding.
  const std::vector<int64_t>& samples(int rank) const { return samples_[rank]; }
  const std::shared_ptr<const GroundTruth>& truth() const { return truth_; }
  // Null unless files are left out (data.on_error SKIP).
  const BadSamples* bad_samples() const { return bad_.get(); }

 private:
  std::vector<EvaluationPass> passes_;
  std::vector<std::vector<int64_t>> samples_;
  std::shared_ptr<const GroundTruth> truth_;
  std::shared_ptr<BadSamples> bad_;
  int64_t steps_ = 0;
};

}  // namespace millrace

#endif  // MILLRACE_PIPELINES_RUNNER_BATCHES_H_
