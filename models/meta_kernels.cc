#include "models/meta_kernels.h"

#include <ATen/ExpandUtils.h>
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

#include "models/generic.h"

namespace millrace {
namespace {

thread_local int meta_threads = 1;

using OptionalTensor = std::optional<at::Tensor>;
using Tensors3 = std::tuple<at::Tensor, at::Tensor, at::Tensor>;

at::TensorOptions Float(const at::Tensor& t) { return t.options().dtype(at::kFloat); }

Tensors3 LayerNorm(const at::Tensor& input, c10::SymIntArrayRef normalized,
                   const OptionalTensor& weight, const OptionalTensor& bias, double eps) {
  const at::Tensor x = input.contiguous();
  std::vector<int64_t> stats(x.sizes().begin(), x.sizes().end());
  std::fill(stats.end() - static_cast<int64_t>(normalized.size()), stats.end(), 1);
  at::Tensor y = at::empty_like(x, at::MemoryFormat::Contiguous);
  const at::TensorOptions statistics = ForceGeneric::forced() ? Float(x) : x.options();
  at::Tensor mean = at::empty(stats, statistics);
  at::Tensor rstd = at::empty(stats, statistics);
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

// CUDA's attention of 16 bits.
std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, c10::SymInt, c10::SymInt, at::Tensor,
           at::Tensor, at::Tensor>
CudaFlashAttention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                   double dropout, bool causal, bool debug_mask, std::optional<double> scale) {
  const at::Tensor q_t = query.transpose(1, 2);
  at::Tensor out = at::empty(q_t.sizes(), q_t.options());
  at::Tensor logsumexp = at::empty({query.size(0), query.size(1), query.size(2)}, Float(query));
  at::Tensor rng_state = at::empty({2}, query.options().dtype(at::kLong));
  at::Tensor unused = at::empty({0}, rng_state.options()), mask = at::empty({0}, query.options());
  return {out.transpose(1, 2), logsumexp, at::Tensor(), at::Tensor(), query.size(2),
          key.size(2),         rng_state, unused,       mask};
}

Tensors3 CudaFlashAttentionBackward(const at::Tensor& grad, const at::Tensor& query,
                                    const at::Tensor& key, const at::Tensor& value,
                                    const at::Tensor& out, const at::Tensor& logsumexp,
                                    const at::Tensor& cum_q, const at::Tensor& cum_k,
                                    c10::SymInt max_q, c10::SymInt max_k, double dropout,
                                    bool causal, const at::Tensor& seed, const at::Tensor& offset,
                                    std::optional<double> scale) {
  const at::Tensor q_t = query.transpose(1, 2), k_t = key.transpose(1, 2);
  at::Tensor dq = at::empty(q_t.sizes(), q_t.options());
  at::Tensor dk = at::empty(k_t.sizes(), k_t.options());
  at::Tensor dv = at::empty(k_t.sizes(), k_t.options());
  // Sums of rows, and dq in f32, of lengths rounded up to the kernel's blocks.
  const int64_t rows = (query.size(2) + 127) / 128 * 128;
  const int64_t width = (query.size(3) + 31) / 32 * 32;
  at::Tensor sums = at::empty({query.size(0), query.size(1), rows}, Float(query));
  at::Tensor dq_sum = at::empty({query.size(0), rows, query.size(1), width}, Float(query));
  return {dq.transpose(1, 2), dk.transpose(1, 2), dv.transpose(1, 2)};
}

// CUDA's attention of f32.
std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> CudaEfficientAttention(
    const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
    const OptionalTensor& bias, bool want_logsumexp, double dropout, bool causal,
    std::optional<double> scale) {
  const at::Tensor q_t = query.transpose(1, 2);
  at::Tensor out = at::empty(q_t.sizes(), q_t.options());
  const int64_t rows = want_logsumexp ? (query.size(2) + 31) / 32 * 32 : 0;
  at::Tensor logsumexp = at::empty({query.size(0), query.size(1), rows}, Float(query));
  at::Tensor seed = at::empty({}, query.options().dtype(at::kLong));
  at::Tensor offset = at::empty({}, seed.options());
  return {out.transpose(1, 2), logsumexp, seed, offset};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> CudaEfficientAttentionBackward(
    const at::Tensor& grad, const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
    const at::Tensor& bias, const at::Tensor& out, const at::Tensor& logsumexp,
    const at::Tensor& seed, const at::Tensor& offset, double dropout, std::array<bool, 4> mask,
    bool causal, std::optional<double> scale) {
  const at::Tensor q_t = query.transpose(1, 2), k_t = key.transpose(1, 2);
  at::Tensor dq = at::empty(q_t.sizes(), q_t.options());
  at::Tensor dk = at::empty(k_t.sizes(), k_t.options());
  at::Tensor dv = at::empty(k_t.sizes(), k_t.options());
  // grad * out and its sums.
  at::Tensor product = at::empty(q_t.sizes(), Float(query));
  at::Tensor sums = at::empty({query.size(0), query.size(1), query.size(2)}, Float(query));
  return {dq.transpose(1, 2), dk.transpose(1, 2), dv.transpose(1, 2), at::Tensor()};
}

// cuDNN's convolutions: images of channels_last stay so, and the weights are brought to the same format.
at::MemoryFormat FormatOf(const at::Tensor& x) { return x.suggest_memory_format(); }

at::Tensor CudaConvolution(const at::Tensor& input, const at::Tensor& weight,
                           const OptionalTensor& bias, c10::SymIntArrayRef stride,
                           c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation,
                           bool transposed, c10::SymIntArrayRef output_padding,
                           c10::SymInt groups) {
  std::vector<int64_t> sizes{input.size(0),
                             transposed ? weight.size(1) * groups.expect_int() : weight.size(0)};
  for (int64_t a = 0; a + 2 < input.dim(); ++a) {
    const auto i = static_cast<size_t>(a);
    const int64_t n = input.size(a + 2), s = stride[i].expect_int(), p = padding[i].expect_int();
    const int64_t reach = dilation[i].expect_int() * (weight.size(a + 2) - 1);
    sizes.push_back(transposed ? (n - 1) * s - 2 * p + reach + output_padding[i].expect_int() + 1
                               : (n + 2 * p - reach - 1) / s + 1);
  }
  const at::Tensor x = input.contiguous(FormatOf(input)), w = weight.contiguous(FormatOf(input));
  return at::empty(sizes, input.options(), FormatOf(input));
}

Tensors3 CudaConvolutionBackward(const at::Tensor& grad, const at::Tensor& input,
                                 const at::Tensor& weight, at::OptionalSymIntArrayRef bias_sizes,
                                 c10::SymIntArrayRef stride, c10::SymIntArrayRef padding,
                                 c10::SymIntArrayRef dilation, bool transposed,
                                 c10::SymIntArrayRef output_padding, c10::SymInt groups,
                                 std::array<bool, 3> mask) {
  const at::MemoryFormat format = FormatOf(input);
  const at::Tensor dy = grad.contiguous(format), x = input.contiguous(format);
  at::Tensor dx, dw, db;
  if (mask[0]) {
    const at::Tensor w = weight.contiguous(format);
    dx = at::empty(input.sizes(), input.options(), format);
  }
  if (mask[1]) dw = at::empty(weight.sizes(), weight.options(), format);
  if (mask[2]) db = at::empty({grad.size(1)}, grad.options());
  return {dx, dw, db};
}

Tensors3 CudaBatchNorm(const at::Tensor& input, const OptionalTensor& weight,
                       const OptionalTensor& bias, const OptionalTensor& mean,
                       const OptionalTensor& var, bool training, double momentum, double eps) {
  at::Tensor y = at::empty_like(input);
  const int64_t n = training ? input.size(1) : 0;
  return {y, at::empty({n}, Float(input)), at::empty({n}, Float(input))};
}

Tensors3 CudaBatchNormBackward(const at::Tensor& grad, const at::Tensor& input,
                               const OptionalTensor& weight, const OptionalTensor& mean,
                               const OptionalTensor& var, const OptionalTensor& save_mean,
                               const OptionalTensor& save_invstd, bool training, double eps,
                               std::array<bool, 3> mask) {
  at::Tensor sums = at::empty({2, input.size(1)}, Float(input));
  at::Tensor dx, dw, db;
  if (mask[0]) dx = at::empty_like(input);
  if (mask[1]) dw = at::empty({input.size(1)}, weight->options());
  if (mask[2]) db = at::empty({input.size(1)}, weight->options());
  return {dx, dw, db};
}

at::Tensor Where(const at::Tensor& condition, const at::Tensor& x, const at::Tensor& other) {
  return at::empty(at::infer_size(condition.sizes(), at::infer_size(x.sizes(), other.sizes())),
                   x.options());
}

TORCH_LIBRARY_IMPL(aten, Meta, m) {
  m.impl("native_layer_norm", &LayerNorm);
  m.impl("native_layer_norm_backward", &LayerNormBackward);
  m.impl("_scaled_dot_product_flash_attention_for_cpu", &FlashAttention);
  m.impl("_scaled_dot_product_flash_attention_for_cpu_backward", &FlashAttentionBackward);
  m.impl("_scaled_dot_product_flash_attention", &CudaFlashAttention);
  m.impl("_scaled_dot_product_flash_attention_backward", &CudaFlashAttentionBackward);
  m.impl("_scaled_dot_product_efficient_attention", &CudaEfficientAttention);
  m.impl("_scaled_dot_product_efficient_attention_backward", &CudaEfficientAttentionBackward);
  m.impl("convolution", &CudaConvolution);
  m.impl("convolution_backward", &CudaConvolutionBackward);
  m.impl("where.self", &Where);
  m.impl("native_batch_norm", &CudaBatchNorm);
  m.impl("native_batch_norm_backward", &CudaBatchNormBackward);
}

}  // namespace

MetaThreads::MetaThreads(int threads) : outer_(meta_threads) { meta_threads = threads; }
MetaThreads::~MetaThreads() { meta_threads = outer_; }
int MetaThreads::Current() { return meta_threads; }

}  // namespace millrace
