#include "models/rat/blocks.h"

#include <ATen/Parallel.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/gelu_backward.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/native_layer_norm.h>
#include <ATen/ops/native_layer_norm_backward.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/where.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <tuple>

#include "graph/base/random.h"
#include "models/generic.h"
#include "models/layers.h"
#include "models/rat/generic_parts.h"

namespace millrace::rat {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::Variable;
using torch::autograd::variable_list;
using OptionalTensor = std::optional<at::Tensor>;

OptionalTensor Optional(const at::Tensor& t) {
  return t.defined() ? OptionalTensor(t) : std::nullopt;
}

struct ForkFunction : Function<ForkFunction> {
  static variable_list forward(AutogradContext* ctx, const Variable& x) {
    ctx->set_materialize_grads(false);
    return {x, x};
  }
  static variable_list backward(AutogradContext*, variable_list grads) {
    if (!grads[0].defined()) return {grads[1]};
    if (grads[1].defined()) grads[0].add_(grads[1]);
    return {grads[0]};
  }
};

struct ProjectFunction : Function<ProjectFunction> {
  static variable_list forward(AutogradContext* ctx, const Variable& rows, const Variable& weight,
                               const OptionalTensor& bias, int64_t parts) {
    ctx->save_for_backward({rows, weight});
    ctx->saved_data["bias"] = bias.has_value();
    const int64_t width = weight.size(0) / parts;
    variable_list out;
    for (int64_t i = 0; i < parts; ++i) {
      const at::Tensor w = weight.narrow(0, i * width, width).t();
      out.push_back(bias ? at::addmm(bias->narrow(0, i * width, width), rows, w) : at::mm(rows, w));
    }
    return out;
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor &rows = saved[0], &weight = saved[1];
    const int64_t parts = static_cast<int64_t>(grads.size()), width = weight.size(0) / parts;
    variable_list result(4);
    result[1] = at::empty_like(weight);
    if (ctx->saved_data["bias"].toBool()) result[2] = at::empty({weight.size(0)}, weight.options());
    for (int64_t i = 0; i < parts; ++i) {
      const at::Tensor dy = std::move(grads[static_cast<size_t>(i)]);
      const at::Tensor w = weight.narrow(0, i * width, width);
      if (i == 0) {
        result[0] = at::mm(dy, w);
      } else {
        result[0].addmm_(dy, w);
      }
      at::Tensor dw = result[1].narrow(0, i * width, width);
      at::mm_out(dw, dy.t(), rows);
      if (result[2].defined()) {
        at::Tensor db = result[2].narrow(0, i * width, width);
        at::sum_out(db, dy, {0});
      }
    }
    return result;
  }
};

struct MlpFunction : Function<MlpFunction> {
  static Variable forward(AutogradContext* ctx, const Variable& rows, const Variable& w1,
                          const Variable& b1, const Variable& w2, const Variable& b2,
                          const OptionalTensor& keys, double p, int64_t layer) {
    const Dropout drop{keys.value_or(at::Tensor()), p, static_cast<uint64_t>(layer)};
    const at::Tensor hidden = at::addmm(b1, rows, w1.t());
    ctx->save_for_backward({rows, w1, w2, hidden, drop.keys});
    ctx->saved_data["p"] = p;
    ctx->saved_data["layer"] = layer;
    const at::Tensor inner = at::gelu(hidden);
    DropInPlace(inner, drop, 0);
    at::Tensor y = at::addmm(b2, inner, w2.t());
    DropInPlace(y, drop, 1);
    return y;
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor &rows = saved[0], &w1 = saved[1], &w2 = saved[2], &hidden = saved[3];
    const Dropout drop{saved[4], ctx->saved_data["p"].toDouble(),
                       static_cast<uint64_t>(ctx->saved_data["layer"].toInt())};
    at::Tensor dy = grads[0];
    grads.clear();
    if (drop.active()) {
      dy = at::empty_like(dy, at::MemoryFormat::Contiguous).copy_(dy);
      DropInPlace(dy, drop, 1);
    }
    variable_list result(8);
    {
      const at::Tensor inner = at::gelu(hidden);
      DropInPlace(inner, drop, 0);
      result[3] = at::mm(dy.t(), inner);
    }
    result[4] = at::sum(dy, {0});
    at::Tensor dhidden;
    {
      const at::Tensor dinner = at::mm(dy, w2);
      dy.reset();
      DropInPlace(dinner, drop, 0);
      dhidden = at::gelu_backward(dinner, hidden);
    }
    result[1] = at::mm(dhidden.t(), rows);
    result[2] = at::sum(dhidden, {0});
    result[0] = at::mm(dhidden, w1);
    return result;
  }
};

struct AddNormFunction : Function<AddNormFunction> {
  static Variable forward(AutogradContext* ctx, const Variable& x, const Variable& y,
                          const Variable& weight, const Variable& bias, double eps) {
    auto [out, mean, rstd] = at::native_layer_norm(y, {y.size(-1)}, weight, bias, eps);
    ctx->save_for_backward({y, weight, bias, mean, rstd});
    return out.add_(x);
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list s = ctx->get_saved_variables();
    const at::Tensor dy = grads[0].contiguous();
    auto [d, dweight, dbias] = at::native_layer_norm_backward(dy, s[0], {s[0].size(-1)}, s[3], s[4],
                                                              s[1], s[2], {true, true, true});
    return {grads[0], d, dweight, dbias, Variable()};
  }
};

struct JoinFunction : Function<JoinFunction> {
  static Variable forward(AutogradContext* ctx, at::TensorList tokens) {
    std::vector<int64_t> sizes;
    for (const Variable& t : tokens) sizes.push_back(t.size(1));
    ctx->saved_data["sizes"] = sizes;
    return at::cat(tokens, 1);
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    variable_list result;
    int64_t begin = 0;
    for (const int64_t n : ctx->saved_data["sizes"].toIntVector()) {
      const at::Tensor part = grads[0].narrow(1, begin, n);
      result.push_back(at::empty(part.sizes(), part.options()).copy_(part));
      begin += n;
    }
    return result;
  }
};

struct SplitFunction : Function<SplitFunction> {
  static variable_list forward(AutogradContext* ctx, const Variable& x,
                               const std::vector<int64_t>& sizes) {
    ctx->saved_data["shape"] = x.sizes().vec();
    variable_list out;
    int64_t begin = 0;
    for (const int64_t n : sizes) {
      const at::Tensor part = x.narrow(1, begin, n);
      out.push_back(at::empty(part.sizes(), part.options()).copy_(part));
      begin += n;
    }
    return out;
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    at::Tensor dx = at::empty(ctx->saved_data["shape"].toIntVector(), grads[0].options());
    int64_t begin = 0;
    for (const at::Tensor& g : grads) {
      dx.narrow(1, begin, g.size(1)).copy_(g);
      begin += g.size(1);
    }
    if (begin < dx.size(1)) dx.narrow(1, begin, dx.size(1) - begin).zero_();
    return {dx, Variable()};
  }
};

struct HideFunction : Function<HideFunction> {
  static Variable forward(AutogradContext* ctx, const Variable& x, const Variable& hidden,
                          const Variable& embedding) {
    ctx->save_for_backward({hidden});
    at::Tensor y = at::empty_like(x, at::MemoryFormat::Contiguous).copy_(x);
    if (!y.is_meta()) {
      const int64_t n = hidden.numel(), width = y.size(2);
      for (int64_t i = 0; i < n; ++i) {
        if (hidden.data_ptr<uint8_t>()[i] == 0) continue;
        std::copy_n(embedding.data_ptr<float>(), width, y.data_ptr<float>() + i * width);
      }
    }
    return y;
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const at::Tensor hidden = ctx->get_saved_variables()[0];
    at::Tensor dx = at::empty_like(grads[0], at::MemoryFormat::Contiguous).copy_(grads[0]);
    at::Tensor dembedding = at::empty({dx.size(2)}, dx.options());
    if (!dx.is_meta()) {
      const int64_t n = hidden.numel(), width = dx.size(2);
      std::vector<double> sum(static_cast<size_t>(width));
      for (int64_t i = 0; i < n; ++i) {
        if (hidden.data_ptr<uint8_t>()[i] == 0) continue;
        float* row = dx.data_ptr<float>() + i * width;
        for (int64_t c = 0; c < width; ++c) sum[static_cast<size_t>(c)] += row[c];
        std::fill_n(row, width, 0.0f);
      }
      std::copy(sum.begin(), sum.end(), dembedding.data_ptr<float>());
    }
    return {dx, Variable(), dembedding};
  }
};

struct MeanFunction : Function<MeanFunction> {
  static Variable forward(AutogradContext* ctx, at::TensorList losses) {
    ctx->saved_data["n"] = static_cast<int64_t>(losses.size());
    at::Tensor mean = at::empty({}, losses[0].options());
    if (!mean.is_meta()) {
      double sum = 0;
      for (const Variable& l : losses) sum += *l.data_ptr<float>();
      *mean.data_ptr<float>() = static_cast<float>(sum / static_cast<double>(losses.size()));
    }
    return mean;
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const int64_t n = ctx->saved_data["n"].toInt();
    variable_list result;
    for (int64_t i = 0; i < n; ++i) {
      result.push_back(at::empty({}, grads[0].options()));
      if (grads[0].is_meta()) continue;
      *result.back().data_ptr<float>() = *grads[0].data_ptr<float>() / static_cast<float>(n);
    }
    return result;
  }
};

}  // namespace

std::pair<at::Tensor, at::Tensor> Fork(const at::Tensor& x) {
  variable_list out = ForkFunction::apply(x);
  return {out[0], out[1]};
}

at::Tensor Uses::Next() {
  TORCH_CHECK(left_ > 0, "a tensor is used more often than was said");
  if (--left_ == 0 || !rest_.defined()) return rest_;
  auto [rest, use] = Fork(rest_);
  rest_ = rest;
  return use;
}

std::vector<at::Tensor> Project(const at::Tensor& rows, const at::Tensor& weight,
                                const at::Tensor& bias, int64_t parts) {
  return ProjectFunction::apply(rows, weight, Optional(bias), parts);
}

void DropInPlace(const at::Tensor& x, const Dropout& dropout, uint64_t place) {
  if (!dropout.active()) return;
  if (!OnHost(x)) return generic::DropInPlace(x, dropout, place);
  if (x.is_meta()) return;
  // Sixteen random bits an element: eight elements a block.
  const auto threshold = static_cast<uint32_t>(std::lround(dropout.p * 65536));
  const float kept = static_cast<float>(65536.0 / (65536.0 - threshold));
  const int64_t samples = dropout.keys.numel(), n = x.numel() / samples;
  const uint64_t stream = HashCombine(dropout.layer, place);
  const int64_t blocks = (n + 7) / 8;
  at::parallel_for(0, samples * blocks, 1024, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t b = i / blocks, first = (i % blocks) * 8;
      const int64_t key = dropout.keys.data_ptr<int64_t>()[b];
      if (key == 0) continue;
      const std::array<uint32_t, 4> bits =
          CounterRng(static_cast<uint64_t>(key), stream).Block(static_cast<uint64_t>(first / 8));
      float* out = x.data_ptr<float>() + b * n + first;
      for (int64_t k = 0; k < std::min<int64_t>(8, n - first); ++k) {
        const uint32_t u = (bits[static_cast<size_t>(k / 2)] >> (16 * (k % 2))) & 0xffff;
        out[k] = u < threshold ? 0 : out[k] * kept;
      }
    }
  });
}

at::Tensor Mlp(const at::Tensor& rows, const MlpParams& p, const Dropout& dropout) {
  return MlpFunction::apply(rows, p.fc1_weight, p.fc1_bias, p.fc2_weight, p.fc2_bias,
                            dropout.active() ? Optional(dropout.keys) : std::nullopt, dropout.p,
                            static_cast<int64_t>(dropout.layer));
}

at::Tensor AddNorm(const at::Tensor& x, const at::Tensor& y, const at::Tensor& weight,
                   const at::Tensor& bias, double eps) {
  return AddNormFunction::apply(x, y, weight, bias, eps);
}

at::Tensor JoinTokens(const std::vector<at::Tensor>& tokens) {
  return tokens.size() == 1 ? tokens[0] : JoinFunction::apply(at::TensorList(tokens));
}

std::vector<at::Tensor> SplitTokens(const at::Tensor& tokens, const std::vector<int64_t>& sizes) {
  if (sizes.size() == 1 && sizes[0] == tokens.size(1)) return {tokens};
  return SplitFunction::apply(tokens, sizes);
}

at::Tensor HideTokens(const at::Tensor& tokens, const at::Tensor& hidden,
                      const at::Tensor& embedding) {
  if (OnHost(tokens)) return HideFunction::apply(tokens, hidden, embedding);
  return at::where(hidden.unsqueeze(-1).ne(0), embedding, tokens);
}

at::Tensor Attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, int64_t heads) {
  const auto split = [heads](const at::Tensor& t) {
    return t.view({t.size(0), t.size(1), heads, t.size(2) / heads}).transpose(1, 2);
  };
  const at::Tensor out = layers::SoftmaxAttention(split(q), split(k), split(v));
  return out.transpose(1, 2).reshape({q.size(0), q.size(1), v.size(2)});
}

at::Tensor Mean(const std::vector<at::Tensor>& losses) {
  if (losses.size() == 1) return losses[0];
  if (OnHost(losses[0])) return MeanFunction::apply(at::TensorList(losses));
  return at::stack(losses).mean();
}

void AddLinear(std::vector<ParamSpec>& params, const std::string& name, int64_t out, int64_t in,
               bool bias) {
  params.push_back({name + ".weight",
                    {out, in},
                    DType::kF32,
                    {InitSpec::Kind::kTruncatedNormal, 0.02},
                    /*weight_decay=*/true});
  if (!bias) return;
  params.push_back(
      {name + ".bias", {out}, DType::kF32, {InitSpec::Kind::kZeros, 0}, /*weight_decay=*/false});
}

void AddNormParams(std::vector<ParamSpec>& params, const std::string& name, int64_t width) {
  for (const char* part : {".weight", ".bias"}) {
    const auto kind = part[1] == 'w' ? InitSpec::Kind::kOnes : InitSpec::Kind::kZeros;
    params.push_back({name + part, {width}, DType::kF32, {kind, 0}, /*weight_decay=*/false});
  }
}

void AddFanIn(std::vector<ParamSpec>& params, const std::string& name, std::vector<int64_t> shape) {
  double fan_in = 1;
  for (size_t i = 1; i < shape.size(); ++i) fan_in *= static_cast<double>(shape[i]);
  const InitSpec init{InitSpec::Kind::kUniform, 1 / std::sqrt(fan_in)};
  const int64_t out = shape[0];
  params.push_back({name + ".weight", std::move(shape), DType::kF32, init, /*weight_decay=*/true});
  params.push_back({name + ".bias", {out}, DType::kF32, init, /*weight_decay=*/false});
}

at::Tensor ParamReader::Next() { return layers::Inside(params_.at(next_++)); }

}  // namespace millrace::rat
