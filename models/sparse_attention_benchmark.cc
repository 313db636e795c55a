// Sparse against dense grouping attention (LibTorch, materialised as the public package does), forward and backward,
// one thread: size^2 keys, stride 3, window 7, 16 heads of 16 channels. `peak_MB` is what a step allocates on top of
// its inputs at its highest. To be reached: linear growth; from 128^2 on at least 5x less memory, and faster.
//
// 2-core AMD EPYC VM beside other work, 2026-11-21, milliseconds of processor time / MB:
//              64^2            128^2            256^2          512^2
//   sparse     21 / 11         151 / 43         591 / 173      3178 / 690
//   dense      1188 / 766      56192 / 11653    does not fit: 31021 MB for each matrix of scores
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/softmax.h>
#include <benchmark/benchmark.h>
#include <torch/csrc/autograd/autograd.h>

#include <string>

#include "models/allocator.h"
#include "models/sparse_attention.h"

namespace millrace {
namespace {

constexpr int64_t kHeads = 16, kWidth = 16, kStride = 3;
constexpr double kEps = 1.1920929e-7;

at::Tensor Dense(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  const at::Tensor a = at::softmax(at::matmul(q.transpose(1, 2), k.permute({0, 2, 3, 1})), -1);
  const at::Tensor aq = a.div(a.sum(-2, /*keepdim=*/true).add(kEps));
  const at::Tensor values = v.view({1, v.size(1), kHeads, kWidth}).transpose(1, 2);
  return at::matmul(aq, values).transpose(1, 2).reshape({1, q.size(1), kHeads * kWidth});
}

void Run(benchmark::State& state, bool sparse) {
  InstallAllocators();
  at::set_num_threads(1);
  const int64_t size = state.range(0), coarse = (size - 1) / kStride + 1;
  const int64_t queries = coarse * coarse, keys = size * size;
  const double matrix = 4.0 * static_cast<double>(kHeads * queries * keys);
  if (!sparse && matrix > 2e9) {
    const std::string message = "each of several matrices of scores takes " +
                                std::to_string(static_cast<int64_t>(matrix / 1e6)) + " MB";
    return state.SkipWithError(message.c_str());
  }
  const at::Tensor q = at::randn({1, queries, kHeads, kWidth}).set_requires_grad(true),
                   k = at::randn({1, keys, kHeads, kWidth}).set_requires_grad(true),
                   v = at::randn({1, keys, kHeads * kWidth}).set_requires_grad(true),
                   dy = at::randn({1, queries, kHeads * kWidth});
  const Neighborhood n{{coarse, coarse}, {size, size}, {kStride, kStride}, {7, 7}};
  const int64_t before = CpuAllocatorStats().live_bytes;
  ResetAllocatorPeak();
  for (auto _ : state) {
    const at::Tensor y =
        sparse ? SparseGroupingAttention(q, k, v, n, HeadLayout::kCorrect, kEps) : Dense(q, k, v);
    benchmark::DoNotOptimize(torch::autograd::grad({y}, {q, k, v}, {dy}));
  }
  state.counters["peak_MB"] = static_cast<double>(CpuAllocatorStats().peak_bytes - before) * 1e-6;
}

void Sparse(benchmark::State& state) { Run(state, true); }
void Dense(benchmark::State& state) { Run(state, false); }
BENCHMARK(Sparse)->Arg(64)->Arg(128)->Arg(256)->Arg(512)->Unit(benchmark::kMillisecond);
BENCHMARK(Dense)->Arg(64)->Arg(128)->Arg(256)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace millrace
