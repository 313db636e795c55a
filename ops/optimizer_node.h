// An optimizer's node as its kernels see it, on the CPU and on devices: what is updated, what else is written, and the
// rule's constants. Ports are those of ops/optimizers.cc.
//
//   const AdamNode adam = ReadAdam(args, /*decoupled=*/true);
//   for (const BucketRun& run : adam.runs) ... adam.p + run.begin, adam.grad_at(run) ...
#ifndef MILLRACE_OPS_OPTIMIZER_NODE_H_
#define MILLRACE_OPS_OPTIMIZER_NODE_H_

#include <cstdint>
#include <vector>

#include "ops/bucket_runs.h"
#include "ops/kernel_registry.h"
#include "ops/optimizer_kernels.h"

namespace millrace {

// What all rules read and write beside their states. Pointers are where the plan says: on a device its memory.
struct OptimizerNode {
  std::vector<BucketRun> runs;
  int64_t numel = 0;
  float* p = nullptr;
  char* g = nullptr;
  DType grad = DType::kF32;
  const float* coefficient = nullptr;  // clip_coefficient's output, where there is one
  bool may_skip = false;               // its third element says whether the step overflowed
  char* copy = nullptr;                // the parameters rounded to 16 bits, where they are wanted
  DType copy_type = DType::kBF16;
  int64_t delay = 0;  // steps from a gradient to its update

  void* grad_at(const BucketRun& run) const { return g + run.begin * SizeOf(grad); }
  void* copy_at(const BucketRun& run) const {
    return copy == nullptr ? nullptr : copy + run.begin * SizeOf(copy_type);
  }
};

struct AdamNode : OptimizerNode {
  float *m = nullptr, *v = nullptr;
  AdamScalars scalars;  // without what changes from step to step: lr, step, grad_scale
};
struct SgdNode : OptimizerNode {
  float* buffer = nullptr;  // the momentum's, where there is one
  SgdScalars scalars;       // without lr, grad_scale
};

AdamNode ReadAdam(const KernelArgs& args, bool decoupled);
SgdNode ReadSgd(const KernelArgs& args);

}  // namespace millrace

#endif  // MILLRACE_OPS_OPTIMIZER_NODE_H_
