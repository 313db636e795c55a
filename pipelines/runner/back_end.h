// Can this binary run what was planned? A plan for CUDA devices can be made, verified and simulated everywhere.
//
//   RETURN_IF_ERROR(CheckBackEnd(compiled.loaded, compiled.machine));    // before anything is opened or allocated
#ifndef MILLRACE_PIPELINES_RUNNER_BACK_END_H_
#define MILLRACE_PIPELINES_RUNNER_BACK_END_H_

#include "absl/status/status.h"
#include "graph/ir/machine.pb.h"
#include "graph/ir/pipeline_text.h"

namespace millrace {

// kInvalidArgument at the pipeline's `machine` when the binary has no back end for the machine's devices.
absl::Status CheckBackEnd(const LoadedPipeline& loaded, const Machine& machine);

}  // namespace millrace

#endif  // MILLRACE_PIPELINES_RUNNER_BACK_END_H_
