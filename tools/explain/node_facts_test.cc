#include "tools/explain/node_facts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "graph/lower/lower.h"
#include "graph/lower/testing/fake_model.h"
#include "graph/plan/planner.h"

namespace millrace {
namespace {

using ::testing::HasSubstr;

class NodeFactsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    LowerOptions options{.world_size = 2, .zero_stage = 3, .reduce_bucket_bytes = 148};
    auto graph = Lower(MakeFakeModel(), options);
    ASSERT_TRUE(graph.ok()) << graph.status();
    auto plan = MakePlan(*std::move(graph), machine_);
    ASSERT_TRUE(plan.ok()) << plan.status();
    plan_ = *std::move(plan);
    auto sim = Simulate(plan_, machine_);
    ASSERT_TRUE(sim.ok()) << sim.status();
    sim_ = *std::move(sim);
  }

  NodeFacts Facts(const std::string& name) {
    const auto facts = FactsOf(plan_, machine_, sim_, plan_.graph.FindNode(name));
    EXPECT_TRUE(facts.ok()) << name << ": " << facts.status();
    return facts.ok() ? *facts : NodeFacts();
  }

  Machine machine_;
  Plan plan_;
  SimResult sim_;
};

TEST_F(NodeFactsTest, TheLastPredecessorEndsWhenOrBeforeTheNodeBegins) {
  for (const Node& node : plan_.graph.nodes()) {
    const NodeFacts f = Facts(node.name);
    for (const NodeFacts::Wait& w : f.waits) EXPECT_LE(w.ended, f.begin + 2e-9) << node.name;
    if (!f.waits.empty()) {
      EXPECT_TRUE(f.waits[0].last);
    }
  }
}

TEST_F(NodeFactsTest, SlackIsWhatTheSimulatorAllows) {
  // A node that takes its slack longer leaves the step as it is; a little more lengthens it.
  int with_slack = 0;
  for (size_t n = 0; n < plan_.graph.nodes().size(); ++n) {
    const Node& node = plan_.graph.nodes()[n];
    if (node.is_collective) continue;  // its duration is shared by the ranks
    const NodeFacts f = Facts(node.name);
    with_slack += f.slack > 1e-8 ? 1 : 0;
    for (const double more : {f.slack - 5e-9, f.slack + 5e-6}) {
      SimOptions options;
      options.seconds.assign(n + 1, -1);
      options.seconds[n] = plan_.rank_plans[0].seconds[n] + std::max(0.0, more);
      const auto sim = Simulate(plan_, machine_, options);
      ASSERT_TRUE(sim.ok());
      const bool longer = sim->step_seconds > sim_.step_seconds + 1e-9;
      EXPECT_EQ(longer, more > f.slack) << node.name << ", slack " << f.slack;
    }
  }
  EXPECT_GT(with_slack, 0);
}

TEST_F(NodeFactsTest, CostIsTheLargerTermOfTheRoofline) {
  const NodeFacts f = Facts("backward/b/0");
  EXPECT_EQ(f.flops, 2000000);
  EXPECT_DOUBLE_EQ(f.compute_seconds, 2e6 / (5e10 * 0.8));
  EXPECT_DOUBLE_EQ(f.memory_seconds, 20000 / 1e10);
  EXPECT_EQ(f.bound, "compute");
  EXPECT_NEAR(f.end - f.begin, f.compute_seconds + f.overhead_seconds, 2e-9);
  EXPECT_DOUBLE_EQ(f.model_seconds, f.planned_seconds);
  EXPECT_EQ(f.contention_seconds, 0);
}

TEST_F(NodeFactsTest, CollectiveHasLatencyAndWire) {
  const NodeFacts f = Facts("all_gather/bucket_1/forward/0.done");
  EXPECT_TRUE(f.collective);
  EXPECT_EQ(f.partner, "all_gather/bucket_1/forward/0.start");
  EXPECT_EQ(f.group_size, 2);
  EXPECT_EQ(f.wire_bytes, 32 * 4);
  EXPECT_NEAR(f.end - f.begin, f.latency_seconds + f.wire_seconds, 2e-9);
}

TEST_F(NodeFactsTest, BuffersHavePlaceAndLifetime) {
  const NodeFacts f = Facts("backward/b/0");
  const auto saved = std::find_if(f.touched.begin(), f.touched.end(),
                                  [](const auto& t) { return t.value == "saved/b/0"; });
  ASSERT_NE(saved, f.touched.end());
  EXPECT_FALSE(saved->writes);
  EXPECT_EQ(saved->bytes, 1024);
  EXPECT_EQ(saved->first, "forward/b/0");
  EXPECT_EQ(saved->last, "backward/b/0");
  EXPECT_GE(saved->offset, plan_.rank_plans[0].persistent_bytes[0]);
  EXPECT_THAT(ToText(f), HasSubstr("reads  saved/b/0: saved, device ["));
}

}  // namespace
}  // namespace millrace
