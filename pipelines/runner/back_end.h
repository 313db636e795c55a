// What runs the devices of a pipeline's machine. A plan for CUDA devices can be made, verified and simulated everywhere; to run
// it the binary must know them and they must be there.
#ifndef MILLRACE_PIPELINES_RUNNER_BACK_END_H_
#define MILLRACE_PIPELINES_RUNNER_BACK_END_H_

#include <memory>

#include "absl/status/statusor.h"
#include "graph/base/findings.h"
#include "graph/ir/machine.pb.h"
#include "graph/ir/pipeline_text.h"
#include "ops/back_end.h"

namespace millrace {

// Null: the CPU. kInvalidArgument at the pipeline's `machine` when it cannot run here, or not on so many ranks.
absl::StatusOr<std::shared_ptr<BackEnd>> BackEndOf(const LoadedPipeline& loaded,
                                                   const Machine& machine, int ranks,
                                                   Findings& findings);

}  // namespace millrace

#endif  // MILLRACE_PIPELINES_RUNNER_BACK_END_H_
