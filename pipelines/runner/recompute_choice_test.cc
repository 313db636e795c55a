#include "pipelines/runner/recompute_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "graph/lower/lower.h"
#include "graph/lower/testing/fake_model.h"

namespace millrace {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Six stages that save 100,000 bytes each; all else is small.
ModelSpec Spec() { return MakeFakeModel({.stages = 6, .saved_bytes = 102400}); }

Machine WithMemory(int64_t bytes) {
  Machine machine;
  machine.mutable_device()->set_memory_bytes(bytes);
  return machine;
}

RecomputeChoice Choose(const ModelSpec& spec, int64_t budget, const CostTable* costs = nullptr) {
  const auto choice = ChooseRecompute(spec, {}, WithMemory(budget), {.costs = costs});
  EXPECT_TRUE(choice.ok()) << choice.status();
  return choice.ok() ? *choice : RecomputeChoice();
}

TEST(RecomputeChoice, NoneWhenAllFits) {
  const RecomputeChoice c = Choose(Spec(), 1000000);
  EXPECT_THAT(c.stages, IsEmpty());
  EXPECT_EQ(c.peak_bytes, c.plain_peak_bytes);
  EXPECT_EQ(c.candidates, 5);
  EXPECT_THAT(ToText(c), HasSubstr("none"));
}

TEST(RecomputeChoice, TakesTheFewestAndOfEqualStagesTheEarliest) {
  const int64_t plain = Choose(Spec(), 1 << 30).peak_bytes;
  EXPECT_THAT(Choose(Spec(), plain).stages, IsEmpty());
  EXPECT_THAT(Choose(Spec(), plain - 1).stages, ElementsAre("a"));
  EXPECT_THAT(Choose(Spec(), plain - 102400).stages, ElementsAre("a"));
  const RecomputeChoice two = Choose(Spec(), plain - 102401);
  EXPECT_THAT(two.stages, ElementsAre("a", "b"));
  EXPECT_LE(two.peak_bytes, plain - 102401);
  EXPECT_EQ(two.saved_bytes, 2 * 102400);
}

TEST(RecomputeChoice, BytesPerSecondDecide) {
  ModelSpec spec = Spec();
  spec.stages[3].saved_bytes *= 2;      // twice the bytes, but
  spec.stages[3].forward_flops *= 100;  // far more seconds
  spec.stages[2].forward_flops /= 10;   // as many bytes in less time
  spec.stages[2].forward_bytes /= 10;
  const int64_t plain = Choose(spec, 1 << 30).peak_bytes;
  EXPECT_THAT(Choose(spec, plain - 1).stages, ElementsAre("c"));
}

TEST(RecomputeChoice, MeasuredSecondsGoBeforeTheMachinesRates) {
  ModelSpec spec = Spec();
  spec.stages[2].forward_flops += 1;  // told apart from its neighbours in a table of costs
  const int64_t plain = Choose(spec, 1 << 30).peak_bytes;
  EXPECT_THAT(Choose(spec, plain - 1).stages, ElementsAre("a"));
  const auto graph = Lower(spec, {.recompute = {.stages = {"c"}}});
  ASSERT_TRUE(graph.ok()) << graph.status();
  CostTable costs;
  const Node& node = graph->nodes()[graph->FindNode("recompute/c/0")];
  NodeCost* cost = costs.add_node();
  cost->set_op(node.op);
  cost->set_flops(node.flops);
  cost->set_memory_bytes(node.memory_bytes);
  cost->set_operators(node.operators);
  cost->set_seconds(1e-9);  // hardly any: most bytes per second
  EXPECT_THAT(Choose(spec, plain - 1, &costs).stages, ElementsAre("c"));
}

TEST(RecomputeChoice, WhatCannotFitIsSaidWithWhatIsMissing) {
  const auto choice = ChooseRecompute(Spec(), {.world_size = 2}, WithMemory(50000));
  EXPECT_EQ(choice.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(choice.status().message()), HasSubstr("even with all 5 stages"));
  EXPECT_THAT(std::string(choice.status().message()), HasSubstr("more than the budget of 50000"));
  EXPECT_THAT(std::string(choice.status().message()), HasSubstr("a higher parallel.zero.stage"));
}

TEST(RecomputeChoice, ATighterBudgetNeverRecomputesLess) {
  const ModelSpec spec = Spec();
  const int64_t plain = Choose(spec, 1 << 30).peak_bytes;
  size_t before = 0;
  for (int64_t budget = plain; budget > plain - 4 * 102400; budget -= 20000) {
    const RecomputeChoice c = Choose(spec, budget);
    EXPECT_LE(c.peak_bytes, budget);
    EXPECT_GE(c.stages.size(), before);
    before = c.stages.size();
  }
  EXPECT_EQ(before, 4u);
}

}  // namespace
}  // namespace millrace
