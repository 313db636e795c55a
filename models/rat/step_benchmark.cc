// Forward and backward of rat_optimized, all stages, one compute thread, at planned places; first scale 128 pixels, one
// image, alone and with its half. The aim is the published package (dense) at the same batch and size.
//
// Counters: what a step saves for backward and the largest scratch of a stage, in MiB.
//
// 2-core AMD EPYC VM beside other work, 2026-11-21, processor seconds of one step, saved and scratch in MiB:
//   sparse_128      3.0   127    48
//   dense_128      25.6   123   343     (scores of 1849 x 16384 tokens, 16 heads, three rounds)
//   sparse_128_64   3.3   162    21
#include <ATen/Parallel.h>
#include <benchmark/benchmark.h>

#include <algorithm>
#include <string>

#include "models/planned_step.h"

namespace millrace {
namespace {

void Step(benchmark::State& state, const std::string& sizes, const std::string& attention) {
  at::set_num_threads(1);
  auto step = PlannedStep::Create(
      "rat_optimized", {{"image_size", sizes}, {"attention", attention}, {"dropout", 0.0}},
      /*micro_batch=*/1, /*threads=*/1);
  if (!step.ok()) return state.SkipWithError(step.status().ToString().c_str());
  for (auto _ : state) {
    auto result = (*step)->RunPlanned();
    if (!result.ok()) return state.SkipWithError(result.status().ToString().c_str());
  }
  int64_t saved = 0, scratch = 0;
  for (const StageSpec& s : (*step)->spec().stages) {
    saved += s.saved_bytes;
    scratch = std::max({scratch, s.forward.workspace_bytes, s.backward.workspace_bytes});
  }
  state.counters["saved_MiB"] = static_cast<double>(saved) / (1 << 20);
  state.counters["scratch_MiB"] = static_cast<double>(scratch) / (1 << 20);
}

BENCHMARK_CAPTURE(Step, sparse_128, std::string("128"), std::string("sparse,sparse,dense"))
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(Step, dense_128, std::string("128"), std::string("dense"))
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(Step, sparse_128_64, std::string("128,64"), std::string("sparse,sparse,dense"))
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace millrace
