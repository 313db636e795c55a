// Every field of a plan, changed alone: does the hash see it exactly when the run would?
#include "graph/plan/hash.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "graph/plan/testing/small_plan.h"

namespace millrace {
namespace {

struct GraphEdit {
  const char* what;
  std::function<void(GraphBuilder&)> edit;
};
struct BucketEdit {
  const char* what;
  std::function<void(Bucket&)> edit;
};
struct PlanEdit {
  const char* what;
  std::function<void(Plan&, RankPlan&)> edit;
};

// Applies one function to both halves of the all_gather.
template <typename F>
void Halves(GraphBuilder& b, F f) {
  f(b.node(1).collective);
  f(b.node(2).collective);
}

// Values: 0 images, 1 param, 2 momentum, 3 gathered, 4 loss, ...; nodes as in small_plan.h.
const std::vector<GraphEdit>& RelevantInGraph() {
  using G = GraphBuilder;
  static const auto* edits = new std::vector<GraphEdit>{
      {"node name", [](G& b) { b.node(0).name = "load"; }},
      {"node op", [](G& b) { b.node(3).op = "evaluate"; }},
      {"fewer inputs", [](G& b) { b.node(3).inputs.pop_back(); }},
      {"other input", [](G& b) { b.node(6).inputs[1] = 6; }},
      {"order of inputs", [](G& b) { std::swap(b.node(3).inputs[0], b.node(3).inputs[1]); }},
      {"input becomes output", [](G& b) { b.node(0).inputs = {1}; }},
      {"order of outputs", [](G& b) { std::swap(b.node(3).outputs[0], b.node(3).outputs[1]); }},
      {"control", [](G& b) { b.node(7).control = {0}; }},
      {"attribute's value", [](G& b) { b.node(0).attrs["micro_batch"] = int64_t{1}; }},
      {"attribute's type", [](G& b) { b.node(0).attrs["micro_batch"] = 0.0; }},
      {"a false attribute", [](G& b) { b.node(0).attrs["micro_batch"] = false; }},
      {"attribute's name",
       [](G& b) {
         b.node(0).attrs = {{"m", int64_t{0}}};
       }},
      {"new attribute", [](G& b) { b.node(4).attrs["scale"] = 0.5; }},
      {"another new attribute", [](G& b) { b.node(4).attrs["scale"] = std::string("0.5"); }},
      {"no longer asynchronous",
       [](G& b) {
         for (NodeId id : {1, 2}) b.node(id).async = AsyncRole::kNone;
         for (NodeId id : {1, 2}) b.node(id).partner = -1;
       }},
      {"no longer a collective", [](G& b) { b.node(7).is_collective = false; }},
      {"collective", [](G& b) { Halves(b, [](auto& c) { c.op = CollectiveOp::kAllToAll; }); }},
      {"collective's group", [](G& b) { Halves(b, [](auto& c) { c.group = "tensor"; }); }},
      {"collective's dtype", [](G& b) { Halves(b, [](auto& c) { c.dtype = DType::kBF16; }); }},
      {"collective's count", [](G& b) { Halves(b, [](auto& c) { c.count = 31; }); }},
      {"value name", [](G& b) { b.value(0).name = "pixels"; }},
      {"value dtype", [](G& b) { b.value(0).dtype = DType::kBF16; }},
      {"value shape",
       [](G& b) {
         b.value(0).shape = {3, 4};
       }},
      {"value rank",
       [](G& b) {
         b.value(0).shape = {4, 3, 1};
       }},
      {"value sharding", [](G& b) { b.value(1).sharding = Sharding::kPartial; }},
      {"value buffer", [](G& b) { b.value(6).buffer = b.value(3).buffer; }},
      {"value offset", [](G& b) { b.value(3).shape = {60}, b.value(3).offset = 16; }},
      {"value offset alone", [](G& b) { b.buffer(3).bytes = 512, b.value(3).offset = 16; }},
      {"value own_shard", [](G& b) { b.buffer(1).bytes = 256, b.value(1).own_shard = true; }},
      {"value group", [](G& b) { b.value(1).group = "tensor"; }},
      {"value bucket", [](G& b) { b.value(1).bucket = 0; }},
      {"buffer name", [](G& b) { b.buffer(0).name = "pixels"; }},
      {"buffer bytes", [](G& b) { b.buffer(0).bytes += 1; }},
      {"buffer tier", [](G& b) { b.buffer(0).tier = Tier::kPinned; }},
      {"buffer kind", [](G& b) { b.buffer(0).kind = BufferKind::kActivation; }},
      {"buffer persistent", [](G& b) { b.buffer(0).persistent = true; }},
      {"size of a group", [](G& b) { b.SetGroup("data", 4); }},
      {"another group", [](G& b) { b.SetGroup("tensor", 1); }},
      {"another buffer", [](G& b) { b.buffer(b.AddBuffer({})).name = "more"; }},
      {"another bucket", [](G& b) { b.AddBucket({}); }},
  };
  return *edits;
}

const std::vector<BucketEdit>& RelevantInBucket() {
  static const auto* edits = new std::vector<BucketEdit>{
      {"name", [](Bucket& b) { b.name = "bucket_1"; }},
      {"numel", [](Bucket& b) { b.numel = 96; }},
      {"stage of a slot", [](Bucket& b) { b.slots[0].stage = 1; }},
      {"parameter of a slot", [](Bucket& b) { b.slots[0].param = 2; }},
      {"offset of a slot", [](Bucket& b) { b.slots[1].offset = 32; }},
      {"size of a slot", [](Bucket& b) { b.slots[1].numel = 13; }},
      {"fewer slots", [](Bucket& b) { b.slots.pop_back(); }},
  };
  return *edits;
}

const std::vector<PlanEdit>& RelevantInPlan() {
  using P = Plan&;
  using R = RankPlan&;
  static const auto* edits = new std::vector<PlanEdit>{
      {"name", [](P p, R) { p.name = "smal"; }},
      {"machine", [](P p, R) { p.machine = "floor"; }},
      {"world size", [](P p, R) { p.world_size = 4; }},
      {"budget", [](P p, R) { p.budget_bytes[3] = 1; }},
      {"memory of its own", [](P p, R) { p.separate_memory = true; }},
      {"budget of another tier",
       [](P p, R) {
         p.budget_bytes = {0, 8192, 0, 0};
       }},
      {"another rank plan", [](P p, R) { p.rank_plans.emplace_back(); }},
      {"ranks",
       [](P, R r) {
         r.ranks = {0, 2};
       }},
      {"fewer ranks", [](P, R r) { r.ranks = {0}; }},
      {"lane name", [](P, R r) { r.lanes[1].name = "comm:tensor"; }},
      {"lane kind", [](P, R r) { r.lanes[1].kind = LaneKind::kStorage; }},
      {"lane order", [](P, R r) { std::swap(r.lanes[0].order[0], r.lanes[0].order[1]); }},
      {"node in another lane",
       [](P, R r) {
         r.lanes[0].order.pop_back();
         r.lanes[1].order.insert(r.lanes[1].order.begin(), 7);
       }},
      {"edge's from", [](P, R r) { r.edges[0].from = 1; }},
      {"edge's to", [](P, R r) { r.edges[0].to = 4; }},
      {"edge's direction", [](P, R r) { std::swap(r.edges[0].from, r.edges[0].to); }},
      {"edge's kind", [](P, R r) { r.edges[0].kind = EdgeKind::kHazard; }},
      {"fewer edges", [](P, R r) { r.edges.pop_back(); }},
      {"offset", [](P, R r) { r.offset[2] += 64; }},
      {"fewer offsets", [](P, R r) { r.offset.pop_back(); }},
      {"arena", [](P, R r) { r.arena_bytes[0] += 64; }},
      {"persistent bytes", [](P, R r) { r.persistent_bytes[0] += 64; }},
      {"credit's name", [](P, R r) { r.credits[0].name = "staging"; }},
      {"credit's limit", [](P, R r) { r.credits[0].limit = 2; }},
      {"credit's unit", [](P, R r) { r.credits[0].unit = "bytes"; }},
      {"credit's taker", [](P, R r) { r.credits[0].holders[0].take = 0; }},
      {"credit's giver", [](P, R r) { r.credits[0].holders[0].give = 3; }},
      {"credit's amount", [](P, R r) { r.credits[0].holders[0].amount = 2; }},
      {"no credit", [](P, R r) { r.credits.clear(); }},
  };
  return *edits;
}

TEST(PlanHashTest, EqualPlansHaveEqualHashesOf128Bits) {
  const auto a = SmallPlan(), b = SmallPlan();
  ASSERT_TRUE(a.ok() && b.ok()) << a.status();
  EXPECT_EQ(PlanHash(*a), PlanHash(*b));
  EXPECT_THAT(PlanHash(*a), testing::MatchesRegex("[0-9a-f]{32}"));
}

TEST(PlanHashTest, AnyChangeOfWhatTheRunDependsOnGivesANewHash) {
  const auto plan = SmallPlan();
  ASSERT_TRUE(plan.ok()) << plan.status();
  std::set<std::string> seen = {PlanHash(*plan)};
  for (const GraphEdit& edit : RelevantInGraph()) {
    auto changed = SmallPlan(edit.edit);
    ASSERT_TRUE(changed.ok()) << edit.what << ": " << changed.status();
    // Offsets follow the buffers; only what was edited may differ.
    changed->rank_plans = plan->rank_plans;
    EXPECT_TRUE(seen.insert(PlanHash(*changed)).second) << edit.what;
  }
  for (const BucketEdit& edit : RelevantInBucket()) {
    Bucket bucket = SmallBucket();
    edit.edit(bucket);
    const auto changed = SmallPlan({}, bucket);
    ASSERT_TRUE(changed.ok()) << edit.what << ": " << changed.status();
    EXPECT_TRUE(seen.insert(PlanHash(*changed)).second) << "bucket's " << edit.what;
  }
  for (const PlanEdit& edit : RelevantInPlan()) {
    Plan changed = *plan;
    edit.edit(changed, changed.rank_plans[0]);
    EXPECT_TRUE(seen.insert(PlanHash(changed)).second) << edit.what;
  }
}

TEST(PlanHashTest, WhatOnlyDescribesTheRunLeavesTheHashAlone) {
  const auto plan = SmallPlan();
  ASSERT_TRUE(plan.ok()) << plan.status();
  const std::string hash = PlanHash(*plan);
  const std::vector<PlanEdit> edits = {
      {"hash", [](Plan& p, RankPlan&) { p.hash = "x"; }},
      {"seconds to plan", [](Plan& p, RankPlan&) { p.seconds_to_plan = 9; }},
      {"seconds", [](Plan&, RankPlan& r) { r.seconds[3] = 9; }},
      {"start time", [](Plan&, RankPlan& r) { r.start_time[3] = 9; }},
      {"reason", [](Plan&, RankPlan& r) { r.reason[3] = "another"; }},
      {"at peak", [](Plan&, RankPlan& r) { r.at_peak.clear(); }},
      {"bound", [](Plan&, RankPlan& r) { r.live_bytes_bound[0] = 1; }},
  };
  for (const PlanEdit& edit : edits) {
    Plan changed = *plan;
    edit.edit(changed, changed.rank_plans[0]);
    EXPECT_EQ(PlanHash(changed), hash) << edit.what;
  }
  const auto changed = SmallPlan([](GraphBuilder& b) {
    b.node(3).flops = 7;
    b.node(3).memory_bytes = 7;
    b.node(3).source = {"step.textproto", 3, 1};
    b.value(3).source = {"step.textproto", 4, 1};
  });
  ASSERT_TRUE(changed.ok()) << changed.status();
  EXPECT_EQ(PlanHash(*changed), hash) << "predictions and places in the text";
}

TEST(PlanHashTest, TextMovedFromOneNameToTheNextShows) {
  const auto a = SmallPlan(), b = SmallPlan();
  ASSERT_TRUE(a.ok() && b.ok());
  Plan left = *a, right = *b;
  left.name = "ab", left.machine = "c";
  right.name = "a", right.machine = "bc";
  EXPECT_NE(PlanHash(left), PlanHash(right));
  left.machine = std::string("c\0", 2);
  right = left;
  right.machine = "c";
  EXPECT_NE(PlanHash(left), PlanHash(right));
}

// Machines of any byte order must agree. The value was computed apart from hash.cc, from its
// description; a new one here means that the stream changed and its number in PlanHash must too.
TEST(PlanHashTest, TheHashOfAnEmptyPlanIsThatOfAllReleases) {
  EXPECT_EQ(PlanHash(Plan()), "0bb93cb2c65df84eafc5cdba5eafd82d");
}

}  // namespace
}  // namespace millrace
