#include "data/evaluation_pass.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "graph/base/status.h"

namespace millrace {

absl::StatusOr<EvaluationPass> EvaluationPass::Create(std::shared_ptr<const Dataset> dataset,
                                                      const AugmentOptions& augment, int64_t batch,
                                                      int rank, int ranks) {
  if (batch < 1 || rank < 0 || rank >= ranks) {
    return absl::InvalidArgumentError(
        absl::StrCat("evaluation in batches of ", batch, " on rank ", rank, " of ", ranks,
                     ": expected a batch of 1 or more and 0 <= rank < "
                     "ranks"));
  }
  ASSIGN_OR_RETURN(Augmenter augmenter, Augmenter::Create(augment, dataset->shape()));
  return EvaluationPass(std::move(dataset), std::move(augmenter), batch, rank, ranks);
}

EvaluationPass::EvaluationPass(std::shared_ptr<const Dataset> dataset, Augmenter augmenter,
                               int64_t batch, int rank, int ranks)
    : dataset_(std::move(dataset)),
      augmenter_(std::move(augmenter)),
      batch_(batch),
      rank_(rank),
      ranks_(ranks),
      position_(rank * batch),
      pixels_(static_cast<size_t>(augmenter_.input().elements())) {}

int64_t EvaluationPass::batches() const {
  const int64_t all = (dataset_->size() + batch_ - 1) / batch_;
  return all <= rank_ ? 0 : (all - rank_ + ranks_ - 1) / ranks_;
}

absl::StatusOr<int64_t> EvaluationPass::Next(float* images, int64_t* labels) {
  const int64_t size = augmenter_.output().elements();
  const int64_t count = std::clamp<int64_t>(dataset_->size() - position_, 0, batch_);
  const bool direct = augmenter_.evaluation_identity();
  for (int64_t i = 0; i < count; ++i) {
    const absl::Span<float> out(images + i * size, size);
    const absl::Status read =
        dataset_->Get(position_ + i, direct ? out : absl::MakeSpan(pixels_), labels + i);
    if (!read.ok()) return Annotate(read, "sample ", position_ + i, " of the evaluation");
    if (!direct) augmenter_.Evaluate(pixels_, out, &scratch_);
  }
  std::fill(images + count * size, images + batch_ * size, 0.0f);
  std::fill(labels + count, labels + batch_, int64_t{-1});
  position_ += ranks_ * batch_;
  return count;
}

}  // namespace millrace
