#include "models/layers.h"

#include <ATen/ops/_log_softmax.h>
#include <ATen/ops/_scaled_dot_product_efficient_attention.h>
#include <ATen/ops/_scaled_dot_product_flash_attention.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu_backward.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/full.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/gelu_backward.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/native_layer_norm.h>
#include <ATen/ops/native_layer_norm_backward.h>
#include <ATen/ops/nll_loss.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>
#include <tuple>
#include <utility>

#include "models/generic.h"

namespace millrace::layers {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::Variable;
using torch::autograd::variable_list;

// Custom functions take "no tensor" in this form only.
using OptionalTensor = std::optional<at::Tensor>;
OptionalTensor Optional(const at::Tensor& t) {
  return t.defined() ? OptionalTensor(t) : std::nullopt;
}

at::Tensor Narrow(const at::Tensor& t, at::ScalarType type) { return t.to(type); }
bool IsHalf(const at::Tensor& t) { return at::isReducedFloatingType(t.scalar_type()); }
// 16 bits that a layer takes to f32 inside; on CUDA the kernels have 16-bit operands and f32 sums.
bool Widens(const at::Tensor& t) { return IsHalf(t) && OnHost(t); }

struct LayerNormBranchFunction : Function<LayerNormBranchFunction> {
  static variable_list forward(AutogradContext* ctx, const Variable& x, const Variable& weight,
                               const Variable& bias, double eps) {
    auto [y, mean, rstd] =
        at::native_layer_norm(Inside(x), {x.size(-1)}, Inside(weight), Inside(bias), eps);
    ctx->save_for_backward({x, weight, bias, mean, rstd});
    return {Narrow(y, x.scalar_type()), x};
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &bias = saved[2];
    auto [dx, dweight, dbias] =
        at::native_layer_norm_backward(Inside(grads[0]), Inside(x), {x.size(-1)}, saved[3],
                                       saved[4], Inside(weight), Inside(bias), {true, true, true});
    if (grads[1].defined()) dx.add_(Inside(grads[1]));
    const at::ScalarType type = x.scalar_type();
    return {Narrow(dx, type), Narrow(dweight, type), Narrow(dbias, type), Variable()};
  }
};

struct QkvFunction : Function<QkvFunction> {
  static variable_list forward(AutogradContext* ctx, const Variable& x, const Variable& q_weight,
                               const OptionalTensor& q_bias, const Variable& k_weight,
                               const OptionalTensor& k_bias, const Variable& v_weight,
                               const OptionalTensor& v_bias) {
    ctx->save_for_backward({x, q_weight, k_weight, v_weight});
    ctx->saved_data["bias"] = q_bias.has_value();
    const at::Tensor wide = Inside(x);
    const auto project = [&](const Variable& weight, const OptionalTensor& bias) {
      const at::Tensor y = Linear(wide, Inside(weight), Inside(bias.value_or(Variable())));
      return Narrow(y, x.scalar_type());
    };
    return {project(q_weight, q_bias), project(k_weight, k_bias), project(v_weight, v_bias)};
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    const bool bias = ctx->saved_data["bias"].toBool();
    const at::ScalarType type = saved[0].scalar_type();
    variable_list result(7);
    const at::Tensor x = Inside(saved[0]);
    at::Tensor dx;
    for (int i = 0; i < 3; ++i) {
      const at::Tensor dy = Inside(grads[i]);
      if (i == 0) {
        dx = at::mm(dy, Inside(saved[1]));
      } else {
        dx.addmm_(dy, Inside(saved[1 + i]));
      }
      result[1 + 2 * i] = Narrow(at::mm(dy.t(), x), type);
      if (bias) result[2 + 2 * i] = Narrow(dy.sum(0), type);
      grads[i].reset();
    }
    result[0] = Narrow(dx, type);
    return result;
  }
};

// Linear of 16 bits: what is kept for backward stays in 16 bits.
struct HalfLinearFunction : Function<HalfLinearFunction> {
  static Variable forward(AutogradContext* ctx, const Variable& x, const Variable& weight,
                          const OptionalTensor& bias) {
    ctx->save_for_backward({x, weight});
    ctx->saved_data["bias"] = bias.has_value();
    return Narrow(Linear(Wide(x), Wide(weight), Wide(bias.value_or(Variable()))), x.scalar_type());
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    const at::ScalarType type = saved[0].scalar_type();
    const at::Tensor dy = Wide(grads[0]);
    variable_list result(3);
    result[0] = Narrow(at::mm(dy, Wide(saved[1])), type);
    result[1] = Narrow(at::mm(dy.t(), Wide(saved[0])), type);
    if (ctx->saved_data["bias"].toBool()) result[2] = Narrow(dy.sum(0), type);
    return result;
  }
};

struct HalfGeluFunction : Function<HalfGeluFunction> {
  static Variable forward(AutogradContext* ctx, const Variable& x) {
    ctx->save_for_backward({x});
    return Narrow(at::gelu(Wide(x)), x.scalar_type());
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const at::Tensor x = ctx->get_saved_variables()[0];
    return {Narrow(at::gelu_backward(Wide(grads[0]), Wide(x)), x.scalar_type())};
  }
};

// [B * N, H * d] -> [B, H, N, d], a view; and back, a copy where needed.
at::Tensor SplitHeads(const at::Tensor& rows, int64_t batch, int64_t heads) {
  return rows.view({batch, rows.size(0) / batch, heads, rows.size(1) / heads}).transpose(1, 2);
}
at::Tensor JoinHeads(const at::Tensor& x) {
  return x.transpose(1, 2).reshape({x.size(0) * x.size(2), x.size(1) * x.size(3)});
}

// Softmax attention of 16 bits over rows of all heads.
struct HalfAttentionFunction : Function<HalfAttentionFunction> {
  static Variable forward(AutogradContext* ctx, const Variable& q, const Variable& k,
                          const Variable& v, int64_t batch, int64_t heads) {
    const auto wide = [&](const Variable& rows) { return SplitHeads(Wide(rows), batch, heads); };
    auto [out, logsumexp] =
        at::_scaled_dot_product_flash_attention_for_cpu(wide(q), wide(k), wide(v));
    const at::Tensor context = Narrow(JoinHeads(out), q.scalar_type());
    ctx->save_for_backward({q, k, v, context, logsumexp});
    ctx->saved_data["batch"] = batch;
    ctx->saved_data["heads"] = heads;
    return context;
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    const int64_t batch = ctx->saved_data["batch"].toInt();
    const int64_t heads = ctx->saved_data["heads"].toInt();
    const at::ScalarType type = saved[0].scalar_type();
    const auto wide = [&](const Variable& rows) { return SplitHeads(Wide(rows), batch, heads); };
    auto [dq, dk, dv] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
        wide(grads[0]), wide(saved[0]), wide(saved[1]), wide(saved[2]), wide(saved[3]), saved[4],
        /*dropout_p=*/0.0, /*is_causal=*/false);
    return {Narrow(JoinHeads(dq), type), Narrow(JoinHeads(dk), type), Narrow(JoinHeads(dv), type),
            Variable(), Variable()};
  }
};

}  // namespace

at::Tensor Wide(const at::Tensor& t) { return t.defined() && IsHalf(t) ? t.to(at::kFloat) : t; }

at::Tensor Inside(const at::Tensor& t) { return t.defined() && OnHost(t) ? Wide(t) : t; }

at::Tensor Linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  if (Widens(x)) return HalfLinearFunction::apply(x, weight, Optional(bias));
  if (!bias.defined()) return at::mm(x, weight.t());
  return at::addmm(bias, x, weight.t());
}

at::Tensor LayerNorm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                     double eps) {
  return at::layer_norm(x, {x.size(-1)}, weight, bias, eps);
}

Branch LayerNormBranch(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                       double eps) {
  if (!c10::GradMode::is_enabled()) {
    return {Narrow(LayerNorm(Inside(x), Inside(weight), Inside(bias), eps), x.scalar_type()), x};
  }
  variable_list out = LayerNormBranchFunction::apply(x, weight, bias, eps);
  return {std::move(out[0]), std::move(out[1])};
}

std::array<at::Tensor, 3> ProjectQkv(const at::Tensor& x, const AttentionParams& p) {
  if (!c10::GradMode::is_enabled()) {
    return {Linear(x, p.q_weight, p.q_bias), Linear(x, p.k_weight, p.k_bias),
            Linear(x, p.v_weight, p.v_bias)};
  }
  variable_list out = QkvFunction::apply(x, p.q_weight, Optional(p.q_bias), p.k_weight,
                                         Optional(p.k_bias), p.v_weight, Optional(p.v_bias));
  return {std::move(out[0]), std::move(out[1]), std::move(out[2])};
}

at::Tensor SoftmaxAttention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  // The dispatching function would choose another kernel on the meta device than on a real one.
  if (OnHost(q)) return std::get<0>(at::_scaled_dot_product_flash_attention_for_cpu(q, k, v));
  if (!q.is_meta()) return at::scaled_dot_product_attention(q, k, v);
  if (IsHalf(q)) return std::get<0>(at::_scaled_dot_product_flash_attention(q, k, v));
  return std::get<0>(at::_scaled_dot_product_efficient_attention(
      q, k, v, /*attn_bias=*/std::nullopt, /*compute_log_sumexp=*/c10::GradMode::is_enabled()));
}

at::Tensor SelfAttention(const at::Tensor& x, const AttentionParams& p, int64_t batch,
                         int64_t heads) {
  const int64_t width = p.q_weight.size(0);
  if (Widens(x)) {
    at::Tensor context;
    {
      const std::array<at::Tensor, 3> qkv = ProjectQkv(x, p);
      context = HalfAttentionFunction::apply(qkv[0], qkv[1], qkv[2], batch, heads);
    }
    return Linear(context, p.o_weight, p.o_bias);
  }
  at::Tensor context;
  {
    const std::array<at::Tensor, 3> qkv = ProjectQkv(x, p);
    const at::Tensor q = SplitHeads(qkv[0], batch, heads), k = SplitHeads(qkv[1], batch, heads),
                     v = SplitHeads(qkv[2], batch, heads);
    context = SoftmaxAttention(q, k, v);
  }
  context = context.transpose(1, 2).reshape({x.size(0), width});
  return Linear(context, p.o_weight, p.o_bias);
}

at::Tensor Mlp(const at::Tensor& x, const at::Tensor& fc1_weight, const at::Tensor& fc1_bias,
               const at::Tensor& fc2_weight, const at::Tensor& fc2_bias) {
  at::Tensor h = Linear(x, fc1_weight, fc1_bias);
  h = Widens(h) ? HalfGeluFunction::apply(h) : at::gelu(h);
  return Linear(h, fc2_weight, fc2_bias);
}

at::Tensor PatchEmbedding(const at::Tensor& images, const at::Tensor& weight,
                          const at::Tensor& bias) {
  const int64_t p = weight.size(2);
  const int64_t rows = images.size(2) / p, columns = images.size(3) / p;
  const at::Tensor patches = images.view({images.size(0), images.size(1), rows, p, columns, p})
                                 .permute({0, 2, 4, 1, 3, 5})
                                 .reshape({images.size(0) * rows * columns, -1});
  return Linear(patches, weight.view({weight.size(0), -1}), bias);
}

at::Tensor CrossEntropy(const at::Tensor& logits, const at::Tensor& labels, double smoothing) {
  const at::Tensor log_p = at::_log_softmax(logits, 1, /*half_to_float=*/false);
  if (smoothing == 0) return at::nll_loss(log_p, labels);
  // The negative target over the batch, written out, and each tensor used once. Sums go over one dimension
  // at a time: a sum over all elements takes scratch whose size depends on the number of threads. And no
  // tensor is multiplied by a number: on the CPU, but not on meta, that makes a tensor of the number.
  const double share = -1.0 / static_cast<double>(logits.size(0));
  const double even = share * smoothing / static_cast<double>(logits.size(1));
  const at::Tensor target = at::full(logits.sizes(), even, logits.options().requires_grad(false))
                                .scatter_(1, labels.unsqueeze(1), share * (1 - smoothing) + even);
  return log_p.mul(target).sum(1).sum(0);
}

}  // namespace millrace::layers
