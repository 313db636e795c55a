// Opens the files that a pipeline's `data` block names, as samples whose fields are the tensors of the model's batch.
//
//   ASSIGN_OR_RETURN(const OpenedData data, OpenData(loaded, needs, folders));
#ifndef MILLRACE_PIPELINES_RUNNER_OPEN_DATA_H_
#define MILLRACE_PIPELINES_RUNNER_OPEN_DATA_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "data/bad_samples.h"
#include "data/metrics/ground_truth.h"
#include "data/sample_source.h"
#include "graph/ir/pipeline_text.h"

namespace millrace {

// What the model (or the hand-written step) wants of the data.
struct ImageNeeds {
  int64_t channels = 0, height = 0, width = 0;
  int64_t classes = 0;  // 0: not known; else labels must be below it
  // The batch's tensors, of one sample each. Empty: images and labels.
  std::vector<FieldSpec> fields;
};

struct OpenedData {
  std::shared_ptr<const SampleSource> train;
  std::shared_ptr<const SampleSource> evaluate;  // null when the pipeline has no evaluation data
  std::shared_ptr<const GroundTruth> truth;      // of `evaluate`; null when it has no boxes
  OnError on_error = OnError::kFail;
};

// Relative paths are looked for in `folders`, in order. All mistakes at once: missing files, images of another
// shape than the model's, labels outside its classes, tensors of the batch that the data cannot fill; each at the line
// that names the file.
absl::StatusOr<OpenedData> OpenData(const LoadedPipeline& pipeline, const ImageNeeds& needs,
                                    const std::vector<std::string>& folders);

// The first existing folders[i] + "/" + path, or `path` itself when it is absolute or nowhere.
std::string FindFile(const std::string& path, const std::vector<std::string>& folders);

}  // namespace millrace

#endif  // MILLRACE_PIPELINES_RUNNER_OPEN_DATA_H_
