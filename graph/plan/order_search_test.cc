// The search never makes a step worse, and finds what no ladder has.
#include "graph/plan/order_search.h"

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "graph/base/random.h"
#include "graph/plan/planner.h"
#include "graph/sim/simulate.h"
#include "gtest/gtest.h"

namespace millrace {
namespace {

Machine SlowLink() {
  Machine m;
  m.set_name("slow_link");
  m.mutable_device()->set_flops_per_second(1e9);
  m.mutable_device()->set_flops_efficiency(1);
  m.mutable_device()->set_memory_bytes_per_second(1e12);
  m.mutable_device()->set_seconds_per_node(1e-6);
  Link* link = m.add_link();
  link->set_name("intra_node");
  link->set_latency_seconds(1e-5);
  link->set_bytes_per_second(1e8);
  return m;
}

struct Result {
  double seconds, ratio;
  int64_t live;
};

Result Planned(const Graph& graph, std::optional<Ladder> ladder) {
  const auto plan = MakePlan(graph, SlowLink(), {.ladder = ladder});
  EXPECT_TRUE(plan.ok()) << plan.status();
  if (!plan.ok()) return {};
  const auto result = Simulate(*plan, SlowLink());
  EXPECT_TRUE(result.ok()) << result.status();
  if (!result.ok()) return {};
  return {result->step_seconds, result->step_seconds / result->lower_bound_seconds,
          plan->rank_plans[0].live_bytes_bound[0]};
}

// first -> gather -> second; `first` may be missing. In FLOPs of 1 ns and bytes of 10 ns.
struct Chain {
  int64_t first, bytes, second;
};

Graph Chains(const std::vector<Chain>& chains) {
  GraphBuilder b("chains");
  b.SetGroup("data", 2);
  int k = 0;
  const auto value = [&](const std::string& name, int64_t bytes) {
    return b.AddValueWithBuffer({name, DType::kU8, {bytes}}, BufferKind::kActivation);
  };
  for (const Chain& chain : chains) {
    const std::string name = "c" + std::to_string(k++);
    Node start{.name = name + ".start", .op = "all_gather"};
    if (chain.first > 0) {
      start.inputs = {value(name + "v", 64)};
      b.AddNode(
          {.name = name + ".first", .op = "work", .outputs = start.inputs, .flops = chain.first});
    }
    start.async = AsyncRole::kStart;
    start.is_collective = true;
    start.collective = {CollectiveOp::kAllGather, "data", DType::kU8, chain.bytes};
    Node done = start;
    const NodeId s = b.AddNode(start);
    done.name = name + ".done";
    done.async = AsyncRole::kDone;
    done.inputs.clear();
    done.outputs = {value(name + "g", 2 * chain.bytes)};
    done.partner = s;
    const ValueId gathered = done.outputs[0];
    b.node(s).partner = b.AddNode(done);
    b.AddNode({.name = name + ".second",
               .op = "work",
               .inputs = {gathered},
               .outputs = {value(name + "w", 64)},
               .flops = chain.second});
  }
  auto graph = std::move(b).Build();
  EXPECT_TRUE(graph.ok()) << graph.status();
  return *std::move(graph);
}

// The first gather could begin at once, but the second is the urgent one and would wait behind it.
TEST(OrderSearch, AGatherYieldsToAMoreUrgentOneThatIsReadyLater) {
  const Graph graph = Chains({{0, 1000000, 100000}, {1000000, 100000, 20000000}});
  EXPECT_GT(Planned(graph, Ladder::kCriticalPath).ratio, 1.3);
  EXPECT_LE(Planned(graph, std::nullopt).ratio, 1.001);
}

TEST(OrderSearch, OfAHundredRandomStepsNoneGetsWorseAndManyGetBetter) {
  int better = 0;
  double before = 0, after = 0, worst = 1;
  constexpr int kSteps = 100;
  for (uint64_t seed = 1; seed <= kSteps; ++seed) {
    const CounterRng random(seed);
    std::vector<Chain> chains;
    const int count = 3 + static_cast<int>(random.Below(0, 8));
    for (int c = 0; c < count; ++c) {
      const auto draw = [&](int what, int64_t n) {
        return static_cast<int64_t>(random.Below(10 + 4 * c + what, n));
      };
      chains.push_back({draw(0, 3) == 0 ? 0 : 1 + draw(1, 5000000), 1000 + draw(2, 800000),
                        1 + draw(3, 8000000)});
    }
    const Graph graph = Chains(chains);
    Result ladders{1e300, 1, 0};
    for (Ladder ladder : {Ladder::kCriticalPath, Ladder::kFeedFirst, Ladder::kProgramOrder}) {
      const Result r = Planned(graph, ladder);
      if (r.seconds < ladders.seconds) ladders = r;
    }
    const Result found = Planned(graph, std::nullopt);
    // Within half a percent, the order of less memory is taken.
    EXPECT_LE(found.seconds, ladders.seconds * 1.0051) << "seed " << seed;
    better += found.seconds < ladders.seconds * 0.999 ? 1 : 0;
    before += ladders.ratio / kSteps;
    after += found.ratio / kSteps;
    worst = std::max(worst, found.ratio);
  }
  std::printf(
      "%d of %d steps shorter than with the best ladder; step / bound %.4f -> %.4f, worst %.4f\n",
      better, kSteps, before, after, worst);
  EXPECT_GT(better, 10);
  EXPECT_LT(after, before);
}

}  // namespace
}  // namespace millrace
