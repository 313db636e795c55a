// The arithmetic of the optimizers on flat float ranges: one pass over memory, no allocation. Element i of the
// result depends on element i of the inputs alone, so any cut into shards or threads gives the same bits.
// Formulas and their order are torch.optim's (AdamW: Loshchilov and Hutter 2019; Adam: Kingma and Ba 2015),
// so results agree with the reference to rounding.
#ifndef MILLRACE_OPS_OPTIMIZER_KERNELS_H_
#define MILLRACE_OPS_OPTIMIZER_KERNELS_H_

#include <cstdint>

namespace millrace {

struct AdamScalars {
  double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0.01;
  bool decoupled = true;  // AdamW; false: Adam, decay is added to the gradient
  int64_t step = 1;       // 1 for the first update
  float grad_scale = 1;   // gradients are multiplied by this first (the clip coefficient)
};

// p, m (exp_avg), v (exp_avg_sq) are updated in place; g is read.
void AdamUpdate(float* p, const float* g, float* m, float* v, int64_t n, const AdamScalars& s);

struct SgdScalars {
  double lr = 1e-3, momentum = 0.9, weight_decay = 0;
  bool nesterov = false;
  float grad_scale = 1;
};

// buffer (momentum) may be null when momentum is 0; it starts as zeros.
void SgdUpdate(float* p, const float* g, float* buffer, int64_t n, const SgdScalars& s);

// min(1, max_norm / (norm + 1e-6)), what gradients are multiplied by so that their norm is at most max_norm
// (torch.nn.utils.clip_grad_norm_). Not finite when the norm is not, so that it cannot pass unseen.
float ClipFactor(float norm, double max_norm);

// total[i] += addend[i]
void AddInPlace(float* total, const float* addend, int64_t n);

}  // namespace millrace

#endif  // MILLRACE_OPS_OPTIMIZER_KERNELS_H_
