// One pass of an evaluation plan over the test set: loss and the task's figures (scores.h) over all samples of all
// ranks, each exactly once.
#ifndef MILLRACE_PIPELINES_RUNNER_EVALUATOR_H_
#define MILLRACE_PIPELINES_RUNNER_EVALUATOR_H_

#include "absl/status/statusor.h"
#include "models/model.h"
#include "pipelines/runner/batches.h"
#include "pipelines/runner/metrics.h"
#include "pipelines/runner/ranks.h"

namespace millrace {

// `model` and `spec`: built for evaluation, what `plan` runs.
absl::StatusOr<EvalMetrics> EvaluateOnce(Ranks& ranks, const Plan& plan, const ModelDef& model,
                                         const ModelSpec& spec, EvalBatches* batches);

}  // namespace millrace

#endif  // MILLRACE_PIPELINES_RUNNER_EVALUATOR_H_
