// Images per second of one rank's forward and backward, all stages, one compute thread: as PyTorch's
// eager mode runs the same model (one autograd graph, its operators, malloc for every tensor), by our
// stages with malloc, and by our stages at planned places. The bound is eager: planned steps are to be at
// least as fast.
//
// 2-core AMD EPYC VM, 2026-11-21, processor milliseconds per step, least / median of 12 (tiny) and 3 (base)
// interleaved runs beside other work, so only differences above 5 % mean anything:
//              eager         plain         planned
//   vit_tiny   287 / 323     285 / 299     277 / 309     (8 images: 28.9 images/s; 63 GFLOP/s)
//   vit_base   2774 / 3133   2842 / 2925   2842 / 2940   (2 images: 0.70 images/s; 74 GFLOP/s)
// Probing vit_huge: 2.2 ms.
#include <ATen/Parallel.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <benchmark/benchmark.h>

#include <string>

#include "models/planned_step.h"

namespace millrace {
namespace {

// The public package's ViT, operator by operator; parameters in the order of our stages.
at::Tensor EagerLoss(const std::vector<Tensors>& params, const at::Tensor& images,
                     const at::Tensor& labels, int64_t heads) {
  const Tensors& e = params.front();
  at::Tensor x = at::conv2d(images, e[2], e[3], e[2].size(2)).flatten(2).transpose(1, 2);
  x = at::cat({e[0].expand({x.size(0), -1, -1}), x}, 1).add(e[1]);
  const int64_t batch = x.size(0), tokens = x.size(1), width = x.size(2);
  const auto split = [&](const at::Tensor& t) {
    return t.view({batch, tokens, heads, width / heads}).transpose(1, 2);
  };
  for (size_t i = 1; i + 1 < params.size(); ++i) {
    const Tensors& p = params[i];
    at::Tensor h = at::layer_norm(x, {width}, p[8], p[9], 1e-12);
    h = at::scaled_dot_product_attention(split(at::linear(h, p[0], p[1])),
                                         split(at::linear(h, p[2], p[3])),
                                         split(at::linear(h, p[4], p[5])));
    x = at::linear(h.transpose(1, 2).contiguous().view({batch, tokens, width}), p[6], p[7]).add(x);
    h = at::layer_norm(x, {width}, p[10], p[11], 1e-12);
    x = at::linear(at::gelu(at::linear(h, p[12], p[13])), p[14], p[15]).add(x);
  }
  const Tensors& h = params.back();
  x = at::layer_norm(x, {width}, h[0], h[1], 1e-12);
  return at::cross_entropy_loss(at::linear(x.select(1, 0), h[2], h[3]), labels);
}

void Eager(benchmark::State& state, const std::string& model, int64_t batch, int64_t heads) {
  at::set_num_threads(1);
  auto step = PlannedStep::Create(model, {}, batch, /*threads=*/1);
  if (!step.ok()) return state.SkipWithError(step.status().ToString().c_str());
  std::vector<Tensors> params = (*step)->params();
  for (Tensors& stage : params) {
    for (at::Tensor& p : stage) p.set_requires_grad(true);
  }
  for (auto _ : state) {
    EagerLoss(params, (*step)->batch()[0], (*step)->batch()[1], heads).backward();
    for (Tensors& stage : params) {
      for (at::Tensor& p : stage) p.mutable_grad().reset();
    }
  }
  state.counters["images/s"] = benchmark::Counter(static_cast<double>(state.iterations() * batch),
                                                  benchmark::Counter::kIsRate);
}

void Step(benchmark::State& state, const std::string& model, int64_t batch, bool planned) {
  at::set_num_threads(1);
  auto step = PlannedStep::Create(model, {}, batch, /*threads=*/1);
  if (!step.ok()) return state.SkipWithError(step.status().ToString().c_str());
  for (auto _ : state) {
    auto result = planned ? (*step)->RunPlanned() : (*step)->RunPlain();
    if (!result.ok()) return state.SkipWithError(result.status().ToString().c_str());
    benchmark::DoNotOptimize(result->outputs.data());
  }
  state.counters["images/s"] = benchmark::Counter(static_cast<double>(state.iterations() * batch),
                                                  benchmark::Counter::kIsRate);
}

void Probing(benchmark::State& state, const std::string& model, int64_t batch) {
  auto def = BuildModel(model, {}, {.micro_batch = batch});
  for (auto _ : state) benchmark::DoNotOptimize(Probe(*def));
}

BENCHMARK_CAPTURE(Eager, vit_tiny, "vit_tiny", 8, 3);
BENCHMARK_CAPTURE(Step, vit_tiny_plain, "vit_tiny", 8, false);
BENCHMARK_CAPTURE(Step, vit_tiny_planned, "vit_tiny", 8, true);
BENCHMARK_CAPTURE(Eager, vit_base, "vit_base", 2, 12);
BENCHMARK_CAPTURE(Step, vit_base_plain, "vit_base", 2, false);
BENCHMARK_CAPTURE(Step, vit_base_planned, "vit_base", 2, true);
BENCHMARK_CAPTURE(Probing, vit_huge, "vit_huge", 8)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace millrace
