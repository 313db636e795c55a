#include "graph/plan/cost_model.h"

#include <gtest/gtest.h>

namespace millrace {
namespace {

Machine TwoHosts() {
  Machine m;
  m.set_ranks_per_node(4);
  Link* intra = m.add_link();
  intra->set_name("intra_node");
  intra->set_latency_seconds(1e-6);
  intra->set_bytes_per_second(1e9);
  Link* inter = m.add_link();
  inter->set_name("inter_node");
  inter->set_latency_seconds(1e-5);
  inter->set_bytes_per_second(1e8);
  m.mutable_device()->set_flops_per_second(1e9);
  m.mutable_device()->set_flops_efficiency(0.5);
  m.mutable_device()->set_memory_bytes_per_second(1e8);
  m.mutable_device()->set_seconds_per_node(1e-6);
  return m;
}

TEST(CostModel, ComputeIsTheSlowerOfArithmeticAndMemory) {
  GraphBuilder b("step");
  b.AddNode({.name = "arithmetic", .op = "work", .flops = 1000000, .memory_bytes = 1000});
  b.AddNode({.name = "memory", .op = "work", .flops = 1000, .memory_bytes = 1000000});
  const auto graph = std::move(b).Build();
  ASSERT_TRUE(graph.ok()) << graph.status();
  const std::vector<double> seconds = NodeSeconds(*graph, TwoHosts());
  EXPECT_DOUBLE_EQ(seconds[0], 1e-6 + 1e6 / 5e8);
  EXPECT_DOUBLE_EQ(seconds[1], 1e-6 + 1e6 / 1e8);
}

TEST(CostModel, AStageIsASequenceOfOperatorsSoItsCostsAddUp) {
  GraphBuilder b("step");
  b.AddNode(
      {.name = "stage", .op = "work", .flops = 1000000, .memory_bytes = 1000, .operators = 3});
  const auto graph = std::move(b).Build();
  ASSERT_TRUE(graph.ok()) << graph.status();
  Machine machine = TwoHosts();
  machine.mutable_device()->set_seconds_per_operator(1e-4);
  EXPECT_DOUBLE_EQ(NodeSeconds(*graph, machine)[0], 1e-6 + 3e-4 + 1e6 / 5e8 + 1e3 / 1e8);
}

}  // namespace
}  // namespace millrace
