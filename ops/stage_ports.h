// Where the tensors of a stage's node lie, worked out once from its ports: what forward, recompute and backward have in
// common on the CPU (ops/stages.cc) and on devices (ops/cuda/stages.cc).
//
//   ASSIGN_OR_RETURN(StagePorts ports, ReadStagePorts(args, /*backward=*/true));
//   memory.param_grads = ports.param_grads;                         // for a ReplayScope
//   PutAt(gradients.params[i], ports.param_grads[i], spec, device);  // should it not lie there
//
// Addresses are the plan's: on a device its memory.
#ifndef MILLRACE_OPS_STAGE_PORTS_H_
#define MILLRACE_OPS_STAGE_PORTS_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "graph/base/loss_scale.h"
#include "ops/kernel_registry.h"

namespace millrace {

struct StagePorts {
  int stage = 0;
  int64_t micro_batch = 0;
  std::vector<const Value*> inputs;  // outputs of other stages, then tensors of the batch
  std::vector<void*> input_data;
  std::vector<void*> params;               // one address per parameter of the stage
  std::vector<const Value*> grad_outputs;  // backward only
  std::vector<void*> grad_output_data;
  std::vector<void*> outputs;      // forward: outputs; backward: gradients of the inputs
  std::vector<void*> param_grads;  // backward only, one per parameter
  const LossScaleState* loss_scale = nullptr;  // backward of the last stage, where there is one
  std::vector<std::pair<char*, int64_t>>
      gaps;  // backward: bytes of its gradient slices between parameters
  void* saved = nullptr;
  void* workspace = nullptr;
};

absl::StatusOr<StagePorts> ReadStagePorts(const KernelArgs& args, bool backward);

// `t`'s bytes at `place`; nothing to do when the allocation was served there. Undefined: zeros.
void PutAt(const at::Tensor& t, void* place, const TensorSpec& spec, at::Device device);

inline TensorSpec SpecOf(const ParamSpec& p) { return {p.name, p.dtype, p.shape}; }

}  // namespace millrace

#endif  // MILLRACE_OPS_STAGE_PORTS_H_
