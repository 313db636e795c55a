#include "graph/verify/happens_before.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace millrace {
namespace {

using ::testing::ElementsAre;

std::vector<Lane> Lanes(std::vector<NodeId> compute, std::vector<NodeId> comm = {}) {
  return {{"compute", LaneKind::kCompute, std::move(compute)},
          {"comm:data", LaneKind::kComm, std::move(comm)}};
}

TEST(HappensBeforeTest, FollowsPathsOverSeveralLanes) {
  //  0 -> 1 -> 2      compute
  //    \        \.
  //     3 ------> 4   comm
  const HappensBefore hb(5, Lanes({0, 1, 2}, {3, 4}), {{0, 1}, {1, 2}, {0, 3}, {3, 4}, {2, 4}});
  ASSERT_TRUE(hb.acyclic());
  EXPECT_TRUE(hb.Precedes(0, 4));
  EXPECT_TRUE(hb.Precedes(1, 4));
  EXPECT_FALSE(hb.Precedes(1, 3));
  EXPECT_FALSE(hb.Precedes(3, 2));
  EXPECT_FALSE(hb.Precedes(4, 0));
  EXPECT_FALSE(hb.Precedes(2, 2));
  EXPECT_EQ(hb.chains(), 2);
}

TEST(HappensBeforeTest, NeighboursInALaneAreNotOrderedWithoutAnEdge) {
  const HappensBefore hb(3, Lanes({0, 1, 2}), {{0, 1}});
  ASSERT_TRUE(hb.acyclic());
  EXPECT_TRUE(hb.Precedes(0, 1));
  EXPECT_FALSE(hb.Precedes(1, 2));
  EXPECT_FALSE(hb.Precedes(0, 2));
  EXPECT_EQ(hb.chains(), 2);
}

TEST(HappensBeforeTest, CycleIsGivenNodeByNode) {
  const HappensBefore hb(4, Lanes({0, 1, 2, 3}), {{0, 1}, {1, 2}, {2, 3}, {3, 1}});
  EXPECT_FALSE(hb.acyclic());
  EXPECT_THAT(hb.cycle(), ElementsAre(1, 2, 3));
}

}  // namespace
}  // namespace millrace
