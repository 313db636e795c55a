// Properties of whole plans, found again by brute force: transitive closure in bits and every pair of accesses.
#include "graph/plan/planner.h"

#include <gtest/gtest.h>

#include <cstdio>

#include "graph/lower/lower.h"
#include "graph/lower/testing/fake_model.h"
#include "graph/plan/testing/random_graph.h"

namespace millrace {
namespace {

// before[b][a]: a surely ends before b begins.
std::vector<std::vector<bool>> Closure(const Plan& plan) {
  const RankPlan& rank = plan.rank_plans[0];
  const size_t n = plan.graph.nodes().size();
  std::vector<std::vector<NodeId>> next(n);
  std::vector<int> waiting(n);
  for (const Edge& e : rank.edges) {
    next[e.from].push_back(e.to);
    ++waiting[e.to];
  }
  std::vector<std::vector<bool>> before(n, std::vector<bool>(n));
  std::vector<NodeId> order;
  for (size_t i = 0; i < n; ++i) {
    if (waiting[i] == 0) order.push_back(static_cast<NodeId>(i));
  }
  for (size_t i = 0; i < order.size(); ++i) {
    for (NodeId to : next[order[i]]) {
      before[to][order[i]] = true;
      for (size_t a = 0; a < n; ++a) {
        if (before[order[i]][a]) before[to][a] = true;
      }
      if (--waiting[to] == 0) order.push_back(to);
    }
  }
  EXPECT_EQ(order.size(), n) << "the plan has a cycle";
  return before;
}

struct Touch {
  NodeId begin, end;
  int64_t low, high;  // bytes of the arena
  bool write;
  BufferId buffer;
};

std::vector<Touch> Touches(const Plan& plan) {
  const Graph& graph = plan.graph;
  std::vector<Touch> touches;
  for (size_t i = 0; i < graph.nodes().size(); ++i) {
    const Node& node = graph.nodes()[i];
    const auto n = static_cast<NodeId>(i);
    const NodeId begin = node.async == AsyncRole::kDone ? node.partner : n;
    const NodeId end = node.async == AsyncRole::kStart ? node.partner : n;
    for (bool write : {false, true}) {
      for (ValueId v : write ? node.outputs : node.inputs) {
        const Value& value = graph.values()[v];
        const int64_t low = plan.rank_plans[0].offset[value.buffer] + value.offset;
        const int64_t bytes = value.bytes() * (value.own_shard ? graph.group_size(value.group) : 1);
        touches.push_back({begin, end, low, low + bytes, write, value.buffer});
      }
    }
  }
  return touches;
}

// Every two touches of common bytes, of which one writes, are ordered; within one buffer as in the text.
void ExpectNoRace(const Plan& plan) {
  const auto before = Closure(plan);
  const std::vector<Touch> touches = Touches(plan);
  int bad = 0;
  for (size_t i = 0; i < touches.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      const Touch &a = touches[j], &b = touches[i];
      const bool meet = a.low < b.high && b.low < a.high;
      if (!meet || !(a.write || b.write) || a.begin == b.begin) continue;
      const bool forward = before[b.begin][a.end], backward = before[a.begin][b.end];
      bool right = forward || backward;
      if (a.buffer == b.buffer) right = a.begin < b.begin ? forward : backward;
      if (right || ++bad > 3) continue;
      ADD_FAILURE() << plan.graph.nodes()[a.begin].name << " and "
                    << plan.graph.nodes()[b.begin].name << " touch "
                    << plan.graph.buffers()[a.buffer].name << " and "
                    << plan.graph.buffers()[b.buffer].name << " unordered";
    }
  }
}

void ExpectLanesAreWhole(const Plan& plan) {
  size_t nodes = 0;
  for (const Lane& lane : plan.rank_plans[0].lanes) nodes += lane.order.size();
  EXPECT_EQ(nodes, plan.graph.nodes().size());
  for (NodeId n : plan.rank_plans[0].lanes[0].order) {
    EXPECT_NE(plan.graph.nodes()[n].async, AsyncRole::kDone);
  }
  for (size_t n = 0; n < plan.graph.nodes().size(); ++n) {
    EXPECT_NE(plan.rank_plans[0].reason[n], "") << plan.graph.nodes()[n].name;
  }
}

void ExpectSound(const Plan& plan) {
  const RankPlan& rank = plan.rank_plans[0];
  ExpectNoRace(plan);
  ExpectLanesAreWhole(plan);
  EXPECT_GE(rank.arena_bytes[0], rank.live_bytes_bound[0]);
  int64_t at_peak = 0;
  for (const PeakEntry& entry : rank.at_peak) at_peak += entry.bytes;
  EXPECT_EQ(at_peak, rank.arena_bytes[0]);
}

Plan PlanOf(const LowerOptions& options, const FakeModelOptions& model = {.stages = 5},
            const Machine& machine = {}) {
  auto graph = Lower(MakeFakeModel(model), options);
  EXPECT_TRUE(graph.ok()) << graph.status();
  if (!graph.ok()) return {};
  auto plan = MakePlan(*std::move(graph), machine);
  EXPECT_TRUE(plan.ok()) << plan.status();
  return plan.ok() ? *std::move(plan) : Plan{};
}

TEST(Planner, OverlappingBytesAreOrderedForRandomGraphs) {
  double worst = 1;
  for (uint64_t seed = 0; seed < 150; ++seed) {
    auto graph = RandomGraph(seed).Make(4 + static_cast<int>(seed));
    ASSERT_TRUE(graph.ok()) << graph.status();
    auto plan = MakePlan(*std::move(graph), Machine());
    ASSERT_TRUE(plan.ok()) << seed << ": " << plan.status();
    ExpectSound(*plan);
    if (testing::Test::HasFailure()) FAIL() << "seed " << seed;
    worst = std::max(worst, static_cast<double>(plan->rank_plans[0].arena_bytes[0]) /
                                static_cast<double>(plan->rank_plans[0].live_bytes_bound[0]));
  }
  printf("placed / bound, worst of 150 random graphs: %.3f\n", worst);
  EXPECT_LT(worst, 1.05);
}

TEST(Planner, OverlappingBytesAreOrderedForAllOptions) {
  double worst = 1;
  int plans = 0;
  CounterRng rng(7);
  for (int stage = 0; stage <= 3; ++stage) {
    for (int n : {1, 2, 4}) {
      for (int m : {1, 3}) {
        for (int policy = 0; policy < 3; ++policy) {
          for (int depth : {0, 1, 3}) {
            for (bool overlap : {true, false}) {
              LowerOptions o{.world_size = n, .zero_stage = stage};
              const uint64_t i = ++plans;
              o.reduce_bucket_bytes = 1 + static_cast<int64_t>(rng.Below(10 * i, 1200));
              o.prefetch_depth = depth;
              o.prefetch_bytes = i % 3 == 0 ? 1024 : 0;
              o.accumulation = m;
              o.policy = static_cast<AccumulationPolicy>(policy);
              o.overlap = overlap;
              o.clip_norm = i % 2;
              FakeModelOptions model{.stages = 1 + static_cast<int>(rng.Below(10 * i + 1, 6))};
              model.params = {{3, static_cast<int64_t>(1 + rng.Below(10 * i + 2, 40))}, {40}};
              model.workspace_bytes = 512;
              model.flops = static_cast<int64_t>(1 + rng.Below(10 * i + 3, 100000000));
              const Plan plan = PlanOf(o, model);
              ExpectSound(plan);
              if (testing::Test::HasFailure()) FAIL() << "plan " << i;
              worst =
                  std::max(worst, static_cast<double>(plan.rank_plans[0].arena_bytes[0]) /
                                      static_cast<double>(plan.rank_plans[0].live_bytes_bound[0]));
            }
          }
        }
      }
    }
  }
  printf("placed / bound, worst of %d plans: %.3f\n", plans, worst);
  EXPECT_LT(worst, 1.05);
}

TEST(Planner, SameInputGivesTheSameHash) {
  const LowerOptions o{.world_size = 2, .zero_stage = 3, .reduce_bucket_bytes = 300};
  EXPECT_EQ(PlanOf(o).hash, PlanOf(o).hash);
  EXPECT_FALSE(PlanOf(o).hash.empty());
}

TEST(Planner, EveryKnobChangesThePlan) {
  const LowerOptions base{
      .world_size = 2, .zero_stage = 3, .reduce_bucket_bytes = 300, .accumulation = 2};
  std::vector<LowerOptions> changed(8, base);
  changed[1].reduce_bucket_bytes = 148;
  changed[2].prefetch_depth = 2;
  changed[3].overlap = false;
  changed[4].policy = AccumulationPolicy::kReduceLast;
  changed[5].policy = AccumulationPolicy::kKeepGathered;
  changed[6].prefetch_bytes = 1;
  changed[7].zero_stage = 2;
  std::vector<std::string> hashes;
  for (const LowerOptions& o : changed) hashes.push_back(PlanOf(o).hash);
  std::sort(hashes.begin(), hashes.end());
  EXPECT_EQ(std::unique(hashes.begin(), hashes.end()), hashes.end());
}

TEST(Planner, CollectivesRunBesideCompute) {
  // Compute of 1 ms a stage on a link where a gather takes 0.1 ms: all but the first is hidden.
  Machine machine;
  machine.mutable_device()->set_flops_per_second(1e9);
  machine.mutable_device()->set_flops_efficiency(1);
  const FakeModelOptions model{.stages = 6, .flops = 1000000};
  LowerOptions o{.world_size = 2, .zero_stage = 3, .reduce_bucket_bytes = 148};
  const auto makespan = [&](bool overlap) {
    o.overlap = overlap;
    const Plan plan = PlanOf(o, model, machine);
    double end = 0;
    for (size_t n = 0; n < plan.graph.nodes().size(); ++n) {
      end = std::max(end, plan.rank_plans[0].start_time[n] + plan.rank_plans[0].seconds[n]);
    }
    return end;
  };
  const double compute = 6 * 3e-3;
  EXPECT_LT(makespan(true), compute + 0.2e-3);
  EXPECT_GT(makespan(false), compute + 16 * 0.02e-3);
}

TEST(Planner, PersistentBuffersLieFirstInTheGraphsOrder) {
  const Plan plan = PlanOf({.world_size = 2, .zero_stage = 1});
  const RankPlan& rank = plan.rank_plans[0];
  int64_t next = 0;
  for (size_t b = 0; b < plan.graph.buffers().size(); ++b) {
    const Buffer& buffer = plan.graph.buffers()[b];
    if (buffer.persistent) {
      EXPECT_EQ(rank.offset[b], next);
      next += (buffer.bytes + 63) / 64 * 64;
    } else {
      EXPECT_GE(rank.offset[b], rank.persistent_bytes[0]);
    }
    EXPECT_EQ(rank.offset[b] % 64, 0);
  }
  EXPECT_EQ(next, rank.persistent_bytes[0]);
}

TEST(Planner, EvaluationSharesTheTrainingStepsPersistentLayout) {
  LowerOptions o{.world_size = 2, .zero_stage = 3, .reduce_bucket_bytes = 148};
  const Plan train = PlanOf(o);
  o.kind = StepKind::kEvaluate;
  const Plan evaluate = PlanOf(o);
  EXPECT_EQ(train.rank_plans[0].persistent_bytes, evaluate.rank_plans[0].persistent_bytes);
}

TEST(Planner, ShardingTheStateLessensThePeak) {
  const FakeModelOptions model{.stages = 6, .params = {{100, 100}, {100}}};
  std::vector<int64_t> peaks;
  for (int stage = 0; stage <= 3; ++stage) {
    peaks.push_back(
        PlanOf({.world_size = 4, .zero_stage = stage, .reduce_bucket_bytes = 40000}, model)
            .rank_plans[0]
            .arena_bytes[0]);
  }
  EXPECT_GT(peaks[0], peaks[1]);
  EXPECT_GT(peaks[1], peaks[2]);
  EXPECT_GT(peaks[2], peaks[3]);
}

TEST(Planner, ReaderOfOverwrittenBytesIsNamed) {
  GraphBuilder b("step");
  const BufferId buffer = b.AddBuffer({.name = "x", .bytes = 64, .persistent = true});
  const ValueId x = b.AddValue({.name = "x", .shape = {16}, .buffer = buffer});
  const ValueId y = b.AddValue({.name = "x'", .shape = {16}, .buffer = buffer});
  b.AddNode({.name = "update", .op = "work", .inputs = {x}, .outputs = {y}});
  b.AddNode({.name = "late", .op = "work", .inputs = {x}});
  auto graph = std::move(b).Build();
  ASSERT_TRUE(graph.ok()) << graph.status();
  const auto plan = MakePlan(*std::move(graph), Machine());
  ASSERT_FALSE(plan.ok());
  EXPECT_EQ(plan.status().message(),
            "planning step: error: [stale_read] node 'late': reads 'x', whose bytes 'update' "
            "overwrites before it; help: read 'x'', or move the reader up");
}

TEST(Planner, EmptyGraphHasAnEmptyPlan) {
  auto graph = GraphBuilder("nothing").Build();
  ASSERT_TRUE(graph.ok());
  const auto plan = MakePlan(*std::move(graph), Machine());
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->rank_plans[0].arena_bytes[0], 0);
}

}  // namespace
}  // namespace millrace
