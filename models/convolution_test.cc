// Our convolutions against LibTorch's in double, on shapes that nobody would choose; the same bits for any number of
// threads; the same memory on the meta device and on the CPU.
#include "models/convolution.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/conv_transpose2d.h>
#include <ATen/ops/convolution.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/randn.h>
#include <torch/csrc/autograd/autograd.h>

#include <string>
#include <vector>

#include "graph/base/random.h"
#include "gtest/gtest.h"
#include "models/allocator.h"
#include "models/meta_kernels.h"
#include "models/op_counter.h"

namespace millrace {
namespace {

using Grid = std::vector<int64_t>;

struct Case {
  int64_t batch, in, out;
  Grid grid;
  ConvGeometry g;
  bool bias = true;
  std::string ToText() const {
    std::string text;
    const auto add = [&text](const char* name, const Grid& v) {
      text += std::string(" ") + name;
      for (const int64_t x : v) text += " " + std::to_string(x);
    };
    add("batch, channels", {batch, in, out});
    add("grid", grid), add("kernel", g.kernel), add("stride", g.stride);
    add("pad", g.pad_low), add("and", g.pad_high);
    return text;
  }
};

int64_t Product(const Grid& v) {
  int64_t p = 1;
  for (const int64_t x : v) p *= x;
  return p;
}

struct Result {
  at::Tensor y, dx, dweight, dbias;
};

Grid Join(Grid a, const Grid& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

struct Arguments {
  at::Tensor x, weight, bias, dy;  // tokens; dy as the result
};

Arguments Make(const Case& c, at::ScalarType type = at::kFloat) {
  Arguments a;
  const auto randn = [type](const Grid& shape) { return at::randn(shape, at::kFloat).to(type); };
  a.x = randn({c.batch, Product(c.grid), c.in});
  a.weight = randn(Join({c.out, c.in}, c.g.kernel));
  if (c.bias) a.bias = randn({c.out});
  a.dy = randn({c.batch, Product(OutputGrid(c.grid, c.g)), c.out});
  return a;
}

Result Differentiate(const at::Tensor& y, const at::Tensor& dy, const std::vector<at::Tensor>& of) {
  const auto g = torch::autograd::grad({y}, of, {dy});
  return {y.detach(), g[0], g[1], g.size() > 2 ? g[2] : at::Tensor()};
}

Result Ours(const Case& c, const Arguments& a) {
  const auto leaf = [](const at::Tensor& t) { return t.detach().set_requires_grad(true); };
  const at::Tensor x = leaf(a.x), w = leaf(a.weight);
  std::vector<at::Tensor> of{x, w};
  if (a.bias.defined()) of.push_back(leaf(a.bias));
  return Differentiate(Convolution(x, w, a.bias.defined() ? of[2] : at::Tensor(), c.grid, c.g),
                       a.dy, of);
}

Result Torch(const Case& c, const Arguments& a) {
  const auto leaf = [](const at::Tensor& t) { return t.to(at::kDouble).set_requires_grad(true); };
  const at::Tensor x = leaf(a.x), w = leaf(a.weight);
  std::vector<at::Tensor> of{x, w};
  if (a.bias.defined()) of.push_back(leaf(a.bias));
  const size_t axes = c.grid.size();
  Grid pad;
  for (size_t i = axes; i-- > 0;) pad = Join(pad, {c.g.pad_low[i], c.g.pad_high[i]});
  const at::Tensor image = x.transpose(1, 2).reshape(Join({c.batch, c.in}, c.grid));
  const at::Tensor y = at::convolution(
      at::constant_pad_nd(image, pad), w,
      a.bias.defined() ? std::optional<at::Tensor>(of[2]) : std::nullopt, c.g.stride, Grid(axes, 0),
      Grid(axes, 1), /*transposed=*/false, Grid(axes, 0), 1);
  return Differentiate(y.flatten(2).transpose(1, 2), a.dy.to(at::kDouble), of);
}

// Largest difference as a share of the largest element.
double Distance(const at::Tensor& a, const at::Tensor& b) {
  if (a.defined() != b.defined() || (a.defined() && a.sizes() != b.sizes())) return 1e9;
  if (!a.defined()) return 0;
  const at::Tensor x = a.to(at::kDouble), y = b.to(at::kDouble);
  return x.sub(y).abs().max().item<double>() / (1e-30 + y.abs().max().item<double>());
}

void ExpectClose(const Result& a, const Result& b, double limit, const std::string& what) {
  EXPECT_LT(Distance(a.y, b.y), limit) << what;
  EXPECT_LT(Distance(a.dx, b.dx), limit) << what;
  EXPECT_LT(Distance(a.dweight, b.dweight), limit) << what;
  EXPECT_LT(Distance(a.dbias, b.dbias), limit) << what;
}

bool SameBits(const Result& a, const Result& b) {
  return a.y.equal(b.y) && a.dx.equal(b.dx) && a.dweight.equal(b.dweight) &&
         (!a.dbias.defined() || a.dbias.equal(b.dbias));
}

Case RandomCase(uint64_t index) {
  CounterRng rng(7, HashCombine(HashString("convolution"), index));
  uint64_t draw = 0;
  const auto pick = [&](int64_t low, int64_t high) {  // inclusive
    return low + static_cast<int64_t>(rng.Uniform(draw++) * static_cast<double>(high - low + 1));
  };
  Case c{pick(1, 3), pick(1, 40), pick(1, 40)};
  const int64_t axes = pick(1, 3);
  for (int64_t a = 0; a < axes; ++a) {
    const int64_t kernel = pick(1, 5);
    const int64_t low = pick(0, kernel), high = pick(0, kernel);
    c.grid.push_back(std::max(pick(1, axes == 1 ? 400 : axes == 2 ? 24 : 8), kernel - low - high));
    c.g.kernel.push_back(kernel);
    c.g.stride.push_back(pick(1, 4));
    c.g.pad_low.push_back(low);
    c.g.pad_high.push_back(high);
  }
  c.bias = pick(0, 1) == 1;
  return c;
}

// Those that models have, made narrower: several chunks of channels, several blocks of places, both orders of
// columns, kernel 1, kernel = stride, a kernel larger than the grid, one token.
std::vector<Case> ModelCases() {
  const auto same = [](int64_t k) { return SamePadding({k, k}); };
  return {
      {2, 3, 64, {32, 24}, same(7)},
      {1, 64, 48, {44, 43}, {{7, 7}, {3, 3}, {3, 3}, {3, 3}}},
      {2, 96, 100, {20, 20}, same(3)},
      {2, 16, 200, {20, 20}, same(1)},
      {1, 130, 300, {8, 8}, {{4, 4}, {4, 4}, {0, 0}, {0, 0}}},
      {1, 70, 90, {5, 5}, {{7, 7}, {3, 3}, {3, 3}, {3, 3}}},
      {1, 33, 65, {1, 1}, {{7, 7}, {3, 3}, {3, 3}, {3, 3}}},
      {1, 24, 16, {33, 31}, {{1, 1}, {2, 2}, {0, 0}, {0, 0}}},
      {3, 8, 8, {3, 3}, {{1, 1}, {2, 2}, {1, 1}, {1, 1}}},
  };
}

TEST(Convolution, EqualsLibTorchsOnShapesOfModels) {
  for (const Case& c : ModelCases()) {
    const Arguments a = Make(c);
    ExpectClose(Ours(c, a), Torch(c, a), 2e-6, c.ToText());
  }
}

TEST(Convolution, EqualsLibTorchsOnRandomShapes) {
  for (uint64_t i = 0; i < 60; ++i) {
    const Case c = RandomCase(i);
    const Arguments a = Make(c);
    ExpectClose(Ours(c, a), Torch(c, a), 2e-6, std::to_string(i) + c.ToText());
  }
}

TEST(Convolution, SixteenBitsAreRoundedOnce) {
  for (const auto& [type, limit] : {std::pair{at::kBFloat16, 4e-3}, {at::kHalf, 5e-4}}) {
    const Case c{2, 20, 30, {9, 12}, {{3, 3}, {2, 1}, {1, 1}, {1, 1}}};
    const Arguments a = Make(c, type);
    const Result ours = Ours(c, a), theirs = Torch(c, a);
    EXPECT_EQ(ours.y.scalar_type(), type);
    EXPECT_EQ(ours.dweight.scalar_type(), type);
    ExpectClose(ours, theirs, limit, c.ToText());
    // To the nearest representable number: what no sum of rounded products would be.
    EXPECT_GT(ours.y.eq(theirs.y.to(type)).to(at::kDouble).mean().item<double>(), 0.99);
  }
}

TEST(Convolution, UpConvolutionEqualsLibTorchs) {
  for (const auto& [batch, in, out, rows, columns] :
       {std::array<int64_t, 5>{2, 12, 6, 5, 7}, {1, 128, 64, 20, 24}, {1, 300, 40, 2, 2}}) {
    const auto leaf = [](const at::Tensor& t) { return t.detach().set_requires_grad(true); };
    const at::Tensor x = leaf(at::randn({batch, rows * columns, in}, at::kFloat)),
                     w = leaf(at::randn({in, out, 2, 2}, at::kFloat)),
                     b = leaf(at::randn({out}, at::kFloat)),
                     dy = at::randn({batch, 4 * rows * columns, out}, at::kFloat);
    const Result ours =
        Differentiate(UpConvolution(x, w, b, {rows, columns}, {2, 2}), dy, {x, w, b});
    const at::Tensor xd = leaf(x.to(at::kDouble)), wd = leaf(w.to(at::kDouble)),
                     bd = leaf(b.to(at::kDouble));
    const at::Tensor y = at::conv_transpose2d(
        xd.transpose(1, 2).reshape({batch, in, rows, columns}), wd, bd, {2, 2});
    const Result theirs =
        Differentiate(y.flatten(2).transpose(1, 2), dy.to(at::kDouble), {xd, wd, bd});
    ExpectClose(ours, theirs, 2e-6, std::to_string(in));
  }
}

TEST(Convolution, BitsDoNotDependOnTheNumberOfThreads) {
  std::vector<Case> cases = ModelCases();
  for (uint64_t i = 0; i < 10; ++i) cases.push_back(RandomCase(i));
  cases.push_back({1, 64, 64, {64, 40}, SamePadding({3, 3})});
  for (const Case& c : cases) {
    const Arguments a = Make(c);
    at::set_num_threads(1);
    const Result one = Ours(c, a);
    for (const int threads : {2, 3, 5}) {
      at::set_num_threads(threads);
      EXPECT_TRUE(SameBits(one, Ours(c, a))) << threads << " threads" << c.ToText();
    }
    at::set_num_threads(1);
  }
}

std::vector<AllocationEvent> Trace(const Case& c, at::Device device, at::ScalarType type) {
  const auto empty = [&](const Grid& shape) {
    return at::empty(shape, at::TensorOptions().dtype(type).device(device)).fill_(0.5);
  };
  const at::Tensor x = empty({c.batch, Product(c.grid), c.in}).set_requires_grad(true),
                   w = empty(Join({c.out, c.in}, c.g.kernel)).set_requires_grad(true),
                   b = empty({c.out}).set_requires_grad(true),
                   dy = empty({c.batch, Product(OutputGrid(c.grid, c.g)), c.out});
  Recording recording;
  const at::Tensor y = Convolution(x, w, b, c.grid, c.g);
  torch::autograd::grad({y}, {x, w, b}, {dy});
  torch::autograd::grad({Convolution(x, w, b, c.grid, c.g)}, {w}, {dy});
  return recording.events();
}

TEST(Convolution, TheMetaDeviceMakesTheAllocationsOfTheCpu) {
  InstallAllocators();
  for (const int threads : {1, 2}) {
    at::set_num_threads(threads);
    const MetaThreads meta(threads);
    for (const Case& c : ModelCases()) {
      for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
        EXPECT_EQ(Trace(c, at::kMeta, type), Trace(c, at::kCPU, type)) << c.ToText();
      }
    }
  }
  at::set_num_threads(1);
}

TEST(Convolution, ScratchIsSmallHoweverLargeTheImage) {
  InstallAllocators();
  const Case c{1, 64, 64, {512, 512}, SamePadding({3, 3})};
  const at::Tensor x = at::empty({1, 512 * 512, 64}, at::kMeta),
                   w = at::empty({64, 64, 3, 3}, at::kMeta);
  Recording recording;
  const at::Tensor y = Convolution(x, w, {}, c.grid, c.g);
  EXPECT_LT(recording.peak_bytes() - static_cast<int64_t>(y.nbytes()), 1 << 20);
}

TEST(Convolution, CountsItsWork) {
  const Case c{2, 5, 7, {6, 6}, SamePadding({3, 3})};
  const Arguments a = Make(c);
  OpCounter counter;
  const at::Tensor y = Convolution(a.x, a.weight, a.bias, c.grid, c.g);
  EXPECT_EQ(counter.flops(), 2 * 2 * 36 * 5 * 7 * 9);
  EXPECT_EQ(counter.bytes(), 4 * (2 * 36 * (5 + 7) + 5 * 7 * 9));
  Ours(c, a);
  EXPECT_EQ(counter.flops(), (1 + 3) * 2 * 2 * 36 * 5 * 7 * 9);
}

TEST(Convolution, WhatDoesNotFitIsSaid) {
  const at::Tensor x = at::randn({1, 12, 4}), w = at::randn({5, 4, 3, 3});
  EXPECT_THROW(Convolution(x, w, {}, {3, 5}, SamePadding({3, 3})), c10::Error);
  EXPECT_THROW(Convolution(x, w, {}, {3, 4}, SamePadding({3, 5})), c10::Error);
  EXPECT_THROW(OutputGrid({2}, {{3}, {1}, {0}, {0}}), c10::Error);
  EXPECT_THROW(OutputGrid({2, 2}, {{1}, {1}, {0}, {0}}), c10::Error);
}

}  // namespace
}  // namespace millrace
