// What the dispatcher (optimizer_kernels.cc) and the loops of each instruction set agree on. The arithmetic stands
// once, in optimizer_loops-inl.h, over a vector type; optimizer_loops_{scalar,avx2,avx512}.cc supply the type and
// are compiled for their instruction set.
//
//   UpdateFn update = Avx2Update(Rule::kAdamW, Format::kBF16, Format::kNone);   // null: not compiled in
//   update({p, g, m, v, nullptr, n}, constants);
#ifndef MILLRACE_OPS_OPTIMIZER_LOOPS_H_
#define MILLRACE_OPS_OPTIMIZER_LOOPS_H_

#include <cstdint>

namespace millrace {

// kLambMoments leaves p alone and writes the update to `out`; kLambApply reads the moments and no gradient.
enum class Rule { kAdamW, kAdam, kSgd, kSgdMomentum, kSgdNesterov, kLambMoments, kLambApply };

enum class Format { kNone, kF32, kBF16, kF16 };

struct UpdateSpan {
  float* p;
  const void* g;
  float *m, *v;  // SGD: m is the momentum buffer
  void* out;     // copy of the new parameters, or null
  int64_t n;
};

// Everything is rounded to float before the loop, so that all instruction sets start from the same bits.
struct UpdateConstants {
  float scale = 1;  // of the gradient
  float decay = 0;  // AdamW: 1 - lr * weight_decay; others: weight_decay
  float one_minus_beta1 = 0, beta2 = 0, one_minus_beta2 = 0;
  float bias2_sqrt = 1, eps = 0;
  float inverse_bias1 = 1;  // LAMB
  float momentum = 0;       // SGD
  float step_size = 0;      // Adam: lr / bias1; SGD: lr; LAMB: lr * trust ratio
};

using UpdateFn = void (*)(const UpdateSpan&, const UpdateConstants&);

UpdateFn ScalarUpdate(Rule rule, Format grad, Format copy);
UpdateFn Avx2Update(Rule rule, Format grad, Format copy);
UpdateFn Avx512Update(Rule rule, Format grad, Format copy);

}  // namespace millrace

#endif  // MILLRACE_OPS_OPTIMIZER_LOOPS_H_
