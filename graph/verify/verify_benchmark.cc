// Verifying one step: 100 stages, then plans of about 1e4 and 1e5 nodes (accumulation makes them long); then the same
// step with a plan of its own for each of 8 ranks, and with one plan for very many ranks.
//
// CPU time on 2 shared, busy cores of an AMD EPYC, 2026-11-21, -O2; the bound is 1 s for 1000 nodes on 8 ranks.
//      874 nodes, 8 ranks                         5 ms
//    8 740 nodes, 8 ranks                        63 ms
//   87 400 nodes, 8 ranks                       820 ms
//      874 nodes, 8 ranks, 8 plans               15 ms
//      673 nodes, stage 1, 1 024 ranks, 1 plan  265 ms   (532 ms when every rank's shards are swept)
//      874 nodes, stage 3, 1 024 ranks, 1 plan  121 ms   (364 ms)
#include "benchmark/benchmark.h"
#include "graph/lower/lower.h"
#include "graph/lower/testing/fake_model.h"
#include "graph/plan/hash.h"
#include "graph/plan/planner.h"
#include "graph/verify/verify.h"

namespace millrace {
namespace {

Plan MakePlanOf(int stage, int world, int accumulation) {
  FakeModelOptions model;
  model.stages = 100;
  model.workspace_bytes = 4096;
  LowerOptions options;
  options.zero_stage = stage;
  options.world_size = world;
  options.accumulation = accumulation;
  options.reduce_bucket_bytes = 300;
  auto graph = Lower(MakeFakeModel(model), options);
  return *MakePlan(*std::move(graph), Machine());
}

void Verify(benchmark::State& state, const Plan& plan) {
  for (auto _ : state) {
    const VerifyResult result = Verify(plan);
    if (!result.ok) state.SkipWithError("a valid plan was refused");
  }
  state.counters["nodes"] = static_cast<double>(plan.graph.nodes().size());
}

void Nodes(benchmark::State& state) {
  Verify(state, MakePlanOf(3, 8, static_cast<int>(state.range(0))));
}
BENCHMARK(Nodes)->Arg(2)->Arg(20)->Arg(200)->Unit(benchmark::kMillisecond);

void OwnPlanForEachOfEightRanks(benchmark::State& state) {
  Plan plan = MakePlanOf(3, 8, 2);
  for (int rank = 1; rank < 8; ++rank) {
    plan.rank_plans.push_back(plan.rank_plans[0]);
    plan.rank_plans.back().ranks = {rank};
  }
  plan.rank_plans[0].ranks = {0};
  plan.hash = PlanHash(plan);
  Verify(state, plan);
}
BENCHMARK(OwnPlanForEachOfEightRanks)->Unit(benchmark::kMillisecond);

// Stage 1 is the worst: every rank's shards lie elsewhere. Arguments: stage, ranks.
void OnePlanForManyRanks(benchmark::State& state) {
  Verify(state, MakePlanOf(static_cast<int>(state.range(0)), static_cast<int>(state.range(1)), 2));
}
BENCHMARK(OnePlanForManyRanks)
    ->Args({1, 8})
    ->Args({1, 1024})
    ->Args({3, 1024})
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace millrace
