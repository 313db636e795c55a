// Milliseconds of batch norm + ReLU, and of 2 x 2 pooling, forward and backward on the U-Net's widest activations,
// one thread: ours over tokens and LibTorch's over images as it wants them. To be reached: LibTorch's time.
//
// 2-core AMD EPYC VM beside much other work, 2026-11-21, milliseconds of processor time, ours / LibTorch's: norm
// 14 / 8.3, pooling 8.1 / 8.1. Ours reads the input once more in backward, for the ReLU's sign, and keeps a tensor less.
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/ops/batch_norm.h>
#include <ATen/ops/max_pool2d.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <benchmark/benchmark.h>
#include <torch/csrc/autograd/autograd.h>

#include "models/batch_norm.h"
#include "models/max_pool.h"

namespace millrace {
namespace {

constexpr int64_t kSize = 128, kChannels = 64;

at::Tensor Input(bool ours, int64_t size) {
  return ours ? at::randn({1, size * size, kChannels}, at::kFloat)
              : at::randn({1, kChannels, size, size}, at::kFloat);
}

void Norm(benchmark::State& state, bool ours) {
  at::set_num_threads(1);
  const at::Tensor x = Input(ours, kSize).set_requires_grad(true), dy = Input(ours, kSize);
  const at::Tensor w = at::ones({kChannels}).set_requires_grad(true),
                   b = at::zeros({kChannels}).set_requires_grad(true);
  const at::Tensor mean = at::zeros({kChannels}), var = at::ones({kChannels});
  for (auto _ : state) {
    const at::Tensor y = ours ? BatchNorm(x, {w, b, mean, var}, {})
                              : at::batch_norm(x, w, b, mean, var, true, 0.1, 1e-5, false).relu();
    benchmark::DoNotOptimize(torch::autograd::grad({y}, {x, w, b}, {dy}));
  }
}
void Pool(benchmark::State& state, bool ours) {
  at::set_num_threads(1);
  const at::Tensor x = Input(ours, kSize).set_requires_grad(true), dy = Input(ours, kSize / 2);
  for (auto _ : state) {
    const at::Tensor y = ours ? MaxPool2x2(x, kSize, kSize) : at::max_pool2d(x, {2, 2});
    benchmark::DoNotOptimize(torch::autograd::grad({y}, {x}, {dy}));
  }
}

BENCHMARK_CAPTURE(Norm, ours, true)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(Norm, libtorch, false)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(Pool, ours, true)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(Pool, libtorch, false)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace millrace
