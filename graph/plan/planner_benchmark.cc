// How long lowering and planning take. Aim: a step of 10^4 nodes in less than a second.
// 2 cores shared with a load of 13, 2026, CPU time of lowering + planning, optimised for debugging (-O1):
//   777 nodes 16 ms, 9,324 nodes 0.21 s, 93,780 nodes 2.6 s; bytes placed / live bytes bound 1.000, 1.011, 1.003.
#include <benchmark/benchmark.h>

#include <chrono>

#include "graph/lower/lower.h"
#include "graph/lower/testing/fake_model.h"
#include "graph/plan/planner.h"

namespace millrace {
namespace {

// Huge/14's shape: 34 stages of 19.7 M parameters, split into four buckets each.
FakeModelOptions Huge(int stages) {
  const int64_t w = 1280;
  FakeModelOptions model{.stages = stages};
  model.params = {{w, 3 * w}, {3 * w}, {w, w}, {w}, {w, 4 * w}, {4 * w}, {4 * w, w}, {w}, {w}, {w}};
  model.width = 257 * w;
  model.saved_bytes = 257 * w * 68;
  model.workspace_bytes = 257 * w * 64;
  model.flops = 24 * w * w * 257 * model.batch;
  model.memory_bytes = model.flops / 50;
  return model;
}

void LowerAndPlan(benchmark::State& state) {
  const ModelSpec spec = MakeFakeModel(Huge(static_cast<int>(state.range(0))));
  LowerOptions options{.world_size = 8, .zero_stage = 3};
  options.accumulation = static_cast<int>(state.range(1));
  double nodes = 0, gap = 0, lower = 0;
  for (auto _ : state) {
    const auto begin = std::chrono::steady_clock::now();
    auto graph = Lower(spec, options);
    lower += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    if (!graph.ok()) return state.SkipWithError("lowering failed");
    const auto plan = MakePlan(*std::move(graph), Machine());
    if (!plan.ok()) return state.SkipWithError("planning failed");
    nodes = static_cast<double>(plan->graph.nodes().size());
    gap = static_cast<double>(plan->rank_plans[0].arena_bytes[0]) /
          static_cast<double>(plan->rank_plans[0].live_bytes_bound[0]);
  }
  state.counters["nodes"] = nodes;
  state.counters["placed/bound"] = gap;
  state.counters["lower_ms"] = benchmark::Counter(1e3 * lower, benchmark::Counter::kAvgIterations);
}
BENCHMARK(LowerAndPlan)
    ->Args({34, 1})
    ->Args({34, 12})
    ->Args({340, 12})
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace millrace
