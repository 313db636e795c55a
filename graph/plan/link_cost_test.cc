#include "graph/plan/link_cost.h"

#include "gtest/gtest.h"

namespace millrace {
namespace {

// Rate 1000 B/s, 1 s a hop.
Machine TwoLinks() {
  Machine machine;
  machine.set_ranks_per_node(4);
  Link* intra = machine.add_link();
  intra->set_name("intra_node");
  intra->set_latency_seconds(1);
  intra->set_bytes_per_second(1000);
  Link* inter = machine.add_link();
  inter->set_name("inter_node");
  inter->set_latency_seconds(2);
  inter->set_bytes_per_second(10);
  return machine;
}

CollectiveSpec Spec(CollectiveOp op, int64_t count) { return {op, "data", DType::kF32, count}; }

TEST(LinkCostTest, RingFormulas) {
  const LinkCost cost(TwoLinks());
  // 4 ranks, a tensor of 4000 bytes: 3 hops, 3/4 of it on the wire.
  EXPECT_DOUBLE_EQ(cost.Seconds(Spec(CollectiveOp::kAllGather, 250), 4), 3 + 3);
  EXPECT_DOUBLE_EQ(cost.Seconds(Spec(CollectiveOp::kReduceScatter, 250), 4), 3 + 3);
  EXPECT_DOUBLE_EQ(cost.Seconds(Spec(CollectiveOp::kAllReduce, 1000), 4), 6 + 6);
  EXPECT_DOUBLE_EQ(cost.Seconds(Spec(CollectiveOp::kAllToAll, 1000), 4), 3 + 3);
  EXPECT_DOUBLE_EQ(cost.Seconds(Spec(CollectiveOp::kBarrier, 0), 4), 6);
}

TEST(LinkCostTest, OneRankAloneSendsNothing) {
  EXPECT_EQ(LinkCost(TwoLinks()).Seconds(Spec(CollectiveOp::kAllReduce, 1000), 1), 0);
}

TEST(LinkCostTest, GroupsLargerThanAHostUseTheLinkBetweenHosts) {
  // 8 ranks, 320 bytes: 7 hops of 2 s, 280 bytes at 10 B/s.
  EXPECT_DOUBLE_EQ(LinkCost(TwoLinks()).Seconds(Spec(CollectiveOp::kAllGather, 10), 8), 14 + 28);
}

TEST(LinkCostTest, MachineWithoutLinksUsesTheSchemasDefaults) {
  EXPECT_DOUBLE_EQ(LinkCost(Machine()).Seconds(Spec(CollectiveOp::kBarrier, 0), 2), 4e-5);
}

}  // namespace
}  // namespace millrace
