// The simulator on plans of the real planner: all finish, and what is reported of them adds up.
#include <algorithm>

#include "graph/sim/simulate.h"
#include "graph/verify/testing/valid_plans.h"
#include "gtest/gtest.h"

namespace millrace {
namespace {

TEST(SimulatePlansTest, EveryValidPlanFinishesAndItsTimesAddUp) {
  for (const Planner planner : {Planner::kPlain, Planner::kReal}) {
    for (const NamedPlan& named : ValidPlans(planner)) {
      const auto result = Simulate(named.plan, Machine());
      ASSERT_TRUE(result.ok()) << named.name << ": " << result.status();
      const double step = result->step_seconds;
      EXPECT_GT(step, 0) << named.name;
      EXPECT_LE(result->lower_bound_seconds, step * (1 + 1e-12)) << named.name;
      double path = 0;
      for (const CriticalNode& n : result->critical_path) path += n.seconds;
      EXPECT_NEAR(path, step, 1e-9 * step) << named.name;
      for (const LaneUse& l : result->lanes) {
        const double sum = l.busy + l.wait_data + l.wait_lane + l.wait_credit + l.after_last;
        EXPECT_NEAR(sum, step, 1e-9 * step) << named.name << ", lane " << l.lane;
      }
      EXPECT_EQ(result->spans.size(), named.plan.graph.nodes().size() * named.plan.world_size);
      SimOptions expand;
      expand.expand = true;
      EXPECT_EQ(Simulate(named.plan, Machine(), expand)->step_seconds, step) << named.name;
    }
  }
}

TEST(SimulatePlansTest, PlannersOwnTimesAgreeWithTheSimulator) {
  for (const NamedPlan& named : ValidPlans(Planner::kReal)) {
    const RankPlan& rp = named.plan.rank_plans[0];
    double last = 0;
    for (size_t n = 0; n < rp.start_time.size() && n < rp.seconds.size(); ++n) {
      last = std::max(last, rp.start_time[n] + rp.seconds[n]);
    }
    EXPECT_NEAR(Simulate(named.plan, Machine())->step_seconds, last, 1e-9 * last) << named.name;
  }
}

}  // namespace
}  // namespace millrace
