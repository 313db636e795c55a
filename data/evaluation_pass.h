// One pass over a source in its own order, for evaluation: nothing random, every sample exactly once,
// the last batch as small as it comes out.
//
//   ASSIGN_OR_RETURN(EvaluationPass pass, EvaluationPass::Create(test, {batch, rank, ranks}));
//   for (int64_t i = 0; i < pass.batches(); ++i) {
//     ASSIGN_OR_RETURN(const std::vector<int64_t> samples, pass.Next({images, labels}));
//   }
#ifndef MILLRACE_DATA_EVALUATION_PASS_H_
#define MILLRACE_DATA_EVALUATION_PASS_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "data/bad_samples.h"
#include "data/sample_source.h"

namespace millrace {

struct EvaluationOptions {
  int64_t batch = 1;
  // Of `ranks` that evaluate together this one takes every ranks-th batch from batch `rank` on, so
  // that all of them see the whole data set once.
  int rank = 0;
  int ranks = 1;
  // Where samples that cannot be read are noted and left out; null: they are errors. Shared by the
  // ranks of a process.
  std::shared_ptr<BadSamples> bad;
};

class EvaluationPass {
 public:
  static absl::StatusOr<EvaluationPass> Create(std::shared_ptr<const SampleSource> source,
                                               const EvaluationOptions& options);

  // Fills one tensor for each field, [batch, the field's shape], and returns the indices of the
  // samples that they hold: fewer than `batch` where the data end or samples were left out, none
  // behind the end. The places behind them hold zeros, for plans with a fixed batch size.
  absl::StatusOr<std::vector<int64_t>> Next(absl::Span<void* const> tensors);
  void Restart() { position_ = options_.rank * options_.batch; }

  const SampleSource& source() const { return *source_; }
  int64_t batch() const { return options_.batch; }
  // Calls of Next until the end; ranks may differ by one.
  int64_t batches() const;

 private:
  EvaluationPass(std::shared_ptr<const SampleSource> source, const EvaluationOptions& options);

  std::shared_ptr<const SampleSource> source_;
  EvaluationOptions options_;
  int64_t position_;
  std::unique_ptr<SampleScratch> scratch_;
};

}  // namespace millrace

#endif  // MILLRACE_DATA_EVALUATION_PASS_H_
