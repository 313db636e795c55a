// Images per second of one rank's forward and backward, all stages, one compute thread, with LibTorch's
// allocations from malloc and at their planned places.
#include <ATen/Parallel.h>
#include <benchmark/benchmark.h>

#include <string>

#include "models/planned_step.h"

namespace millrace {
namespace {

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
  auto def = BuildModel(model, {}, batch);
  for (auto _ : state) benchmark::DoNotOptimize(Probe(*def));
}

BENCHMARK_CAPTURE(Step, vit_tiny / plain, "vit_tiny", 8, false)->UseRealTime();
BENCHMARK_CAPTURE(Step, vit_tiny / planned, "vit_tiny", 8, true)->UseRealTime();
BENCHMARK_CAPTURE(Step, vit_base / plain, "vit_base", 2, false)->UseRealTime();
BENCHMARK_CAPTURE(Step, vit_base / planned, "vit_base", 2, true)->UseRealTime();
BENCHMARK_CAPTURE(Probing, vit_huge, "vit_huge", 8)->UseRealTime()->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace millrace
