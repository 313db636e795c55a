#include "ops/optimizer_kernels.h"

#include <algorithm>
#include <cmath>

// One source per kernel, compiled for several instruction sets and chosen at load time. Contraction into
// fused multiply-add is off for the whole build, so all clones give the same bits.
#define MILLRACE_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))

namespace millrace {
namespace {

template <bool kDecoupled>
__attribute__((always_inline)) inline void AdamLoop(float* __restrict p, const float* __restrict g,
                                                    float* __restrict m, float* __restrict v,
                                                    int64_t n, float scale, float decay,
                                                    float one_minus_beta1, float beta2,
                                                    float one_minus_beta2, float step_size,
                                                    float bias2_sqrt, float eps) {
  for (int64_t i = 0; i < n; ++i) {
    float grad = g[i] * scale;
    float param = p[i];
    if (kDecoupled) {
      param = param * decay;  // decay = 1 - lr * weight_decay
    } else {
      grad = grad + decay * param;  // decay = weight_decay
    }
    const float first = m[i] + (grad - m[i]) * one_minus_beta1;
    const float second = v[i] * beta2 + one_minus_beta2 * grad * grad;
    const float denominator = std::sqrt(second) / bias2_sqrt + eps;
    p[i] = param - step_size * (first / denominator);
    m[i] = first;
    v[i] = second;
  }
}

MILLRACE_CLONES void AdamWLoop(float* p, const float* g, float* m, float* v, int64_t n, float scale,
                               float decay, float c1, float b2, float c2, float step_size,
                               float bias2_sqrt, float eps) {
  AdamLoop<true>(p, g, m, v, n, scale, decay, c1, b2, c2, step_size, bias2_sqrt, eps);
}

MILLRACE_CLONES void AdamL2Loop(float* p, const float* g, float* m, float* v, int64_t n,
                                float scale, float decay, float c1, float b2, float c2,
                                float step_size, float bias2_sqrt, float eps) {
  AdamLoop<false>(p, g, m, v, n, scale, decay, c1, b2, c2, step_size, bias2_sqrt, eps);
}

MILLRACE_CLONES void SgdMomentumLoop(float* __restrict p, const float* __restrict g,
                                     float* __restrict buffer, int64_t n, float scale, float lr,
                                     float momentum, float decay, bool nesterov) {
  for (int64_t i = 0; i < n; ++i) {
    const float grad = g[i] * scale + decay * p[i];
    const float moved = momentum * buffer[i] + grad;
    buffer[i] = moved;
    p[i] = p[i] - lr * (nesterov ? grad + momentum * moved : moved);
  }
}

MILLRACE_CLONES void SgdPlainLoop(float* __restrict p, const float* __restrict g, int64_t n,
                                  float scale, float lr, float decay) {
  for (int64_t i = 0; i < n; ++i) p[i] = p[i] - lr * (g[i] * scale + decay * p[i]);
}

}  // namespace

void AdamUpdate(float* p, const float* g, float* m, float* v, int64_t n, const AdamScalars& s) {
  const double bias1 = 1 - std::pow(s.beta1, static_cast<double>(s.step));
  const double bias2_sqrt = std::sqrt(1 - std::pow(s.beta2, static_cast<double>(s.step)));
  const float decay = static_cast<float>(s.decoupled ? 1 - s.lr * s.weight_decay : s.weight_decay);
  auto* loop = s.decoupled ? &AdamWLoop : &AdamL2Loop;
  loop(p, g, m, v, n, s.grad_scale, decay, static_cast<float>(1 - s.beta1),
       static_cast<float>(s.beta2), static_cast<float>(1 - s.beta2),
       static_cast<float>(s.lr / bias1), static_cast<float>(bias2_sqrt), static_cast<float>(s.eps));
}

void SgdUpdate(float* p, const float* g, float* buffer, int64_t n, const SgdScalars& s) {
  if (s.momentum == 0 || buffer == nullptr) {
    SgdPlainLoop(p, g, n, s.grad_scale, static_cast<float>(s.lr),
                 static_cast<float>(s.weight_decay));
    return;
  }
  SgdMomentumLoop(p, g, buffer, n, s.grad_scale, static_cast<float>(s.lr),
                  static_cast<float>(s.momentum), static_cast<float>(s.weight_decay), s.nesterov);
}

float ClipFactor(float norm, double max_norm) {
  if (!std::isfinite(norm)) return norm - norm;
  return std::min(1.0f, static_cast<float>(max_norm) / (norm + 1e-6f));
}

MILLRACE_CLONES void AddInPlace(float* __restrict total, const float* __restrict addend,
                                int64_t n) {
  for (int64_t i = 0; i < n; ++i) total[i] += addend[i];
}

}  // namespace millrace
