// Broken plans of every kind of step that the lowering makes, of a small model that exists on paper only; none may
// slip through. The repository's own pipelines are broken in tests/pipeline_mutation_test.cc.
#include "graph/verify/mutation.h"

#include <cstdio>

#include "graph/verify/testing/mutation_tally.h"
#include "graph/verify/testing/valid_plans.h"
#include "gtest/gtest.h"

namespace millrace {
namespace {

TEST(MutationTest, EveryDamageToEveryValidPlanIsFound) {
  MutationTally tally;
  uint64_t seed = 1;
  for (const Planner planner : {Planner::kPlain, Planner::kReal}) {
    for (const NamedPlan& named : ValidPlans(planner)) tally.Break(named.plan, named.name, seed++);
  }
  std::printf("%s", tally.Table().c_str());
  EXPECT_EQ(tally.NeverMade(), "");
  EXPECT_EQ(tally.found(), tally.made());
  EXPECT_GT(tally.harmless(), 50);
}

TEST(MutationTest, SameSeedGivesTheSameMutant) {
  LowerOptions options;
  options.world_size = 2;
  options.zero_stage = 3;
  const Plan plan = MakeValidPlan(options, Planner::kReal).plan;
  for (Damage kind : AllDamage()) {
    const auto one = Mutate(plan, kind, 7), two = Mutate(plan, kind, 7);
    ASSERT_EQ(one.has_value(), two.has_value());
    if (!one.has_value()) continue;
    EXPECT_EQ(one->what, two->what);
    EXPECT_EQ(one->plan.hash, two->plan.hash);
  }
}

}  // namespace
}  // namespace millrace
