// What an evaluation adds up, by task: the outputs of each batch against its truth, then the figures.
//
//   ASSIGN_OR_RETURN(auto scores, Scores::Create(model.task, spec, /*truth=*/nullptr));
//   RETURN_IF_ERROR(scores->Add(batch));                  // of every rank and step
//   EvalMetrics m = scores->Result();                     // loss, samples, and the task's values
//
//   classification  top1, top5; the loss is the cross-entropy without smoothing, a mean over samples
//   segmentation    dice, iou at p > 0.5, per image, then the mean; sensitivity, specificity over all pixels; of the
//                   first scale, at the model's size
//   detection       ap, ap50, ap75, ap_small, ap_medium, ap_large by COCO's rules, -1 where there is no such object
//
// Loss of the latter two: the model's own, the mean over batches without padding (over all, if every one has some).
//
// Detections: one channel more than there are categories means softmax, its last class "no object", a query's best
// class counting; otherwise every channel is a sigmoid of its own, and the 100 best of all queries and classes count.
// Boxes are scaled to the image's own size. Without ground truth (it is null), the boxes of the batch stand in for it,
// at the model's image size.
#ifndef MILLRACE_PIPELINES_RUNNER_SCORES_H_
#define MILLRACE_PIPELINES_RUNNER_SCORES_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "data/metrics/ground_truth.h"
#include "graph/ir/model_spec.h"
#include "models/model.h"
#include "pipelines/runner/metrics.h"

namespace millrace {

// One rank's batch after an evaluation step.
struct ScoredBatch {
  std::vector<int64_t> samples;  // indices into the data; what follows them in the batch is padding
  std::vector<const void*> tensors;  // as ModelSpec::batch
  std::vector<const void*> outputs;  // of the last stage, as its spec
};

class Scores {
 public:
  virtual ~Scores() = default;
  // `spec` outlives the scores. Errors name the output or tensor of the batch that the task needs.
  static absl::StatusOr<std::unique_ptr<Scores>> Create(Task task, const ModelSpec& spec,
                                                        std::shared_ptr<const GroundTruth> truth);
  virtual absl::Status Add(const ScoredBatch& batch) = 0;
  virtual EvalMetrics Result() const = 0;  // step is left 0
};

// The task's values in the order of EvalMetrics; the first is the one to compare models by.
std::vector<std::string> ScoreNames(Task task);

}  // namespace millrace

#endif  // MILLRACE_PIPELINES_RUNNER_SCORES_H_
