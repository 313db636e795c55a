#include "pipelines/runner/batches.h"

#include <algorithm>
#include <cstdio>

#include "graph/base/status.h"

namespace millrace {

void SayBadSample(const BadSample& bad) {
  std::fprintf(stderr, "left out: %s\n", bad.message.c_str());
}

absl::StatusOr<std::unique_ptr<EvalBatches>> EvalBatches::Create(const OpenedData& data,
                                                                 int64_t batch, int ranks) {
  auto batches = std::make_unique<EvalBatches>();
  if (data.on_error == OnError::kSkip) batches->bad_ = std::make_shared<BadSamples>(SayBadSample);
  for (int r = 0; r < ranks; ++r) {
    ASSIGN_OR_RETURN(EvaluationPass pass,
                     EvaluationPass::Create(data.evaluate, {batch, r, ranks, batches->bad_}));
    batches->steps_ = std::max(batches->steps_, pass.batches());
    batches->passes_.push_back(std::move(pass));
  }
  batches->samples_.resize(ranks);
  batches->truth_ = data.truth;
  return batches;
}

absl::Status EvalBatches::Next(int rank, int64_t, absl::Span<void* const> tensors) {
  EvaluationPass& pass = passes_[rank];
  ASSIGN_OR_RETURN(samples_[rank], pass.Next(tensors));
  const std::vector<FieldSpec>& fields = pass.source().fields();
  const int64_t filled = static_cast<int64_t>(samples_[rank].size());
  for (size_t f = 0; f < fields.size(); ++f) {
    const int64_t n = fields[f].elements(), padding = (pass.batch() - filled) * n;
    // Padding must be something that a model can compute with: no object, pixels of some size.
    if (fields[f].name == "classes") {
      std::fill_n(static_cast<int64_t*>(tensors[f]) + filled * n, padding, int64_t{-1});
    } else if (fields[f].name == "spacing") {
      std::fill_n(static_cast<float*>(tensors[f]) + filled * n, padding, 1.0f);
    }
  }
  return absl::OkStatus();
}

void EvalBatches::Restart() {
  for (EvaluationPass& pass : passes_) pass.Restart();
}

}  // namespace millrace
