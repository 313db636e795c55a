// Evaluates weights that lie in a file, without training: no optimizer, no training plan, parameters alone in memory.
//
//   RETURN_IF_ERROR(SetImageSize(256, &loaded));                                  // optional
//   Compile(loaded, folders, findings, {.training = false});
//   ASSIGN_OR_RETURN(std::string file, FindWeights("millrace_runs/isic_small"));
//   CheckWeights(file, compiled.eval_spec, &findings);                            // before anything is allocated
//   ASSIGN_OR_RETURN(WeightsEvaluation e, EvaluateWeights(compiled, file, data_folders));
#ifndef MILLRACE_PIPELINES_RUNNER_WEIGHTS_EVALUATION_H_
#define MILLRACE_PIPELINES_RUNNER_WEIGHTS_EVALUATION_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "graph/base/findings.h"
#include "graph/ir/pipeline_text.h"
#include "pipelines/runner/compiled.h"
#include "pipelines/runner/metrics.h"

namespace millrace {

// The model's argument `image_size` or `image_sizes`: a number, or a list with one entry a scale, "256,128" or "512x640",
// whose other numbers keep their ratio to the first. Where the data are images of one fixed size, they are resized.
absl::Status SetImageSize(int64_t size, LoadedPipeline* pipeline);

// `path`: a safetensors file, a step's folder, or a run's folder or its checkpoints/ (the newest step).
absl::StatusOr<std::string> FindWeights(const std::string& path);

// Every parameter that the file lacks or has in another shape; f32, bf16 and f16 are converted.
void CheckWeights(const std::string& file, const ModelSpec& spec, Findings* findings);

struct WeightsEvaluation {
  EvalMetrics metrics;
  double seconds = 0;        // of the pass over the data
  int64_t device_bytes = 0;  // of the rank that has most
};

// `compiled` for evaluation, with evaluation data.
absl::StatusOr<WeightsEvaluation> EvaluateWeights(const CompiledPipeline& compiled,
                                                  const std::string& file,
                                                  const std::vector<std::string>& data_folders);

}  // namespace millrace

#endif  // MILLRACE_PIPELINES_RUNNER_WEIGHTS_EVALUATION_H_
