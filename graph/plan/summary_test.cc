// The numbers of a plan whose numbers are known, as a struct, as text and as JSON.
#include "graph/plan/summary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "graph/plan/summary_json.h"
#include "graph/plan/testing/small_plan.h"

namespace millrace {
namespace {

using ::testing::HasSubstr;

Plan Small(const std::function<void(GraphBuilder&)>& edit = {}) {
  auto plan = SmallPlan(edit);
  EXPECT_TRUE(plan.ok()) << plan.status();
  return plan.ok() ? *std::move(plan) : Plan();
}

// A plan of one rank plan whose nodes are the given collectives over `ranks` ranks.
Plan Collectives(int ranks, const std::vector<CollectiveSpec>& specs) {
  GraphBuilder b("step");
  b.SetGroup("data", ranks);
  Plan plan;
  plan.world_size = ranks;
  RankPlan r;
  for (int i = 0; i < ranks; ++i) r.ranks.push_back(i);
  r.lanes.push_back({"compute", LaneKind::kCompute, {}});
  for (const CollectiveSpec& spec : specs) {
    Node n;
    n.name = "node/" + std::to_string(r.lanes[0].order.size());
    n.op = std::string(Name(spec.op));
    n.is_collective = true;
    n.collective = spec;
    r.lanes[0].order.push_back(b.AddNode(n));
  }
  auto graph = std::move(b).Build();
  EXPECT_TRUE(graph.ok()) << graph.status();
  if (graph.ok()) plan.graph = *std::move(graph);
  plan.rank_plans.push_back(r);
  return plan;
}

CollectiveSpec Data(CollectiveOp op, int64_t count, DType dtype = DType::kF32) {
  return {op, "data", dtype, count};
}

TEST(PlanSummaryTest, CommElementsOfAllStagesAreTheFormulas) {
  const int n = 4;
  const int64_t p = 1024;  // elements of a bucket
  const CollectiveSpec gather = Data(CollectiveOp::kAllGather, p / n);
  const CollectiveSpec scatter = Data(CollectiveOp::kReduceScatter, p / n);
  const CollectiveSpec reduce = Data(CollectiveOp::kAllReduce, p);
  auto elements = [&](const std::vector<CollectiveSpec>& specs) {
    return Summarise(Collectives(n, specs)).comm_elements_per_rank;
  };
  EXPECT_EQ(elements({reduce, reduce}), 2 * (2 * p) * (n - 1) / n) << "stage 0: 2P";
  EXPECT_EQ(elements({scatter, gather}), 2 * p * (n - 1) / n) << "stages 1, 2: 2P";
  EXPECT_EQ(elements({gather, gather, scatter}), 3 * p * (n - 1) / n) << "stage 3: 3P";
}

TEST(PlanSummaryTest, OneRankSendsNothing) {
  const PlanSummary s = Summarise(Collectives(1, {Data(CollectiveOp::kAllReduce, 100)}));
  EXPECT_EQ(s.comm_elements_per_rank, 0);
  EXPECT_EQ(s.collectives[0].count_per_step, 1);
}

TEST(PlanSummaryTest, CollectivesAreAddedUpByOperationAndGroup) {
  const PlanSummary s = Summarise(Collectives(
      3, {Data(CollectiveOp::kAllReduce, 1), Data(CollectiveOp::kAllGather, 10, DType::kBF16),
          Data(CollectiveOp::kAllReduce, 1), Data(CollectiveOp::kAllGather, 20, DType::kF32),
          Data(CollectiveOp::kAllReduce, 1), Data(CollectiveOp::kBarrier, 0)}));
  ASSERT_EQ(s.collectives.size(), 3u);
  EXPECT_EQ(s.collectives[0].op, CollectiveOp::kAllGather);
  EXPECT_EQ(s.collectives[0].count_per_step, 2);
  EXPECT_EQ(s.collectives[0].elements_per_step, 60);
  EXPECT_EQ(s.collectives[0].bytes_per_step, 2 * (10 * 2 + 20 * 4));
  // Three times 2 * 1 * 2/3: rounding each would give 3.
  EXPECT_EQ(s.collectives[1].elements_per_step, 4);
  EXPECT_EQ(s.collectives[2].elements_per_step, 0);
  EXPECT_EQ(s.comm_elements_per_rank, 64);
}

TEST(PlanSummaryTest, HalvesOfAnAsynchronousCollectiveAreOne) {
  const PlanSummary s = Summarise(Small());
  ASSERT_EQ(s.collectives.size(), 3u);
  EXPECT_EQ(s.collectives[0].op, CollectiveOp::kAllGather);
  EXPECT_EQ(s.collectives[0].count_per_step, 1);
  EXPECT_EQ(s.collectives[0].bytes_per_step, 32 * 4);
  EXPECT_EQ(s.comm_elements_per_rank, 32 + 32 + 1);
}

TEST(PlanSummaryTest, CountsOfTheSmallPlan) {
  const PlanSummary s = Summarise(Small());
  EXPECT_EQ(s.nodes, 8);
  EXPECT_EQ(s.lanes, 2);
  EXPECT_EQ(s.parameters, 60) << "without the bucket's padding";
  EXPECT_EQ(s.flops_per_step, 2 * 3000) << "of both ranks";
  EXPECT_EQ(s.batch.micro, 4);
  EXPECT_EQ(s.batch.accumulation, 1);
  EXPECT_EQ(s.batch.global, 8);
  EXPECT_EQ(s.persistent_bytes[static_cast<int>(BufferKind::kParameter)], 128);
  EXPECT_EQ(s.persistent_bytes[static_cast<int>(BufferKind::kOptimizerState)], 128);
  EXPECT_DOUBLE_EQ(s.planned_step_seconds, 0.008);
}

TEST(PlanSummaryTest, MemoryIsThatOfTheWorstRankInEachTier) {
  Plan plan = Small();
  plan.rank_plans[0].ranks = {1};
  RankPlan other = plan.rank_plans[0];
  other.ranks = {0};
  other.arena_bytes = {64, 0, 8192, 0};
  other.at_peak = {{Tier::kDevice, "little", 64}, {Tier::kHost, "states", 8192}};
  plan.rank_plans.push_back(other);
  const PlanSummary s = Summarise(plan);
  EXPECT_EQ(s.peak_bytes[0], plan.rank_plans[0].arena_bytes[0]);
  EXPECT_EQ(s.peak_bytes[2], 8192);
  ASSERT_EQ(s.per_rank.size(), 2u);
  EXPECT_EQ(s.per_rank[0].rank, 0);
  EXPECT_EQ(s.per_rank[0].peak_bytes[0], 64);
  ASSERT_EQ(s.at_peak.size(), 2u) << "the host's of rank 0, the device's of rank 1";
  EXPECT_EQ(s.at_peak[0].what, "states");
  EXPECT_EQ(s.at_peak[1].what, "saved/a/0");
}

TEST(PlanSummaryTest, ParametersOfAHandWrittenGraphAreThoseInItsBuffers) {
  GraphBuilder b("step");
  b.SetGroup("data", 4);
  auto add = [&](const char* name, int64_t n, Sharding sharding) {
    Value v;
    v.name = name;
    v.shape = {n};
    v.sharding = sharding;
    if (sharding == Sharding::kSharded) v.group = "data";
    return b.AddValueWithBuffer(v, BufferKind::kParameter, true);
  };
  const ValueId whole = add("whole", 100, Sharding::kReplicated);
  add("shards", 10, Sharding::kSharded);
  Value mine;  // this rank's quarter of `whole`
  mine.name = "mine";
  mine.shape = {25};
  mine.buffer = b.value(whole).buffer;
  mine.own_shard = true;
  mine.sharding = Sharding::kSharded;
  mine.group = "data";
  b.AddValue(mine);
  Value updated = b.value(whole);
  updated.name = "whole'";
  Node sgd;
  sgd.name = sgd.op = "sgd";
  sgd.inputs = {whole};
  sgd.outputs = {b.AddValue(updated)};
  b.AddNode(sgd);
  Plan plan;
  auto graph = std::move(b).Build();
  ASSERT_TRUE(graph.ok()) << graph.status();
  plan.graph = *std::move(graph);
  EXPECT_EQ(Summarise(plan).parameters, 100 + 4 * 10);
}

TEST(PlanSummaryTest, JsonHasEveryFieldByItsName) {
  const nlohmann::ordered_json json = ToJson(Summarise(Small()));
  for (const char* name : {"plan_hash", "world_size", "nodes", "lanes", "peak_bytes", "per_rank",
                           "live_bytes_bound", "at_peak", "collectives", "comm_elements_per_rank",
                           "parameters", "flops_per_step", "batch", "seconds_to_plan"}) {
    EXPECT_TRUE(json.contains(name)) << name;
  }
  EXPECT_EQ(json["plan_hash"], "0123");
  for (const char* tier : {"device", "pinned", "host", "storage"}) {
    EXPECT_TRUE(json["peak_bytes"][tier].is_number_integer()) << tier;
    EXPECT_TRUE(json["live_bytes_bound"][tier].is_number_integer()) << tier;
    EXPECT_TRUE(json["per_rank"][1]["peak_bytes"][tier].is_number_integer()) << tier;
  }
  EXPECT_EQ(json["per_rank"][1]["rank"], 1);
  EXPECT_EQ(json["at_peak"][0].dump(), R"({"tier":"host","what":"batches","bytes":4096})");
  EXPECT_EQ(json["collectives"][0]["op"], "all_gather");
  EXPECT_EQ(json["collectives"][0]["group"], "data");
  EXPECT_EQ(json["collectives"][0]["count_per_step"], 1);
  EXPECT_EQ(json["collectives"][0]["bytes_per_step"], 128);
  EXPECT_EQ(json["batch"].dump(), R"({"micro":4,"accumulation":1,"global":8})");
  EXPECT_EQ(json["seconds_to_plan"], 0.25);
}

TEST(PlanSummaryTest, JsonOfAnEmptyPlanHasEmptyLists) {
  const nlohmann::ordered_json json = ToJson(Summarise(Plan()));
  for (const char* list : {"per_rank", "at_peak", "collectives"}) {
    EXPECT_EQ(json[list].dump(), "[]") << list;
  }
}

TEST(PlanSummaryTest, TheTextOfTheSmallPlan) {
  EXPECT_EQ("\n" + ToText(Summarise(Small())), R"(
plan small for desk: 2 ranks, 8 nodes, 2 lanes (compute, comm:data)
  hash        0123, planned in 250 ms
  batch       8 = 4 a micro-batch, 1 accumulated, 2 in parallel
  parameters  60, 6.00 kFLOP a step on all ranks, 8 ms a step as planned
  memory             peak        bound     peak/bound       budget
    device       1.50 KiB     1.44 KiB         1.0435     8.00 KiB
    host         4.00 KiB     4.00 KiB         1.0000            -
  persistent  parameter 128 B, optimizer_state 128 B
  at the peak
      4.00 KiB  host     batches
         400 B  device   saved/a/0
  a rank sends     group         times       elements        bytes
    all_gather     data (2)          1             32        128 B
    reduce_scatter data (2)          1             32        128 B
    all_reduce     data (2)          1              1          4 B
    together                                       65  = 1.08 x parameters
)");
}

TEST(PlanSummaryTest, TheTextStaysShortAndSaysWhatItLeavesOut) {
  PlanSummary s = Summarise(Small());
  s.peak_bytes = {int64_t{3} << 30, 1000, 1 << 20, 5};
  s.at_peak.assign(1000, {Tier::kDevice, "x", 1024});
  s.collectives.assign(40, s.collectives[0]);
  const std::string text = ToText(s);
  EXPECT_LE(std::count(text.begin(), text.end(), '\n'), 25) << text;
  EXPECT_THAT(text, HasSubstr("3.00 GiB"));
  EXPECT_THAT(text, HasSubstr("EXCEEDED"));
  EXPECT_THAT(text, HasSubstr(" 994 KiB  in 994 more\n"));
  EXPECT_THAT(text, HasSubstr("and 36 more kinds\n"));
}

}  // namespace
}  // namespace millrace
