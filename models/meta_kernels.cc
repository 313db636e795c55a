#include "models/meta_kernels.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <tuple>

namespace millrace {
namespace {

thread_local int meta_threads = 1;

using OptionalTensor = std::optional<at::Tensor>;
using Tensors3 = std::tuple<at::Tensor, at::Tensor, at::Tensor>;

Tensors3 LayerNorm(const at::Tensor& input, c10::SymIntArrayRef normalized,
                   const OptionalTensor& weight, const OptionalTensor& bias, double eps) {
  const at::Tensor x = input.contiguous();
  std::vector<int64_t> stats(x.sizes().begin(), x.sizes().end());
  std::fill(stats.end() - static_cast<int64_t>(normalized.size()), stats.end(), 1);
  at::Tensor y = at::empty_like(x, at::MemoryFormat::Contiguous);
  at::Tensor mean = at::empty(stats, x.options());
  at::Tensor rstd = at::empty(stats, x.options());
  return {y, mean, rstd};
}

Tensors3 LayerNormBackward(const at::Tensor& grad, const at::Tensor& input,
                           c10::SymIntArrayRef normalized, const at::Tensor& mean,
                           const at::Tensor& rstd, const OptionalTensor& weight,
                           const OptionalTensor& bias, std::array<bool, 3> mask) {
  const at::Tensor dy = grad.contiguous(), x = input.contiguous();
  int64_t width = 1;
  for (const c10::SymInt& n : normalized) width *= n.expect_int();
  at::Tensor dx, dgamma, dbeta;
  if (mask[0]) dx = at::empty_like(x, at::MemoryFormat::Contiguous);
  if (mask[1]) dgamma = at::empty_like(*weight, at::MemoryFormat::Contiguous);
  if (mask[2]) dbeta = at::empty_like(*bias, at::MemoryFormat::Contiguous);
  // Partial sums of each thread.
  at::Tensor buffer;
  if (mask[1] || mask[2]) buffer = at::empty({2, meta_threads, width}, x.options());
  return {dx, dgamma, dbeta};
}

// Rows of queries that the CPU kernel takes at a time; of keys it takes 512.
int64_t QuerySplit(int64_t queries) {
  return std::min<int64_t>(queries, queries >= 768 ? 256 : queries >= 192 ? 64 : 32);
}

std::tuple<at::Tensor, at::Tensor> FlashAttention(const at::Tensor& query, const at::Tensor& key,
                                                  const at::Tensor& value, double dropout,
                                                  bool causal, const OptionalTensor& mask,
                                                  std::optional<double> scale) {
  const int64_t batch = query.size(0), heads = query.size(1), queries = query.size(2);
  const int64_t width = query.size(3);
  at::Tensor out = at::empty({batch, queries, heads, width}, query.options());
  at::Tensor logsumexp = at::empty({batch, queries, heads}, query.options());
  const int64_t q = QuerySplit(queries), k = std::min<int64_t>(key.size(2), 512);
  at::Tensor scratch = at::empty({meta_threads, q * k + 2 * q + q * width}, query.options());
  return {out.transpose(1, 2), logsumexp.transpose(1, 2)};
}

Tensors3 FlashAttentionBackward(const at::Tensor& grad, const at::Tensor& query,
                                const at::Tensor& key, const at::Tensor& value,
                                const at::Tensor& out, const at::Tensor& logsumexp, double dropout,
                                bool causal, const OptionalTensor& mask,
                                std::optional<double> scale) {
  const at::Tensor q_t = query.transpose(1, 2), k_t = key.transpose(1, 2);
  at::Tensor dq = at::zeros(q_t.sizes(), query.options());
  at::Tensor dk = at::zeros(k_t.sizes(), key.options());
  at::Tensor dv = at::zeros(k_t.sizes(), value.options());
  const at::Tensor dy = grad.transpose(1, 2).contiguous();
  const int64_t q = QuerySplit(query.size(2)), k = std::min<int64_t>(key.size(2), 512);
  at::Tensor scratch = at::empty({meta_threads, 2 * q * k}, query.options());
  at::Tensor row_sums = at::empty({q}, query.options());
  return {dq.transpose(1, 2), dk.transpose(1, 2), dv.transpose(1, 2)};
}

TORCH_LIBRARY_IMPL(aten, Meta, m) {
  m.impl("native_layer_norm", &LayerNorm);
  m.impl("native_layer_norm_backward", &LayerNormBackward);
  m.impl("_scaled_dot_product_flash_attention_for_cpu", &FlashAttention);
  m.impl("_scaled_dot_product_flash_attention_for_cpu_backward", &FlashAttentionBackward);
}

}  // namespace

MetaThreads::MetaThreads(int threads) : outer_(meta_threads) { meta_threads = threads; }
MetaThreads::~MetaThreads() { meta_threads = outer_; }
int MetaThreads::Current() { return meta_threads; }

}  // namespace millrace
