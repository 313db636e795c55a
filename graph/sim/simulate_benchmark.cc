// Simulating a step of 1000 nodes (250 layers of an async gather and two compute nodes).
//
// CPU time on 2 shared cores of an AMD EPYC, 2026-11-21, -O2, both cores busy with other work; the bound is 10 ms for
// 8 ranks each on its own.
//   equal_ranks                               0.72 ms
//   equal_ranks_seconds_only                  0.22 ms
//   eight_ranks_each_on_its_own               3.1 ms
//   eight_ranks_each_on_its_own_seconds_only  1.7 ms    0.21 us an event
//   eight_ranks_whose_lanes_contend           3.6 ms
#include <string>
#include <utility>

#include "benchmark/benchmark.h"
#include "graph/sim/simulate.h"

namespace millrace {
namespace {

Plan Layered(int world, int layers) {
  Plan plan;
  plan.world_size = world;
  RankPlan rp;
  rp.lanes = {{"compute", LaneKind::kCompute, {}}, {"comm:data", LaneKind::kComm, {}}};
  for (int r = 0; r < world; ++r) rp.ranks.push_back(r);
  GraphBuilder builder("layered");
  builder.SetGroup("data", world);
  const auto add = [&](Node node, int lane, double seconds) {
    const NodeId id = builder.AddNode(std::move(node));
    if (!rp.lanes[lane].order.empty()) {
      rp.edges.push_back({rp.lanes[lane].order.back(), id, EdgeKind::kLane});
    }
    rp.lanes[lane].order.push_back(id);
    rp.seconds.push_back(seconds);
    return id;
  };
  for (int i = 0; i < layers; ++i) {
    const std::string k = std::to_string(i);
    Node gather{.name = "g" + k + ".start", .op = "all_gather", .async = AsyncRole::kStart};
    gather.is_collective = true;
    gather.collective = {CollectiveOp::kAllGather, "data", DType::kF32, 1 << 16};
    const NodeId start = add(gather, 0, 2e-6);
    gather.name = "g" + k + ".done";
    gather.async = AsyncRole::kDone;
    gather.partner = start;
    const NodeId done = add(gather, 1, 0);
    builder.node(start).partner = done;
    const NodeId c = add({.name = "c" + k, .op = "work"}, 0, 1e-3);
    const NodeId d = add({.name = "d" + k, .op = "work"}, 0, 1e-4);
    rp.edges.push_back({start, done, EdgeKind::kAsync});
    rp.edges.push_back({done, c, EdgeKind::kData});
    rp.edges.push_back({c, d, EdgeKind::kData});
  }
  plan.graph = *std::move(builder).Build();
  plan.rank_plans = {rp};
  return plan;
}

// Computation and communication of a rank share something.
Machine Shared() {
  Machine machine;
  for (const auto& [lane, beside] : {std::pair("compute", "comm"), std::pair("comm", "compute")}) {
    Contention* c = machine.add_contention();
    c->set_lane(lane);
    c->set_beside(beside);
    c->set_factor(1.5);
  }
  return machine;
}

void Simulates(benchmark::State& state, SimOptions options, const Machine& machine = Machine()) {
  const Plan plan = Layered(8, 250);
  int64_t events = 0;
  for (auto _ : state) {
    auto result = Simulate(plan, machine, options);
    benchmark::DoNotOptimize(result);
    events += result->events;
  }
  state.SetItemsProcessed(events);
}

SimOptions Folded(bool details) {
  SimOptions options;
  options.details = details;
  return options;
}

SimOptions Expanded(bool details) {
  SimOptions options = Folded(details);
  options.expand = true;
  return options;
}

BENCHMARK_CAPTURE(Simulates, equal_ranks, Folded(true));
BENCHMARK_CAPTURE(Simulates, equal_ranks_seconds_only, Folded(false));
BENCHMARK_CAPTURE(Simulates, eight_ranks_each_on_its_own, Expanded(true));
BENCHMARK_CAPTURE(Simulates, eight_ranks_each_on_its_own_seconds_only, Expanded(false));
BENCHMARK_CAPTURE(Simulates, eight_ranks_whose_lanes_contend, Expanded(true), Shared());

}  // namespace
}  // namespace millrace
