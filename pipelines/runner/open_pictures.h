// The formats ISIC and COCO of a pipeline's data (pipelines/runner/open_data.h has the others).
#ifndef MILLRACE_PIPELINES_RUNNER_OPEN_PICTURES_H_
#define MILLRACE_PIPELINES_RUNNER_OPEN_PICTURES_H_

#include <string>
#include <vector>

#include "graph/base/findings.h"
#include "pipelines/runner/open_data.h"

namespace millrace {

// `folder` exists. Fills train and, with `evaluation`, evaluate and truth; what is wrong becomes findings at the lines
// of the pipeline.
void OpenPictures(const LoadedPipeline& pipeline, const std::vector<FieldSpec>& fields,
                  int64_t classes, const std::string& folder, bool evaluation, OpenedData* opened,
                  Findings* findings);

}  // namespace millrace

#endif  // MILLRACE_PIPELINES_RUNNER_OPEN_PICTURES_H_
