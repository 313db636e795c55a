// The sparse kernel against dense attention with a mask (LibTorch, double), against the simplest loops, and those
// against finite differences: on random shapes, strides and windows of one to three axes, in both layouts.
#include "models/sparse_attention.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/softmax.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <string>
#include <vector>

#include "graph/base/random.h"
#include "gtest/gtest.h"
#include "models/allocator.h"
#include "models/meta_kernels.h"
#include "models/op_counter.h"
#include "models/sparse_attention_loops.h"
#include "models/sparse_attention_reference.h"

namespace millrace {
namespace {

constexpr double kEps = 1.1920929e-7;

int64_t Product(const std::vector<int64_t>& v) {
  int64_t p = 1;
  for (const int64_t x : v) p *= x;
  return p;
}

struct Case {
  Neighborhood n;
  int64_t batch, heads, width;
  HeadLayout layout;
  int64_t queries() const { return Product(n.query_grid); }
  int64_t keys() const { return Product(n.key_grid); }
  std::string ToText() const {
    std::string text = "batch " + std::to_string(batch) + " heads " + std::to_string(heads) +
                       " width " + std::to_string(width);
    const std::vector<int64_t>* lists[] = {&n.query_grid, &n.key_grid, &n.stride, &n.window};
    const char* names[] = {" queries", " keys", " stride", " window"};
    for (int i = 0; i < 4; ++i) {
      text += names[i];
      for (const int64_t x : *lists[i]) text += " " + std::to_string(x);
    }
    return text;
  }
};

// Query grids are mostly what a strided convolution gives, sometimes smaller or larger.
Case RandomCase(uint64_t index) {
  CounterRng rng(11, HashCombine(HashString("sparse attention"), index));
  uint64_t draw = 0;
  const auto pick = [&](int64_t low, int64_t high) {  // inclusive
    return low + static_cast<int64_t>(rng.Uniform(draw++) * static_cast<double>(high - low + 1));
  };
  Case c;
  c.batch = pick(1, 3), c.heads = pick(1, 4),
  c.width = pick(0, 2) == 0 ? pick(1, 70) : 2 * pick(1, 9);
  c.layout = index % 2 == 0 ? HeadLayout::kCorrect : HeadLayout::kReference;
  const int64_t axes = pick(1, 3);
  for (int64_t a = 0; a < axes; ++a) {
    const int64_t size = pick(1, axes == 1 ? 90 : axes == 2 ? 14 : 6), stride = pick(1, 4);
    c.n.key_grid.push_back(size);
    c.n.stride.push_back(stride);
    c.n.window.push_back(pick(1, axes == 1 ? 30 : 9));
    c.n.query_grid.push_back(std::max<int64_t>(1, (size - 1) / stride + 1 + pick(-1, 1)));
  }
  return c;
}

SparseReference ReferenceOf(const Case& c) {
  return {c.n.query_grid,
          c.n.key_grid,
          c.n.stride,
          c.n.window,
          c.batch,
          c.heads,
          c.width,
          c.layout == HeadLayout::kReference,
          kEps};
}

struct Arguments {
  at::Tensor q, k, v, dy;
};
Arguments Make(const Case& c, at::ScalarType type = at::kFloat) {
  const auto randn = [type](at::IntArrayRef shape) {
    return at::randn(shape, at::kFloat).to(type);
  };
  return {randn({c.batch, c.queries(), c.heads, c.width}),
          randn({c.batch, c.keys(), c.heads, c.width}),
          randn({c.batch, c.keys(), c.heads * c.width}),
          randn({c.batch, c.queries(), c.heads * c.width})};
}

struct Result {
  at::Tensor y, dq, dk, dv;
};
Result Differentiate(const at::Tensor& y, const at::Tensor& dy, const std::vector<at::Tensor>& of) {
  const auto g = torch::autograd::grad({y}, of, {dy});
  return {y.detach(), g[0], g[1], g[2]};
}

Result Sparse(const Case& c, const Arguments& a) {
  const auto leaf = [](const at::Tensor& t) { return t.detach().set_requires_grad(true); };
  const at::Tensor q = leaf(a.q), k = leaf(a.k), v = leaf(a.v);
  return Differentiate(SparseGroupingAttention(q, k, v, c.n, c.layout, kEps), a.dy, {q, k, v});
}

Result DenseWithMask(const Case& c, const Arguments& a) {
  const auto leaf = [](const at::Tensor& t) { return t.to(at::kDouble).set_requires_grad(true); };
  const at::Tensor q = leaf(a.q), k = leaf(a.k), v = leaf(a.v);
  const SparseReference reference = ReferenceOf(c);
  at::Tensor hidden = at::empty({c.queries(), c.keys()}, at::kBool);
  for (int64_t i = 0; i < c.queries(); ++i) {
    for (int64_t j = 0; j < c.keys(); ++j) {
      hidden.data_ptr<bool>()[i * c.keys() + j] = !reference.Sees(i, j);
    }
  }
  const at::Tensor scores =
      at::matmul(q.transpose(1, 2), k.permute({0, 2, 3, 1})).masked_fill(hidden, -INFINITY);
  at::Tensor attention = at::softmax(scores, -1);
  attention = attention.div(attention.sum(-2, /*keepdim=*/true).add(kEps));
  const bool correct = c.layout == HeadLayout::kCorrect;
  const at::Tensor values = correct ? v.view({c.batch, c.keys(), c.heads, c.width}).transpose(1, 2)
                                    : v.view({c.batch, c.heads, c.keys(), c.width});
  at::Tensor y = at::matmul(attention, values);
  if (correct) y = y.transpose(1, 2);
  y = y.reshape({c.batch, c.queries(), c.heads * c.width});
  return Differentiate(y, a.dy.to(at::kDouble), {q, k, v});
}

double Distance(const at::Tensor& a, const at::Tensor& b) {
  if (a.sizes() != b.sizes()) return 1e9;
  const at::Tensor x = a.to(at::kDouble), y = b.to(at::kDouble);
  return x.sub(y).abs().max().item<double>() / (1e-9 + y.abs().max().item<double>());
}
void ExpectClose(const Result& a, const Result& b, double limit, const std::string& what) {
  // Where each key is seen by one query, A / (sum of A) is 1 and the gradients of q and k are what eps leaves of them:
  // a difference of large numbers for anyone who computes in float.
  const double scale = 0.3 * b.dv.abs().max().item<double>();
  const auto distance = [scale](const at::Tensor& x, const at::Tensor& y) {
    return Distance(x, y) * std::min(1.0, y.abs().max().item<double>() / scale);
  };
  EXPECT_LT(Distance(a.y, b.y), limit) << what;
  EXPECT_LT(distance(a.dq, b.dq), limit) << "dq " << what;
  EXPECT_LT(distance(a.dk, b.dk), limit) << "dk " << what;
  EXPECT_LT(Distance(a.dv, b.dv), limit) << "dv " << what;
}

TEST(SparseAttention, EqualsDenseAttentionWithTheNeighbourhoodMask) {
  for (uint64_t i = 0; i < 60; ++i) {
    const Case c = RandomCase(i);
    const Arguments a = Make(c);
    ExpectClose(Sparse(c, a), DenseWithMask(c, a), 2e-5, std::to_string(i) + ": " + c.ToText());
  }
}

TEST(SparseAttention, AWindowOverTheWholeGridIsDenseAttention) {
  for (const HeadLayout layout : {HeadLayout::kCorrect, HeadLayout::kReference}) {
    const Case c{{{3, 4}, {9, 12}, {3, 3}, {99, 99}}, 2, 2, 16, layout};
    const SparseReference reference = ReferenceOf(c);
    for (int64_t i = 0; i < c.queries(); ++i) {
      for (int64_t j = 0; j < c.keys(); ++j) ASSERT_TRUE(reference.Sees(i, j));
    }
    const Arguments a = Make(c);
    ExpectClose(Sparse(c, a), DenseWithMask(c, a), 5e-6, c.ToText());
  }
}

std::vector<double> Doubles(const at::Tensor& t) {
  const at::Tensor d = t.to(at::kDouble).contiguous();
  return {d.data_ptr<double>(), d.data_ptr<double>() + d.numel()};
}
at::Tensor Tensor(const std::vector<double>& v, at::IntArrayRef shape) {
  return at::from_blob(const_cast<double*>(v.data()), shape, at::kDouble).clone();
}

TEST(SparseAttention, EqualsTheSimplestLoops) {
  for (uint64_t i = 100; i < 110; ++i) {
    const Case c = RandomCase(i);
    const Arguments a = Make(c);
    const SparseReference reference = ReferenceOf(c);
    const auto q = Doubles(a.q), k = Doubles(a.k), v = Doubles(a.v);
    const auto g = reference.Backward(q, k, v, Doubles(a.dy));
    const Result want{Tensor(reference.Forward(q, k, v), a.dy.sizes()), Tensor(g.q, a.q.sizes()),
                      Tensor(g.k, a.k.sizes()), Tensor(g.v, a.v.sizes())};
    ExpectClose(Sparse(c, a), want, 2e-5, c.ToText());
  }
}

// Along random directions: the kernel's gradients against differences of the double reference, whose own gradients
// agree to nine digits.
TEST(SparseAttention, GradientsAreTheDifferencesOfTheFunction) {
  const double step = 1e-5;
  for (uint64_t i = 200; i < 206; ++i) {
    const Case c = RandomCase(i);
    const Arguments a = Make(c);
    const SparseReference reference = ReferenceOf(c);
    const std::vector<double> x[3] = {Doubles(a.q), Doubles(a.k), Doubles(a.v)};
    const auto dy = Doubles(a.dy);
    const auto g = reference.Backward(x[0], x[1], x[2], dy);
    const Result kernel = Sparse(c, a);
    const std::vector<double>* exact[3] = {&g.q, &g.k, &g.v};
    const std::vector<double> ours[3] = {Doubles(kernel.dq), Doubles(kernel.dk),
                                         Doubles(kernel.dv)};
    for (int t = 0; t < 3; ++t) {
      const CounterRng rng(13, static_cast<uint64_t>(t));
      double difference = 0, by_reference = 0, by_kernel = 0, scale = 1e-12;
      for (const int sign : {1, -1}) {
        std::vector<double> moved[3] = {x[0], x[1], x[2]};
        for (size_t e = 0; e < moved[t].size(); ++e) moved[t][e] += sign * step * rng.Normal(e);
        const auto y = reference.Forward(moved[0], moved[1], moved[2]);
        for (size_t e = 0; e < y.size(); ++e) difference += sign * y[e] * dy[e] / (2 * step);
      }
      for (size_t e = 0; e < x[t].size(); ++e) {
        by_reference += (*exact[t])[e] * rng.Normal(e);
        by_kernel += ours[t][e] * rng.Normal(e);
        scale += std::abs((*exact[t])[e] * rng.Normal(e));
      }
      EXPECT_LT(std::abs(by_reference - difference), 1e-7 * scale + 1e-6) << t << c.ToText();
      EXPECT_LT(std::abs(by_kernel - difference), 2e-5 * scale + 1e-5) << t << c.ToText();
    }
  }
}

TEST(SparseAttention, KeysThatNoQuerySeesHaveNoPart) {
  const Case c{{{2}, {10}, {5}, {2}}, 1, 1, 4, HeadLayout::kCorrect};  // sees 0, 1 and 4, 5
  Arguments a = Make(c);
  const Result before = Sparse(c, a);
  a.v.select(1, 8).fill_(1e30), a.k.select(1, 8).fill_(1e30);
  const Result after = Sparse(c, a);
  EXPECT_TRUE(after.y.equal(before.y));
  for (const int64_t key : {2, 3, 6, 7, 8, 9}) {
    EXPECT_EQ(after.dk.select(1, key).abs().max().item<float>(), 0) << key;
    EXPECT_EQ(after.dv.select(1, key).abs().max().item<float>(), 0) << key;
  }
  EXPECT_TRUE(after.dq.equal(before.dq));
}

TEST(SparseAttention, LargeScoresDoNotOverflow) {
  const Case c{{{4, 4}, {8, 8}, {2, 2}, {5, 5}}, 1, 2, 8, HeadLayout::kCorrect};
  Arguments a = Make(c);
  a.q.mul_(30), a.k.mul_(30);
  ExpectClose(Sparse(c, a), DenseWithMask(c, a), 1e-3, "scores of thousands");
}

TEST(SparseAttention, SixteenBitsAreRoundedOnce) {
  for (const auto& [type, limit] : {std::pair{at::kBFloat16, 4e-3}, {at::kHalf, 5e-4}}) {
    const Case c{{{5, 6}, {15, 18}, {3, 3}, {7, 7}}, 1, 2, 16, HeadLayout::kCorrect};
    const Arguments a = Make(c, type);
    const Result r = Sparse(c, a);
    EXPECT_EQ(r.dk.scalar_type(), type);
    ExpectClose(r, DenseWithMask(c, a), limit, "half");
  }
}

bool SameBits(const Result& a, const Result& b) {
  return a.y.equal(b.y) && a.dq.equal(b.dq) && a.dk.equal(b.dk) && a.dv.equal(b.dv);
}

TEST(SparseAttention, BitsDoNotDependOnTheNumberOfThreads) {
  for (uint64_t i = 0; i < 12; ++i) {
    const Case c = RandomCase(i);
    const Arguments a = Make(c);
    at::set_num_threads(1);
    const Result one = Sparse(c, a);
    for (const int threads : {2, 5}) {
      at::set_num_threads(threads);
      EXPECT_TRUE(SameBits(one, Sparse(c, a))) << threads << c.ToText();
    }
    at::set_num_threads(1);
  }
}

// What runs where there is no AVX2 computes the same, to rounding.
TEST(SparseAttention, PlainLoopsAgreeWithTheOnesInUse) {
  const Case c{{{4, 5}, {12, 14}, {3, 3}, {7, 7}}, 1, 1, 20, HeadLayout::kCorrect};
  const Arguments a = Make(c);
  const Result used = Sparse(c, a);
  const SparseShape shape{{4, 1, 5}, {12, 1, 14}, {3, 1, 3}, {7, 1, 7}, 20};
  const SparseWindow window(shape);
  Result r{at::empty(a.dy.sizes(), at::kFloat), at::empty(a.q.sizes(), at::kFloat),
           at::empty(a.k.sizes(), at::kFloat), at::empty(a.v.sizes(), at::kFloat)};
  std::vector<float> logsumexp(20), sums(168),
      scratch(static_cast<size_t>(std::max(shape.forward_floats(), shape.backward_floats())));
  const auto in = [](const at::Tensor& t) { return ConstRows{t.data_ptr<float>(), 20}; };
  const auto out = [](const at::Tensor& t) { return Rows{t.data_ptr<float>(), 20}; };
  PlainSparseKernels().forward(window.tables(),
                               {in(a.q), in(a.k), in(a.v), out(r.y), logsumexp.data(), sums.data(),
                                static_cast<float>(kEps), scratch.data()});
  PlainSparseKernels().backward(
      window.tables(), {in(a.q), in(a.k), in(a.v), in(a.dy), logsumexp.data(), sums.data(),
                        static_cast<float>(kEps), out(r.dq), out(r.dk), out(r.dv), scratch.data()});
  ExpectClose(r, used, 2e-5, "plain");
}

std::vector<AllocationEvent> Trace(const Case& c, at::Device device, at::ScalarType type) {
  const auto empty = [&](at::IntArrayRef shape) {
    return at::empty(shape, at::TensorOptions().dtype(type).device(device)).fill_(0.5);
  };
  const at::Tensor q = empty({c.batch, c.queries(), c.heads, c.width}).set_requires_grad(true),
                   k = empty({c.batch, c.keys(), c.heads, c.width}).set_requires_grad(true),
                   v = empty({c.batch, c.keys(), c.heads * c.width}).set_requires_grad(true),
                   dy = empty({c.batch, c.queries(), c.heads * c.width});
  Recording recording;
  Differentiate(SparseGroupingAttention(q, k, v, c.n, c.layout, kEps), dy, {q, k, v});
  return recording.events();
}

TEST(SparseAttention, TheMetaDeviceMakesTheAllocationsOfTheCpu) {
  InstallAllocators();
  for (const int threads : {1, 2}) {
    at::set_num_threads(threads);
    const MetaThreads meta(threads);
    for (uint64_t i = 0; i < 8; ++i) {
      const Case c = RandomCase(i);
      for (const at::ScalarType type : {at::kFloat, at::kHalf}) {
        EXPECT_EQ(Trace(c, at::kMeta, type), Trace(c, at::kCPU, type)) << c.ToText();
      }
    }
  }
  at::set_num_threads(1);
}

TEST(SparseAttention, MemoryAndWorkAreLinearInTokens) {
  InstallAllocators();
  const auto run = [](int64_t size) {
    const int64_t coarse = (size - 1) / 3 + 1;
    const Case c{{{coarse, coarse}, {size, size}, {3, 3}, {7, 7}}, 1, 16, 16, HeadLayout::kCorrect};
    OpCounter counter;
    double live = 0, peak = 0;
    std::vector<double> sizes;
    for (const AllocationEvent& e : Trace(c, at::kMeta, at::kFloat)) {
      if (!e.is_free) sizes.push_back(static_cast<double>(e.bytes));
      live += e.is_free ? -sizes.at(static_cast<size_t>(e.id)) : sizes.back();
      peak = std::max(peak, live);
    }
    return std::pair{static_cast<double>(counter.flops()), peak};
  };
  const auto [small_flops, small_bytes] = run(129);
  const auto [large_flops, large_bytes] = run(516);
  EXPECT_NEAR(large_flops / small_flops, 16, 0.1);
  EXPECT_NEAR(large_bytes / small_bytes, 16, 0.1);
}

TEST(SparseAttention, WhatDoesNotFitIsSaid) {
  const Case c{{{3}, {9}, {3}, {3}}, 1, 2, 4, HeadLayout::kCorrect};
  const Arguments a = Make(c);
  const auto run = [&](const Neighborhood& n) {
    SparseGroupingAttention(a.q, a.k, a.v, n, c.layout, kEps);
  };
  EXPECT_NO_THROW(run(c.n));
  EXPECT_THROW(run({{3}, {8}, {3}, {3}}), c10::Error);
  EXPECT_THROW(run({{3}, {9}, {3}, {0}}), c10::Error);
  EXPECT_THROW(run({{3}, {9}, {3, 3}, {3}}), c10::Error);
}

}  // namespace
}  // namespace millrace
