// The arithmetic of the optimizers on flat float ranges: one pass over memory, no allocation. Element i of the
// result depends on element i of the inputs alone (LAMB: and on two norms that do not depend on the cut), so any
// cut into shards or threads gives the same bits, and so does every instruction set: a NaN is stored as
// 0x7fc00000, everything else as IEEE arithmetic in the order of torch.optim (AdamW: Loshchilov and Hutter 2019;
// Adam: Kingma and Ba 2015; LAMB: You et al. 2020), so results agree with the reference to rounding.
//
//   AdamUpdate(p, g, m, v, n, scalars);                        // f32, this thread
//   RETURN_IF_ERROR(AdamUpdate(p, g16, m, v, n, scalars,       // 16 bits in, 16 bits out, in the same pass
//                              {.grad = DType::kBF16, .copy = p16, .copy_type = DType::kBF16, .threads = 2}));
//
// Undoing the loss scale and clipping are one factor, grad_scale: the scale is a power of two, so
// (1 / scale) * clip is exact and gives what two multiplications would.
#ifndef MILLRACE_OPS_OPTIMIZER_KERNELS_H_
#define MILLRACE_OPS_OPTIMIZER_KERNELS_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "graph/base/dtype.h"
#include "ops/exact_norm.h"
#include "ops/optimizer_loops.h"

namespace millrace {

enum class Isa { kScalar, kAvx2, kAvx512 };

const char* Name(Isa isa);
bool Supported(Isa isa);  // by this processor, its operating system and this build
Isa BestIsa();

struct UpdateOptions {
  DType grad = DType::kF32;  // f32, bf16 or f16
  void* copy = nullptr;      // gets the new parameters, rounded to nearest even
  DType copy_type = DType::kBF16;
  int threads = 1;  // at most; ranges too short to be worth a thread are not cut
  Isa isa = BestIsa();
};

struct AdamScalars {
  double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0.01;
  bool decoupled = true;  // AdamW; false: Adam, decay is added to the gradient
  int64_t step = 1;       // 1 for the first update
  float grad_scale = 1;   // gradients are multiplied by this first
};

// p, m (exp_avg), v (exp_avg_sq) are updated in place; g is read.
void AdamUpdate(float* p, const float* g, float* m, float* v, int64_t n, const AdamScalars& s);
absl::Status AdamUpdate(float* p, const void* g, float* m, float* v, int64_t n,
                        const AdamScalars& s, const UpdateOptions& options);

struct SgdScalars {
  double lr = 1e-3, momentum = 0.9, weight_decay = 0;
  bool nesterov = false;
  float grad_scale = 1;
};

// buffer (momentum) may be null when momentum is 0; it starts as zeros.
void SgdUpdate(float* p, const float* g, float* buffer, int64_t n, const SgdScalars& s);
absl::Status SgdUpdate(float* p, const void* g, float* buffer, int64_t n, const SgdScalars& s,
                       const UpdateOptions& options);

// What an update computes with, in double and rounded once: kernels of other devices start from the same bits.
UpdateConstants ConstantsOf(const AdamScalars& s);
UpdateConstants ConstantsOf(const SgdScalars& s);

struct LambScalars {
  double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-6, weight_decay = 0.01;
  int64_t step = 1;
  float grad_scale = 1;
};

// LAMB takes two passes over each parameter tensor, with the norms of the whole tensor between them. A shard adds
// up its part of the norms with those of the others (NormPartial::Add, in any order):
//
//   ASSIGN_OR_RETURN(LambNorms norms, LambMoments(p, g, m, v, n, s, options));     // m and v are new, p is not
//   RETURN_IF_ERROR(LambApply(p, m, v, n, LambTrustRatio(norms), s, options));
struct LambNorms {
  NormPartial param, update;
};
absl::StatusOr<LambNorms> LambMoments(const float* p, const void* g, float* m, float* v, int64_t n,
                                      const LambScalars& s, const UpdateOptions& options);
// |param| / |update|, 1 when one of them is 0 (nothing to compare with).
float LambTrustRatio(const LambNorms& norms);
absl::Status LambApply(float* p, const float* m, const float* v, int64_t n, float trust_ratio,
                       const LambScalars& s, const UpdateOptions& options);

// min(1, max_norm / (norm + 1e-6)), what gradients are multiplied by so that their norm is at most max_norm
// (torch.nn.utils.clip_grad_norm_). Not finite when the norm is not, so that it cannot pass unseen.
float ClipFactor(float norm, double max_norm);

// What gradients that carry a loss scale are multiplied by: brought back, then clipped as above (max_norm 0: not
// clipped). `scaled_norm` is theirs as they are. The scale is a power of two, so dividing by it is exact.
float UnscaleClipFactor(float scaled_norm, double scale, double max_norm);

// total[i] += addend[i]
void AddInPlace(float* total, const float* addend, int64_t n);

}  // namespace millrace

#endif  // MILLRACE_OPS_OPTIMIZER_KERNELS_H_
