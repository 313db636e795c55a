#include "pipelines/runner/evaluator.h"

#include <algorithm>
#include <cmath>

#include "graph/base/status.h"

namespace millrace {
namespace {

// Adds one row of logits to the totals. Rank of the label = number of classes that score higher; equal scores
// count for the lower class, so that the result does not depend on sorting.
void AddSample(const float* logits, int64_t classes, int64_t label, EvalMetrics* m) {
  const double top = *std::max_element(logits, logits + classes);
  double sum = 0;
  int64_t better = 0;
  for (int64_t c = 0; c < classes; ++c) {
    sum += std::exp(logits[c] - top);
    if (logits[c] > logits[label] || (logits[c] == logits[label] && c < label)) ++better;
  }
  m->loss += std::log(sum) + top - logits[label];
  m->top1 += better < 1 ? 1 : 0;
  m->top5 += better < 5 ? 1 : 0;
  ++m->samples;
}

}  // namespace

absl::StatusOr<EvalMetrics> EvaluateOnce(Ranks& ranks, const Plan& plan, EvalBatches* batches) {
  const ValueId logits = plan.graph.FindValue("logits/0");
  if (logits < 0) return absl::InternalError("the evaluation plan has no value 'logits/0'");
  const Value& value = plan.graph.values()[logits];
  const int64_t classes = value.shape.back();
  EvalMetrics m;
  batches->Restart();
  for (int64_t step = 0; step < batches->steps(); ++step) {
    RETURN_IF_ERROR(Annotate(ranks.RunStep(step, StepScalars()), "evaluation"));
    for (int r = 0; r < ranks.size(); ++r) {
      const std::vector<int64_t>& labels = batches->labels(r);
      const float* rows = ranks.buffers(r).as<float>(logits);
      for (size_t i = 0; i < labels.size(); ++i)
        AddSample(rows + i * classes, classes, labels[i], &m);
    }
  }
  if (m.samples == 0) return absl::FailedPreconditionError("the evaluation data holds no sample");
  const double n = static_cast<double>(m.samples);
  m.loss /= n;
  m.top1 /= n;
  m.top5 /= n;
  return m;
}

}  // namespace millrace
