// The sweep of check_race.cc against the definition, on plans with edges taken away and buffers moved at
// random: both must find the same plans racy, also where the damage does no harm.
#include "graph/verify/oracle.h"

#include <algorithm>
#include <cstdio>

#include "graph/base/random.h"
#include "graph/verify/testing/valid_plans.h"
#include "graph/verify/verify.h"
#include "gtest/gtest.h"

namespace millrace {
namespace {

bool Ok(const VerifyResult& result, const std::string& check) {
  for (const CheckResult& c : result.checks) {
    if (c.name == check) return c.ok;
  }
  return false;
}

bool FreeOfRaces(const Plan& plan) {
  for (const RankPlan& rp : plan.rank_plans) {
    const Oracle oracle(plan, rp);
    for (int rank : rp.ranks) {
      if (!oracle.Race(rank).empty()) return false;
    }
  }
  return true;
}

TEST(OracleTest, EveryValidPlanIsSound) {
  for (const Planner planner : {Planner::kPlain, Planner::kReal}) {
    for (const NamedPlan& named : ValidPlans(planner))
      EXPECT_EQ(Unsound(named.plan), "") << named.name;
  }
}

TEST(OracleTest, SweepAndDefinitionAgreeOnRandomlyDamagedPlans) {
  const CounterRng rng(1, HashString("oracle_test"));
  uint64_t i = 0;
  int racy = 0, free = 0;
  for (const Planner planner : {Planner::kPlain, Planner::kReal}) {
    for (const NamedPlan& named : ValidPlans(planner)) {
      for (int trial = 0; trial < 12; ++trial) {
        Plan plan = named.plan;
        plan.hash.clear();
        RankPlan& rp = plan.rank_plans[0];
        const bool move = trial % 2 == 0;
        for (uint64_t k = 0, n = 1 + rng.Below(i++, 4); !move && k < n; ++k) {
          const Edge gone = rp.edges[rng.Below(i++, rp.edges.size())];
          // An operation that may end before it begins has no place in any order; that is found elsewhere.
          if (gone.kind == EdgeKind::kAsync) continue;
          rp.edges.erase(
              std::remove_if(rp.edges.begin(), rp.edges.end(),
                             [&](const Edge& e) { return e.from == gone.from && e.to == gone.to; }),
              rp.edges.end());
        }
        if (move) {
          const std::vector<Buffer>& buffers = plan.graph.buffers();
          const auto a = rng.Below(i++, buffers.size()), b = rng.Below(i++, buffers.size());
          if (buffers[a].persistent || buffers[b].persistent) continue;
          if (rp.offset[b] + buffers[a].bytes > rp.arena_bytes[0]) continue;
          rp.offset[a] = rp.offset[b];
        }
        const bool expected = FreeOfRaces(plan);
        ++(expected ? free : racy);
        const VerifyResult result = Verify(plan);
        EXPECT_EQ(Ok(result, "race"), expected) << named.name << "\n" << ToText(result, plan);
      }
    }
  }
  std::printf("%d racy and %d harmless changes told apart alike\n", racy, free);
  EXPECT_GT(racy, 100);
  EXPECT_GT(free, 100);
}

}  // namespace
}  // namespace millrace
