// What share of broken plans the verifier finds, by kind of damage; none may slip through, and each finding
// names a node or a rank.
#include "graph/verify/mutation.h"

#include <cstdio>
#include <map>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "graph/verify/testing/valid_plans.h"
#include "graph/verify/verify.h"
#include "gtest/gtest.h"

namespace millrace {
namespace {

struct Tally {
  int made = 0, found = 0;
  std::map<std::string, int> by_check;  // which checks spoke
};

bool NamesNodeOrRank(const VerifyResult& result) {
  for (const Finding& f : result.findings.list()) {
    if (!f.node.empty() || f.rank >= 0) return true;
  }
  return false;
}

TEST(MutationTest, EveryDamageToEveryValidPlanIsFound) {
  std::map<Damage, Tally> tallies;
  uint64_t seed = 1;
  int plans = 0;
  for (const Planner planner : {Planner::kPlain, Planner::kReal}) {
    for (const NamedPlan& named : ValidPlans(planner)) {
      ++plans;
      for (Damage kind : AllDamage()) {
        const std::optional<Mutant> mutant = Mutate(named.plan, kind, seed++);
        if (!mutant.has_value()) continue;
        const VerifyResult result = Verify(mutant->plan);
        Tally& tally = tallies[kind];
        ++tally.made;
        tally.found += result.ok ? 0 : 1;
        for (const CheckResult& check : result.checks) {
          const bool made = check.facts.rfind("not checked", 0) != 0;
          if (!check.ok && made) ++tally.by_check[check.name];
        }
        EXPECT_FALSE(result.ok) << named.name << ": " << Name(kind) << ": " << mutant->what;
        if (kind == Damage::kWrongHash) continue;
        EXPECT_TRUE(NamesNodeOrRank(result)) << Name(kind) << ": " << mutant->what << "\n"
                                             << result.findings.ToText();
      }
    }
  }
  int made = 0, found = 0;
  for (Damage kind : AllDamage()) {
    const Tally& tally = tallies[kind];
    std::string checks;
    for (const auto& [name, count] : tally.by_check) {
      absl::StrAppend(&checks, checks.empty() ? "" : ", ", name, " ", count);
    }
    std::printf("%-34s %4d of %4d found (%s)\n", std::string(Name(kind)).c_str(), tally.found,
                tally.made, checks.c_str());
    EXPECT_GT(tally.made, 0) << Name(kind);
    made += tally.made;
    found += tally.found;
  }
  std::printf("%d kinds, %d of %d mutants of %d valid plans found\n",
              static_cast<int>(AllDamage().size()), found, made, plans);
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
