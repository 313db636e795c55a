#include "data/evaluation_pass.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "graph/base/status.h"

namespace millrace {

absl::StatusOr<EvaluationPass> EvaluationPass::Create(std::shared_ptr<const SampleSource> source,
                                                      const EvaluationOptions& options) {
  if (options.batch < 1 || options.rank < 0 || options.rank >= options.ranks) {
    return absl::InvalidArgumentError(
        absl::StrCat("evaluation in batches of ", options.batch, " on rank ", options.rank, " of ",
                     options.ranks, ": expected a batch of 1 or more and 0 <= rank < ranks"));
  }
  return EvaluationPass(std::move(source), options);
}

EvaluationPass::EvaluationPass(std::shared_ptr<const SampleSource> source,
                               const EvaluationOptions& options)
    : source_(std::move(source)),
      options_(options),
      position_(options.rank * options.batch),
      scratch_(source_->NewScratch()) {}

int64_t EvaluationPass::batches() const {
  const int64_t all = (source_->size() + options_.batch - 1) / options_.batch;
  return all <= options_.rank ? 0 : (all - options_.rank + options_.ranks - 1) / options_.ranks;
}

absl::StatusOr<std::vector<int64_t>> EvaluationPass::Next(absl::Span<void* const> tensors) {
  const std::vector<FieldSpec>& fields = source_->fields();
  if (tensors.size() != fields.size()) {
    return absl::InvalidArgumentError(absl::StrCat("evaluation of ", tensors.size(), " tensors, ",
                                                   source_->description(), " has ", fields.size()));
  }
  const int64_t last = std::min(position_ + options_.batch, source_->size());
  std::vector<int64_t> samples;
  std::vector<void*> out(fields.size());
  for (int64_t index = position_; index < last; ++index) {
    if (options_.bad != nullptr && options_.bad->Contains(index)) continue;
    for (size_t f = 0; f < fields.size(); ++f) {
      out[f] = static_cast<uint8_t*>(tensors[f]) + samples.size() * fields[f].bytes();
    }
    const absl::Status read = source_->Get(index, SampleKey(), out, scratch_.get());
    if (read.ok()) {
      samples.push_back(index);
    } else if (options_.bad != nullptr) {
      options_.bad->Add(index, source_->NameOf(index), read);
    } else {
      return Annotate(read, "sample ", index, " of the evaluation");
    }
  }
  for (size_t f = 0; f < fields.size(); ++f) {
    const int64_t bytes = fields[f].bytes(), filled = static_cast<int64_t>(samples.size());
    std::memset(static_cast<uint8_t*>(tensors[f]) + filled * bytes, 0,
                (options_.batch - filled) * bytes);
  }
  position_ += options_.ranks * options_.batch;
  return samples;
}

}  // namespace millrace
