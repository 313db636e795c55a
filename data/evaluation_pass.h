// One pass over a data set in file order, for evaluation: nothing random, every sample exactly
// once, the last batch as small as it comes out.
//
//   ASSIGN_OR_RETURN(EvaluationPass pass, EvaluationPass::Create(test, augment, batch, rank,
//   ranks)); while (true) {
//     ASSIGN_OR_RETURN(const int64_t n, pass.Next(images, labels));
//     if (n == 0) break;
//   }
#ifndef MILLRACE_DATA_EVALUATION_PASS_H_
#define MILLRACE_DATA_EVALUATION_PASS_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "data/augment.h"
#include "data/dataset.h"

namespace millrace {

class EvaluationPass {
 public:
  // Batches of `batch` samples; of `ranks` that evaluate together this one takes every ranks-th
  // batch from batch `rank` on, so that all of them see the whole data set once.
  static absl::StatusOr<EvaluationPass> Create(std::shared_ptr<const Dataset> dataset,
                                               const AugmentOptions& augment, int64_t batch,
                                               int rank = 0, int ranks = 1);

  // Fills images [batch, C, H, W] and labels [batch] and returns how many samples they hold:
  // `batch`, fewer at the end, 0 after it. The places behind them hold zeros and label -1, for
  // plans with a fixed batch size.
  absl::StatusOr<int64_t> Next(float* images, int64_t* labels);
  void Restart() { position_ = rank_ * batch_; }

  ImageShape shape() const { return augmenter_.output(); }
  int64_t batch() const { return batch_; }
  // Calls of Next that return samples; ranks may differ by one.
  int64_t batches() const;

 private:
  EvaluationPass(std::shared_ptr<const Dataset> dataset, Augmenter augmenter, int64_t batch,
                 int rank, int ranks);

  std::shared_ptr<const Dataset> dataset_;
  Augmenter augmenter_;
  int64_t batch_;
  int64_t rank_, ranks_;
  int64_t position_;
  std::vector<float> pixels_;
  Augmenter::Scratch scratch_;
};

}  // namespace millrace

#endif  // MILLRACE_DATA_EVALUATION_PASS_H_
