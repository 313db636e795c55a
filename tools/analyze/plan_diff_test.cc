// Two plans side by side: changes are named, grouped, and none is invented.
#include "tools/analyze/plan_diff.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "graph/plan/text.h"
#include "graph/verify/testing/valid_plans.h"

namespace millrace {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

PlanFacts Lanes(std::vector<std::string> compute, std::vector<std::string> comm = {}) {
  PlanFacts f;
  f.has_nodes = true;
  f.lanes = {{"compute", std::move(compute)}, {"comm", std::move(comm)}};
  return f;
}

std::vector<std::string> NodeLines(const PlanFacts& a, const PlanFacts& b) {
  std::vector<std::string> lines;
  for (const PlanDiff::NodeGroup& g : Diff(a, b).nodes) {
    lines.push_back(
        absl::StrCat(std::string(1, "-+>~"[static_cast<int>(g.kind)]), g.count, " ", g.pattern));
  }
  return lines;
}

TEST(PlanDiffTest, NodesAreGroupedByWhatHappenedAndByName) {
  EXPECT_THAT(NodeLines(Lanes({"f/0", "f/1", "gather/10", "gather/11", "x"}),
                        Lanes({"f/0", "f/1", "new/1/2", "new/3/4"}, {"gather/10", "gather/11"})),
              ElementsAre("-1 x", "+2 new/*/*", ">2 gather/*"));
}

TEST(PlanDiffTest, TheFewestNodesThatExplainANewOrderHaveMoved) {
  EXPECT_THAT(NodeLines(Lanes({"a", "b", "c", "d", "e"}), Lanes({"b", "c", "d", "a", "e"})),
              ElementsAre("~1 a"));
  EXPECT_THAT(NodeLines(Lanes({"a", "b", "c"}), Lanes({"a", "new", "b", "c"})),
              ElementsAre("+1 new"));
}

TEST(PlanDiffTest, AnEdgeMoreIsADifferenceAndEdgesOfNewNodesAreNot) {
  PlanFacts a = Lanes({"f/0", "g/1"});
  PlanFacts b = Lanes({"f/0", "g/1", "new"});
  b.edges = {{"control", "f/0", "g/1"}, {"data", "f/0", "new"}};
  const PlanDiff d = Diff(a, b);
  ASSERT_EQ(d.edges.size(), 1u);
  EXPECT_EQ(d.edges[0].from, "f/*");
  EXPECT_FALSE(d.edges[0].in_a);
  b.lanes = a.lanes;
  EXPECT_FALSE(Diff(a, b).same());
  EXPECT_THAT(ToText(Diff(a, b)), HasSubstr("+    1  control  f/* -> g/*"));
}

TEST(PlanDiffTest, ASummaryAndThePlanItWasMadeOfAreTheSame) {
  for (const NamedPlan& named : ValidPlans(Planner::kReal)) {
    const auto simulated = Simulate(named.plan, Machine());
    ASSERT_TRUE(simulated.ok());
    const PlanFacts plan = FactsOf(named.plan, *simulated, "");
    EXPECT_TRUE(Diff(plan, plan).same()) << named.name;
    auto exported = nlohmann::ordered_json::parse(*PlanJson(named.plan));
    exported["summary"] = FactsJson(named.plan, *simulated);
    const auto read = ReadFacts(exported.dump(), "plan.json");
    ASSERT_TRUE(read.ok()) << read.status();
    const PlanDiff whole = Diff(plan, *read);
    EXPECT_TRUE(whole.same() && whole.nodes_compared) << named.name << ToText(whole);
    const auto summary = ReadFacts(FactsJson(named.plan, *simulated).dump(), "summary.txt");
    ASSERT_TRUE(summary.ok()) << summary.status();
    EXPECT_TRUE(Diff(*summary, plan).same()) << named.name << ToText(Diff(*summary, plan));
    EXPECT_THAT(ToText(Diff(*summary, plan)), HasSubstr("as far as the summaries tell"));
  }
}

TEST(PlanDiffTest, EveryPairOfDifferentPlansDiffers) {
  const std::vector<NamedPlan> plans = ValidPlans(Planner::kReal);
  std::vector<PlanFacts> facts;
  for (const NamedPlan& p : plans)
    facts.push_back(FactsOf(p.plan, *Simulate(p.plan, Machine()), ""));
  for (size_t i = 0; i < facts.size(); ++i) {
    for (size_t k = 0; k < i; ++k) {
      if (plans[i].plan.hash == plans[k].plan.hash) continue;
      EXPECT_FALSE(Diff(facts[i], facts[k]).same()) << plans[i].name << "\n" << plans[k].name;
    }
  }
}

TEST(PlanDiffTest, SettingsAreComparedByValueNotByOrigin) {
  const PlanFacts a = FactsOf(ValidPlans(Planner::kReal)[0].plan, SimResult(),
                              "x.y: 1  # default\nz: \"a\"  # file\n");
  const PlanFacts b = FactsOf(ValidPlans(Planner::kReal)[0].plan, SimResult(),
                              "x.y: 2  # --set\nz: \"a\"  # default\n");
  const PlanDiff d = Diff(a, b);
  ASSERT_EQ(d.config.size(), 1u);
  EXPECT_EQ(d.config[0].what, "x.y");
  EXPECT_EQ(*d.config[0].b, "2");
}

TEST(PlanDiffTest, OtherFilesAreRefused) {
  EXPECT_THAT(std::string(ReadFacts("{\"a\": 1}", "f.json").status().message()),
              HasSubstr("neither a plan nor a summary"));
  EXPECT_THAT(std::string(ReadFacts("{\"rank_plan\": [", "f.json").status().message()),
              HasSubstr("f.json: "));
  EXPECT_FALSE(ReadFacts(R"({"rank_plan": [7]})", "f.json").ok());
}

}  // namespace
}  // namespace millrace
