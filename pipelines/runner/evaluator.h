// One pass of the evaluation plan over the test set: mean cross-entropy, top-1 and top-5 over all samples of all
// ranks, each exactly once.
#ifndef MILLRACE_PIPELINES_RUNNER_EVALUATOR_H_
#define MILLRACE_PIPELINES_RUNNER_EVALUATOR_H_

#include "absl/status/statusor.h"
#include "pipelines/runner/batches.h"
#include "pipelines/runner/metrics.h"
#include "pipelines/runner/ranks.h"

namespace millrace {

absl::StatusOr<EvalMetrics> EvaluateOnce(Ranks& ranks, const Plan& plan, EvalBatches* batches);

}  // namespace millrace

#endif  // MILLRACE_PIPELINES_RUNNER_EVALUATOR_H_
