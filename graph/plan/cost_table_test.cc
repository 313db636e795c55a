#include "graph/plan/cost_table.h"

#include "gmock/gmock.h"
#include "graph/plan/cost_model.h"
#include "gtest/gtest.h"

namespace millrace {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

CostTable Table(const std::string& text) {
  Findings findings;
  const absl::StatusOr<CostTable> table = ParseCostTable(text, "t", findings);
  EXPECT_TRUE(table.ok()) << findings.ToText();
  return table.ok() ? *table : CostTable();
}

// 1e9 FLOP/s, no other cost.
Machine PlainMachine() {
  Machine m;
  m.mutable_device()->set_flops_per_second(1e9);
  m.mutable_device()->set_flops_efficiency(1);
  m.mutable_device()->set_seconds_per_node(0);
  return m;
}

TEST(CostTable, AMeasuredSizeCostsWhatWasMeasuredAndAnotherSizeTheFactor) {
  GraphBuilder b("step");
  b.AddNode({.name = "seen", .op = "work", .flops = 1000000});
  b.AddNode({.name = "larger", .op = "work", .flops = 2000000});
  b.AddNode({.name = "unknown", .op = "other", .flops = 2000000});
  const auto graph = std::move(b).Build();
  ASSERT_TRUE(graph.ok());
  const CostTable table = Table(R"(node { op: "work" flops: 1000000 seconds: 0.004 }
                                   op { op: "work" factor: 3 })");
  EXPECT_THAT(NodeSeconds(*graph, PlainMachine(), &table), ElementsAre(4e-3, 6e-3, 2e-3));
}

TEST(CostTable, RecomputeCostsWhatForwardDidWhereItWasNotMeasuredItself) {
  GraphBuilder b("step");
  b.AddNode({.name = "again", .op = "recompute", .flops = 1000000});
  b.AddNode({.name = "larger", .op = "recompute", .flops = 2000000});
  const auto graph = std::move(b).Build();
  ASSERT_TRUE(graph.ok());
  const CostTable forward = Table(R"(node { op: "forward" flops: 1000000 seconds: 0.004 }
                                     op { op: "forward" factor: 3 })");
  EXPECT_THAT(NodeSeconds(*graph, PlainMachine(), &forward), ElementsAre(4e-3, 6e-3));
  const CostTable both = Table(R"(node { op: "forward" flops: 1000000 seconds: 0.004 }
                                  node { op: "recompute" flops: 1000000 seconds: 0.005 }
                                  op { op: "recompute" factor: 2 })");
  EXPECT_THAT(NodeSeconds(*graph, PlainMachine(), &both), ElementsAre(5e-3, 4e-3));
}

TEST(CostTable, ACollectiveIsFoundByItsWireBytesWhetherSplitOrNot) {
  GraphBuilder b("step");
  b.SetGroup("data", 4);
  Node whole{.name = "sum", .op = "all_reduce"};
  whole.is_collective = true;
  whole.collective = {CollectiveOp::kAllReduce, "data", DType::kF32, 256};
  whole.memory_bytes = 77;
  b.AddNode(whole);
  Node start = whole, done = whole;
  start.name = "a.start";
  start.async = AsyncRole::kStart;
  start.partner = 2;
  done.name = "a.done";
  done.async = AsyncRole::kDone;
  done.partner = 1;
  done.memory_bytes = 0;
  b.AddNode(start);
  b.AddNode(done);
  const auto graph = std::move(b).Build();
  ASSERT_TRUE(graph.ok()) << graph.status();
  const CostTable table = Table(
      R"(node { op: "all_reduce" memory_bytes: 1024 ranks: 4 seconds: 0.5 } seconds_per_start: 0.25)");
  EXPECT_THAT(NodeSeconds(*graph, PlainMachine(), &table), ElementsAre(0.5, 0.25, 0.5));
}

TEST(CostTable, TextComesBackAsItWas) {
  const CostTable table =
      Table(R"(pipeline: "p" node { op: "work" flops: 7 seconds: 0.125 samples: 3 }
      contention { lane: "compute" beside: "comm" factor: 1.5 } seconds_per_step: 1e-5)");
  EXPECT_EQ(Table(ToText(table)).SerializeAsString(), table.SerializeAsString());
}

TEST(CostTable, AllMistakesAreNamedWithTheirLines) {
  Findings findings;
  EXPECT_FALSE(ParseCostTable("node { op: \"a\" seconds: 1 }\nnode { op: \"a\" seconds: 2 }\n"
                              "node { seconds: -1 }\nop { op: \"a\" factor: 0 }\nnoed { }",
                              "t", findings)
                   .ok());
  const std::string text = findings.ToText();
  EXPECT_THAT(text, HasSubstr("t:2:"));
  EXPECT_THAT(text, HasSubstr("second cost"));
  EXPECT_THAT(text, HasSubstr("node[2].op is missing"));
  EXPECT_THAT(text, HasSubstr("node[2].seconds is -1"));
  EXPECT_THAT(text, HasSubstr("op[0].factor is 0"));
  EXPECT_THAT(text, HasSubstr("noed"));
}

TEST(CostTable, TheMachineTakesWhatWasMeasuredOfIt) {
  const CostTable table =
      Table(R"(seconds_per_step: 2 contention { lane: "comm" beside: "compute" factor: 3 })");
  const Machine machine = WithMeasured(PlainMachine(), table);
  EXPECT_EQ(machine.device().seconds_per_step(), 2);
  ASSERT_EQ(machine.contention_size(), 1);
  EXPECT_EQ(machine.contention(0).factor(), 3);
  EXPECT_EQ(WithMeasured(PlainMachine(), CostTable()).SerializeAsString(),
            PlainMachine().SerializeAsString());
}

}  // namespace
}  // namespace millrace
