// Dense grouping attention in blocks of (sample, head): the scores of one block exist at a time, and backward makes
// them again. The division by the sum over queries is done to the values, which are fewer than the scores.
#include <ATen/Parallel.h>
#include <ATen/ops/_softmax.h>
#include <ATen/ops/_softmax_backward_data.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/sum.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "models/generic.h"
#include "models/rat/grouping_attention.h"

namespace millrace::rat {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::Variable;
using torch::autograd::variable_list;

constexpr int64_t kBlockScores = 1 << 20;  // 4 MiB: stays in cache between softmax and product
constexpr int64_t kDeviceBlockScores = 1 << 26;  // enough for all of a GPU

// [B, N, H, d] <-> [B * H, N, d]: a copy.
at::Tensor ByHead(const at::Tensor& x) {
  const at::Tensor t = x.transpose(1, 2);
  return at::empty(t.sizes(), t.options()).copy_(t).view({-1, x.size(1), x.size(3)});
}
at::Tensor ByToken(const at::Tensor& x, int64_t batch) {
  const at::Tensor t = x.view({batch, -1, x.size(1), x.size(2)}).transpose(1, 2);
  return at::empty(t.sizes(), t.options()).copy_(t);
}
// Values and results [B, N, H * d] as [B * H, N, d].
at::Tensor ReadHeads(const at::Tensor& v, int64_t heads, bool reference) {
  const int64_t n = v.size(1), d = v.size(2) / heads;
  if (reference) return v.contiguous().view({v.size(0) * heads, n, d});
  return ByHead(v.reshape({v.size(0), n, heads, d}));
}
at::Tensor WriteHeads(const at::Tensor& y, int64_t batch, bool reference) {
  const int64_t n = y.size(1);
  if (reference) return y.view({batch, n, -1});
  return ByToken(y, batch).view({batch, n, -1});
}

// Scratch of one block of `count` heads, cut to the block at hand.
struct Block {
  at::Tensor scores, sums, values;
  Block(const at::Tensor& q, const at::Tensor& k) {
    const int64_t nq = q.size(1), nk = k.size(1);
    const int64_t most = OnHost(q) ? kBlockScores : kDeviceBlockScores;
    count = std::min(q.size(0), std::max<int64_t>(1, most / (nq * nk)));
    scores = at::empty({count, nq, nk}, q.options());
    sums = at::empty({count, 1, nk}, q.options().dtype(at::kFloat));
    values = at::empty({count, nk, k.size(2)}, q.options());
  }
  int64_t count;
};

// A = softmax(q k^T), its sums over queries, and v / (sums + eps), of heads [begin, begin + n).
void Scores(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double eps,
            int64_t begin, int64_t n, at::Tensor scores, at::Tensor sums, at::Tensor values) {
  at::bmm_out(scores, q.narrow(0, begin, n), k.narrow(0, begin, n).transpose(1, 2));
  if (!OnHost(v)) {
    scores.copy_(at::_softmax(scores, -1, /*half_to_float=*/false));
    at::sum_out(sums, scores, {1}, /*keepdim=*/true, at::kFloat);
    sums.add_(eps);
    values.copy_(v.narrow(0, begin, n)).div_(sums.transpose(1, 2));
    return;
  }
  at::_softmax_out(scores, scores, -1, /*half_to_float=*/false);
  at::sum_out(sums, scores, {1}, /*keepdim=*/true);
  if (v.is_meta()) return;
  const int64_t keys = v.size(1), d = v.size(2);
  const float* from = v.data_ptr<float>() + begin * keys * d;
  float *sum = sums.data_ptr<float>(), *to = values.data_ptr<float>();
  at::parallel_for(0, n * keys, 1024, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      sum[i] += static_cast<float>(eps);
      for (int64_t c = 0; c < d; ++c) to[i * d + c] = from[i * d + c] / sum[i];
    }
  });
}

// With dvalues = A^T dy: dv = dvalues / sums, in place, and the gradient of sums in place of them.
void ValueGradients(const at::Tensor& values, at::Tensor dvalues, at::Tensor sums) {
  if (!OnHost(values)) {
    const at::Tensor dot = dvalues.mul(values).sum({2}, /*keepdim=*/true, at::kFloat);
    dvalues.div_(sums.transpose(1, 2));
    sums.copy_(dot.transpose(1, 2).neg().div_(sums));
    return;
  }
  if (values.is_meta()) return;
  const int64_t keys = sums.numel(), d = values.size(2);
  const float* v = values.data_ptr<float>();
  float *dv = dvalues.data_ptr<float>(), *sum = sums.data_ptr<float>();
  at::parallel_for(0, keys, 1024, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      float dot = 0;
      for (int64_t c = 0; c < d; ++c) {
        dot += dv[i * d + c] * v[i * d + c];
        dv[i * d + c] /= sum[i];
      }
      sum[i] = -dot / sum[i];
    }
  });
}

struct DenseFunction : Function<DenseFunction> {
  static Variable forward(AutogradContext* ctx, const Variable& q, const Variable& k,
                          const Variable& v, bool reference, double eps) {
    ctx->save_for_backward({q, k, v});
    ctx->saved_data["reference"] = reference;
    ctx->saved_data["eps"] = eps;
    const int64_t batch = q.size(0), heads = q.size(2);
    const at::Tensor qh = ByHead(q), kh = ByHead(k), vh = ReadHeads(v, heads, reference);
    const at::Tensor y = at::empty(qh.sizes(), qh.options());
    const Block block(qh, kh);
    for (int64_t begin = 0; begin < qh.size(0); begin += block.count) {
      const int64_t n = std::min(block.count, qh.size(0) - begin);
      at::Tensor scores = block.scores.narrow(0, 0, n), values = block.values.narrow(0, 0, n);
      Scores(qh, kh, vh, eps, begin, n, scores, block.sums.narrow(0, 0, n), values);
      at::Tensor out = y.narrow(0, begin, n);
      at::bmm_out(out, scores, values);
    }
    return WriteHeads(y, batch, reference);
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    const bool reference = ctx->saved_data["reference"].toBool();
    const double eps = ctx->saved_data["eps"].toDouble();
    const int64_t batch = saved[0].size(0), heads = saved[0].size(2);
    const at::Tensor q = ByHead(saved[0]), k = ByHead(saved[1]);
    const at::Tensor v = ReadHeads(saved[2], heads, reference);
    const at::Tensor dy = ReadHeads(grads[0], heads, reference);
    const at::Tensor dq = at::empty(q.sizes(), q.options()), dk = at::empty(k.sizes(), k.options()),
                     dv = at::empty(v.sizes(), v.options());
    const Block block(q, k);
    const at::Tensor all = at::empty(block.scores.sizes(), q.options());
    for (int64_t begin = 0; begin < q.size(0); begin += block.count) {
      const int64_t n = std::min(block.count, q.size(0) - begin);
      const auto part = [begin, n](const at::Tensor& t) { return t.narrow(0, begin, n); };
      at::Tensor scores = block.scores.narrow(0, 0, n), values = block.values.narrow(0, 0, n),
                 sums = block.sums.narrow(0, 0, n), dscores = all.narrow(0, 0, n);
      Scores(q, k, v, eps, begin, n, scores, sums, values);
      at::Tensor dqn = part(dq), dkn = part(dk), dvn = part(dv);
      at::bmm_out(dvn, scores.transpose(1, 2), part(dy));
      at::bmm_out(dscores, part(dy), values.transpose(1, 2));
      ValueGradients(values, dvn, sums);
      dscores.add_(sums);
      if (OnHost(q)) {
        at::_softmax_backward_data_out(dscores, dscores, scores, -1, at::kFloat);
      } else {
        dscores.copy_(at::_softmax_backward_data(dscores, scores, -1, q.scalar_type()));
      }
      at::bmm_out(dqn, dscores, part(k));
      at::bmm_out(dkn, dscores.transpose(1, 2), part(q));
    }
    return {ByToken(dq, batch), ByToken(dk, batch), WriteHeads(dv, batch, reference), Variable(),
            Variable()};
  }
};

}  // namespace

at::Tensor DenseGroupingAttention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                  HeadLayout layout, double eps) {
  return DenseFunction::apply(q, k, v, layout == HeadLayout::kReference, eps);
}

}  // namespace millrace::rat
