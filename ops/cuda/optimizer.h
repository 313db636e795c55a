// AdamW, Adam and SGD on the device: one launch updates any number of ranges, moments and 16-bit copies included, with
// the bits of ops/optimizer_kernels.h. What changes from step to step is read from device memory, so that a captured
// launch stays right.
//
//   std::vector<OptimizerRun> runs = {{p, g, m, v, copy, n}};               // once; copied to the device
//   OptimizerLaunch launch{.rule = Rule::kAdamW, .grad = DType::kBF16, .copy = DType::kBF16, .runs = runs_on_device,
//                          .chunks = chunks_on_device, .chunk_count = ..., .scalars = scalars_on_device};
//   *pinned = ScalarsOf(adam, step.update, delay);                          // each step; copied to `scalars`
//   if (const char* error = Launch(launch, stream)) ...
//
// `coefficient` is clip_coefficient's output, or null: gradients are multiplied by its first element; with `may_skip`
// its third says that the step overflowed, and nothing is updated. A 16-bit copy is written all the same.
#ifndef MILLRACE_OPS_CUDA_OPTIMIZER_H_
#define MILLRACE_OPS_CUDA_OPTIMIZER_H_

#include <cstdint>

#include "graph/base/dtype.h"
#include "ops/cuda/chunks.h"
#include "ops/optimizer_kernels.h"
#include "ops/optimizer_loops.h"

namespace millrace {
namespace cuda {

// A range that is updated alike. All pointers are to its first element.
struct OptimizerRun {
  float* p = nullptr;
  const void* g = nullptr;
  float* m = nullptr;  // SGD: the momentum buffer; null where the rule has none
  float* v = nullptr;
  void* copy = nullptr;  // of 16 bits, or null
  int64_t count = 0;
  float momentum = 0;      // of a running statistic: p -= momentum * g, whatever the rule
  bool statistic = false;  // graph/ir/model_spec.h: ParamSpec::statistic
  bool decay = true;
};

struct OptimizerScalars {
  UpdateConstants constants;  // but for scale, which is the coefficient
  float no_decay = 0;         // constants.decay of runs without weight decay
  int32_t apply = 0;          // 0: no gradient has come yet, nothing is updated
};

// `s` as the kernels of ops/optimizers.cc set it up, without its step: update counts the optimizer steps from 1, delay
// is the steps from a gradient to its update.
OptimizerScalars ScalarsOf(AdamScalars s, int64_t update, int64_t delay);
OptimizerScalars ScalarsOf(const SgdScalars& s, int64_t update, int64_t delay);

struct OptimizerLaunch {
  Rule rule = Rule::kAdamW;   // not LAMB's
  DType grad = DType::kF32;   // f32, bf16, f16
  DType copy = DType::kBF16;  // bf16, f16; of runs that have one
  // All in device memory.
  const OptimizerRun* runs = nullptr;
  const Chunk* chunks = nullptr;  // of the runs
  int64_t chunk_count = 0;
  const OptimizerScalars* scalars = nullptr;
  const float* coefficient = nullptr;
  bool may_skip = false;
};

// Null: issued. `stream`: cudaStream_t.
const char* Launch(const OptimizerLaunch& launch, void* stream);

}  // namespace cuda
}  // namespace millrace

#endif  // MILLRACE_OPS_CUDA_OPTIMIZER_H_
