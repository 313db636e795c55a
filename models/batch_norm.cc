#include "models/batch_norm.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/native_batch_norm.h>
#include <ATen/ops/native_batch_norm_backward.h>
#include <ATen/ops/threshold.h>
#include <ATen/ops/threshold_backward.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "models/generic.h"
#include "models/layers.h"
#include "models/op_counter.h"

namespace millrace {
namespace {

using layers::Wide;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::Variable;
using torch::autograd::variable_list;

constexpr int64_t kBlockRows = 512;  // rows whose sums one thread takes
constexpr int64_t kFewRows = 16;

int64_t Blocks(int64_t rows) { return (rows + kBlockRows - 1) / kBlockRows; }

// What the loops over a row's channels read: y = (x - mean) * scale + bias, scale = rstd * weight. Row by row, over
// plain memory that overlaps with nothing: that is what the compiler makes vectors of.
struct Channels {
  int64_t n;
  const float *mean, *bias;
  std::vector<float> rstd, scale;

  Channels(const float* m, const float* var, const float* w, const float* b, int64_t n, double eps)
      : n(n), mean(m), bias(b) {
    for (int64_t c = 0; c < n; ++c) {
      rstd.push_back(static_cast<float>(1 / std::sqrt(static_cast<double>(var[c]) + eps)));
      scale.push_back(rstd.back() * w[c]);
    }
  }
};

void AddRow(int64_t n, const float* __restrict x, float* __restrict sums) {
  for (int64_t c = 0; c < n; ++c) sums[c] += x[c];
}
void AddSquares(int64_t n, const float* __restrict x, const float* __restrict mean,
                float* __restrict sums) {
  for (int64_t c = 0; c < n; ++c) {
    const float d = x[c] - mean[c];
    sums[c] += d * d;
  }
}
template <bool kRelu>
void NormaliseRow(int64_t n, const float* __restrict x, const float* __restrict mean,
                  const float* __restrict scale, const float* __restrict bias,
                  float* __restrict y) {
  for (int64_t c = 0; c < n; ++c) {
    const float z = (x[c] - mean[c]) * scale[c] + bias[c];
    y[c] = kRelu && z < 0 ? 0 : z;
  }
}
// dz, the gradient before the ReLU, in place of dy; sums += dz, normed_sums += dz * normed x.
template <bool kRelu>
void GradientRow(int64_t n, const float* __restrict x, const float* __restrict dy,
                 const float* __restrict mean, const float* __restrict rstd,
                 const float* __restrict scale, const float* __restrict bias, float* __restrict dz,
                 float* __restrict sums, float* __restrict normed_sums) {
  for (int64_t c = 0; c < n; ++c) {
    const float d = x[c] - mean[c], z = d * scale[c] + bias[c];
    const float g = !kRelu || z > 0 ? dy[c] : 0;
    dz[c] = g;
    sums[c] += g;
    normed_sums[c] += g * (d * rstd[c]);
  }
}
// dx from dz, which is there already.
void InputRow(int64_t n, const float* __restrict x, const float* __restrict mean,
              const float* __restrict rstd, const float* __restrict scale,
              const float* __restrict mean_dz, const float* __restrict mean_normed,
              float* __restrict dx) {
  for (int64_t c = 0; c < n; ++c) {
    const float normed = (x[c] - mean[c]) * rstd[c];
    dx[c] = (dx[c] - mean_dz[c] - normed * mean_normed[c]) * scale[c];
  }
}

// visit(row, sums) for all rows, with `width` sums; their total in sums[0 .. width). A few rows are summed in float, what
// they give in double: accurate, and most additions are the cheaper ones.
template <typename Visit>
void SumRows(int64_t rows, int64_t width, double* sums, const Visit& visit) {
  const int64_t blocks = Blocks(rows);
  at::parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> few(static_cast<size_t>(width));
    for (int64_t b = begin; b < end; ++b) {
      double* mine = sums + b * width;
      std::fill_n(mine, width, 0.0);
      const int64_t last = std::min(rows, (b + 1) * kBlockRows);
      for (int64_t first = b * kBlockRows; first < last; first += kFewRows) {
        std::fill(few.begin(), few.end(), 0.0f);
        for (int64_t r = first; r < std::min(last, first + kFewRows); ++r) visit(r, few.data());
        for (int64_t i = 0; i < width; ++i) mine[i] += static_cast<double>(few[i]);
      }
    }
  });
  for (int64_t b = 1; b < blocks; ++b) {
    for (int64_t i = 0; i < width; ++i) sums[i] += sums[b * width + i];
  }
}

template <typename Visit>
void ForRows(int64_t rows, const Visit& visit) {
  at::parallel_for(0, Blocks(rows), 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin * kBlockRows; r < std::min(rows, end * kBlockRows); ++r) visit(r);
  });
}

void BatchStatistics(const float* x, int64_t rows, int64_t n, double* sums, float* mean,
                     float* var) {
  SumRows(rows, n, sums, [&](int64_t r, float* s) { AddRow(n, x + r * n, s); });
  for (int64_t c = 0; c < n; ++c) {
    mean[c] = static_cast<float>(sums[c] / static_cast<double>(rows));
  }
  SumRows(rows, n, sums, [&](int64_t r, float* s) { AddSquares(n, x + r * n, mean, s); });
  for (int64_t c = 0; c < n; ++c) {
    var[c] = static_cast<float>(sums[c] / static_cast<double>(rows));
  }
}

at::Tensor Sums(const at::Tensor& x, int64_t per_channel) {
  const int64_t blocks = Blocks(x.numel() / x.size(-1));
  return at::empty({blocks, per_channel * x.size(-1)}, x.options().dtype(at::kDouble));
}

const float* Data(const at::Tensor& t) { return t.const_data_ptr<float>(); }

struct BatchNormFunction : Function<BatchNormFunction> {
  static Variable forward(AutogradContext* ctx, const Variable& x_in, const Variable& weight,
                          const Variable& bias, const Variable& running_mean,
                          const Variable& running_var, bool training, bool relu, double eps) {
    const at::Tensor x = Wide(x_in).contiguous(), w = Wide(weight), b = Wide(bias);
    const int64_t n = x.size(-1), rows = x.numel() / n;
    const at::Tensor y = at::empty(x.sizes(), x.options());
    at::Tensor mean = Wide(running_mean), var = Wide(running_var), sums;
    if (training) {
      mean = at::empty({n}, x.options()), var = at::empty({n}, x.options());
      sums = Sums(x, 1);
    }
    ReportWork(0, static_cast<int64_t>(x.nbytes() * (training ? 4 : 2)));
    if (!x.is_meta()) {
      const float* from = Data(x);
      if (training) {
        BatchStatistics(from, rows, n, sums.mutable_data_ptr<double>(),
                        mean.mutable_data_ptr<float>(), var.mutable_data_ptr<float>());
      }
      const Channels k(Data(mean), Data(var), Data(w), Data(b), n, eps);
      float* to = y.mutable_data_ptr<float>();
      ForRows(rows, [&](int64_t r) {
        (relu ? NormaliseRow<true> : NormaliseRow<false>)(n, from + r * n, k.mean, k.scale.data(),
                                                          k.bias, to + r * n);
      });
    }
    ctx->save_for_backward({x_in, weight, bias, running_mean, running_var, mean, var});
    ctx->saved_data["training"] = training;
    ctx->saved_data["relu"] = relu;
    ctx->saved_data["eps"] = eps;
    return y.to(x_in.scalar_type());
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    const bool training = ctx->saved_data["training"].toBool();
    const bool relu = ctx->saved_data["relu"].toBool();
    const double eps = ctx->saved_data["eps"].toDouble();
    const at::Tensor dy = Wide(grads[0]).contiguous(), x = Wide(saved[0]).contiguous();
    const at::Tensor w = Wide(saved[1]), b = Wide(saved[2]), mean = saved[5], var = saved[6];
    const int64_t n = x.size(-1), rows = x.numel() / n;
    const at::Tensor dx = at::empty(x.sizes(), x.options());
    const at::Tensor dw = at::empty({n}, x.options()), db = at::empty({n}, x.options());
    const at::Tensor sums = Sums(x, 2);
    ReportWork(0, static_cast<int64_t>(x.nbytes() * 5));
    if (!x.is_meta()) {
      const Channels k(Data(mean), Data(var), Data(w), Data(b), n, eps);
      Gradients(k, {Data(x), Data(dy), rows, relu, training}, sums.mutable_data_ptr<double>(),
                dx.mutable_data_ptr<float>(), dw.mutable_data_ptr<float>(),
                db.mutable_data_ptr<float>());
    }
    variable_list result(8);
    result[0] = dx.to(saved[0].scalar_type());
    result[1] = dw.to(saved[1].scalar_type());
    result[2] = db.to(saved[2].scalar_type());
    if (training) {
      result[3] = Difference(saved[3], mean, 1);
      const auto count = static_cast<double>(rows);
      result[4] = Difference(saved[4], var, count / std::max(count - 1, 1.0));
    }
    return result;
  }

 private:
  struct Args {
    const float *x, *dy;
    int64_t rows;
    bool relu, training;
  };

  static void Gradients(const Channels& k, const Args& a, double* sums, float* dx, float* dw,
                        float* db) {
    const int64_t n = k.n;
    SumRows(a.rows, 2 * n, sums, [&](int64_t r, float* s) {
      (a.relu ? GradientRow<true> : GradientRow<false>)(n, a.x + r * n, a.dy + r * n, k.mean,
                                                        k.rstd.data(), k.scale.data(), k.bias,
                                                        dx + r * n, s, s + n);
    });
    std::vector<float> mean_dz(static_cast<size_t>(n)), mean_normed(static_cast<size_t>(n));
    for (int64_t c = 0; c < n; ++c) {
      db[c] = static_cast<float>(sums[c]);
      dw[c] = static_cast<float>(sums[n + c]);
      if (!a.training) continue;
      const auto i = static_cast<size_t>(c);
      mean_dz[i] = static_cast<float>(sums[c] / static_cast<double>(a.rows));
      mean_normed[i] = static_cast<float>(sums[n + c] / static_cast<double>(a.rows));
    }
    ForRows(a.rows, [&](int64_t r) {
      InputRow(n, a.x + r * n, k.mean, k.rstd.data(), k.scale.data(), mean_dz.data(),
               mean_normed.data(), dx + r * n);
    });
  }

  // running - factor * batch
  static at::Tensor Difference(const at::Tensor& running, const at::Tensor& batch, double factor) {
    const at::Tensor r = Wide(running);
    const at::Tensor d = at::empty(r.sizes(), r.options());
    if (!r.is_meta()) {
      for (int64_t c = 0; c < r.numel(); ++c) {
        d.mutable_data_ptr<float>()[c] = static_cast<float>(
            static_cast<double>(Data(r)[c]) - factor * static_cast<double>(Data(batch)[c]));
      }
    }
    return d.to(running.scalar_type());
  }
};

// Of LibTorch's operators. Parameters and statistics are f32, x has any type.
struct GenericBatchNormFunction : Function<GenericBatchNormFunction> {
  static Variable forward(AutogradContext* ctx, const Variable& x_in, const Variable& weight,
                          const Variable& bias, const Variable& running_mean,
                          const Variable& running_var, bool training, bool relu, double eps) {
    const int64_t n = x_in.size(-1);
    const at::Tensor rows = x_in.contiguous().view({-1, n});
    const at::Tensor w = Wide(weight), none;
    auto [y, mean, rstd] =
        at::native_batch_norm(rows, w, Wide(bias), training ? none : Wide(running_mean),
                              training ? none : Wide(running_var), training, /*momentum=*/0.0, eps);
    if (relu) at::threshold_(y, 0, 0);
    y = y.view(x_in.sizes());
    ctx->save_for_backward(
        {x_in, weight, running_mean, running_var, mean, rstd, relu ? y : Variable()});
    ctx->saved_data["training"] = training;
    ctx->saved_data["eps"] = eps;
    return y;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &mean = saved[4], &rstd = saved[5];
    const at::Tensor &y = saved[6], none;
    const bool training = ctx->saved_data["training"].toBool();
    const double eps = ctx->saved_data["eps"].toDouble();
    const int64_t n = x.size(-1);
    at::Tensor dy = grads[0].contiguous();
    if (y.defined()) dy = at::threshold_backward(dy, y, 0);
    auto [dx, dw, db] = at::native_batch_norm_backward(
        dy.view({-1, n}), x.contiguous().view({-1, n}), Wide(weight),
        training ? none : Wide(saved[2]), training ? none : Wide(saved[3]), mean, rstd, training,
        eps, {true, true, true});
    variable_list result(8);
    result[0] = dx.view(x.sizes());
    result[1] = dw.to(weight.scalar_type());
    result[2] = db.to(weight.scalar_type());
    if (training) {
      // The unbiased variance: 1 / rstd^2 - eps of all rows.
      const auto count = static_cast<double>(x.numel() / n);
      const at::Tensor var = rstd.pow(-2).sub_(eps).mul_(count / std::max(count - 1, 1.0));
      result[3] = Wide(saved[2]).sub(mean).to(saved[2].scalar_type());
      result[4] = Wide(saved[3]).sub(var).to(saved[3].scalar_type());
    }
    return result;
  }
};

}  // namespace

at::Tensor BatchNorm(const at::Tensor& x, const BatchNormParams& p, const BatchNormOptions& o) {
  for (const at::Tensor* t : {&p.weight, &p.bias, &p.running_mean, &p.running_var}) {
    TORCH_CHECK(t->dim() == 1 && t->size(0) == x.size(-1), "batch norm of ", x.sizes(),
                " with a parameter of ", t->sizes());
  }
  if (!OnHost(x)) {
    return GenericBatchNormFunction::apply(x, p.weight, p.bias, p.running_mean, p.running_var,
                                           o.training, o.relu, o.eps);
  }
  return BatchNormFunction::apply(x, p.weight, p.bias, p.running_mean, p.running_var, o.training,
                                  o.relu, o.eps);
}

}  // namespace millrace
