// Batch normalisation over tokens [batch, N, C], with the ReLU behind it, and running statistics that are
// parameters of the schedule.
//
//   at::Tensor y = BatchNorm(x, {weight, bias, running_mean, running_var}, {.training = true});
//
// Training normalises by the batch's own mean and variance. What backward gives as the gradients of running_mean and
// running_var is (running - batch's), with the unbiased variance: an update by running -= momentum * gradient is the
// usual one, and it happens once per step, as the mean over ranks and micro-batches (graph/ir/model_spec.h).
// Evaluation normalises by the running statistics, which then have no gradients.
//
// The ReLU is here because its result then needs not be kept: backward finds its sign from x again. Sums are in
// double but for a few rows at a time, cut by shapes alone, so bits do not depend on the number of threads. bf16 and f16 are f32 inside.
#ifndef MILLRACE_MODELS_BATCH_NORM_H_
#define MILLRACE_MODELS_BATCH_NORM_H_

#include <ATen/core/Tensor.h>

namespace millrace {

struct BatchNormParams {
  at::Tensor weight, bias, running_mean, running_var;  // [C]
};
struct BatchNormOptions {
  bool training = true;
  bool relu = true;
  double eps = 1e-5;
};

at::Tensor BatchNorm(const at::Tensor& x, const BatchNormParams& params,
                     const BatchNormOptions& options);

}  // namespace millrace

#endif  // MILLRACE_MODELS_BATCH_NORM_H_
