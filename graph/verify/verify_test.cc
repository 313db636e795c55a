#include "graph/verify/verify.h"

#include "gmock/gmock.h"
#include "graph/verify/testing/valid_plans.h"
#include "gtest/gtest.h"

namespace millrace {
namespace {

TEST(VerifyTest, EveryValidPlanPasses) {
  for (const Planner planner : {Planner::kPlain, Planner::kReal}) {
    for (const NamedPlan& named : ValidPlans(planner)) {
      const VerifyResult result = Verify(named.plan);
      EXPECT_TRUE(result.ok) << named.name << "\n" << ToText(result, named.plan);
    }
  }
}

}  // namespace
}  // namespace millrace
