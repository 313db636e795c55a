// Verifying one step: 100 stages, then plans of about 1e4 and 1e5 nodes (accumulation makes them long).
//
// CPU time on 2 shared cores of an AMD EPYC, 2026-11-21, -O2; the bound is 1 s for 1000 nodes on 8 ranks.
//      874 nodes     4.1 ms
//    8 740 nodes      56 ms
//   87 400 nodes     850 ms
#include "benchmark/benchmark.h"
#include "graph/lower/lower.h"
#include "graph/lower/testing/fake_model.h"
#include "graph/plan/planner.h"
#include "graph/verify/verify.h"

namespace millrace {
namespace {

void Verifies(benchmark::State& state) {
  FakeModelOptions model;
  model.stages = 100;
  model.workspace_bytes = 4096;
  LowerOptions options;
  options.zero_stage = 3;
  options.world_size = 8;
  options.accumulation = static_cast<int>(state.range(0));
  options.reduce_bucket_bytes = 300;
  auto graph = Lower(MakeFakeModel(model), options);
  auto plan = MakePlan(*std::move(graph), Machine());
  for (auto _ : state) {
    const VerifyResult result = Verify(*plan);
    if (!result.ok) state.SkipWithError("a valid plan was refused");
  }
  state.counters["nodes"] = static_cast<double>(plan->graph.nodes().size());
}
BENCHMARK(Verifies)->Arg(2)->Arg(20)->Arg(200)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace millrace
