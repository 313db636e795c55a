#include "graph/plan/packing.h"

#include <gtest/gtest.h>

#include "graph/base/random.h"

namespace millrace {
namespace {

void ExpectDisjoint(const std::vector<Block>& blocks, const Packing& packing) {
  for (size_t i = 0; i < blocks.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (!blocks[i].live.Meets(blocks[j].live)) continue;
      EXPECT_TRUE(packing.offset[i] + blocks[i].bytes <= packing.offset[j] ||
                  packing.offset[j] + blocks[j].bytes <= packing.offset[i])
          << i << " " << j;
    }
  }
}

TEST(Packing, BlocksThatNeverMeetShareTheirBytes) {
  const std::vector<Block> blocks = {{64, {0, 1}}, {64, {2, 3}}, {128, {4, 4}}};
  EXPECT_EQ(Pack(blocks, 128).bytes, 128);
}

TEST(Packing, LargestFirstWhereBirthOrderLeavesAHole) {
  // By birth, the long small block lands above the first and splits the room of the third.
  const std::vector<Block> blocks = {{64, {0, 1}}, {64, {1, 4}}, {128, {3, 4}}};
  const Packing packing = Pack(blocks, 192);
  ExpectDisjoint(blocks, packing);
  EXPECT_EQ(packing.bytes, 192);
}

TEST(Packing, RandomBlocksAreDisjointAndNearTheBound) {
  CounterRng rng(1);
  double worst = 1;
  for (int round = 0; round < 30; ++round) {
    std::vector<Block> blocks;
    std::vector<int64_t> live(220);
    for (uint64_t i = 0; i < 100; ++i) {
      const uint64_t c = 1000 * round + 3 * i;
      const int birth = static_cast<int>(rng.Below(c, 200));
      const LiveRange range{birth, birth + static_cast<int>(rng.Below(c + 1, 20))};
      blocks.push_back({64 * static_cast<int64_t>(1 + rng.Below(c + 2, 30)), range});
      for (int p = range.birth; p <= range.death; ++p) live[p] += blocks.back().bytes;
    }
    const int64_t bound = *std::max_element(live.begin(), live.end());
    const Packing packing = Pack(blocks, bound);
    ExpectDisjoint(blocks, packing);
    worst = std::max(worst, static_cast<double>(packing.bytes) / static_cast<double>(bound));
  }
  EXPECT_LT(worst, 1.06);
}

TEST(Packing, NothingNeedsNothing) { EXPECT_EQ(Pack({}, 0).bytes, 0); }

}  // namespace
}  // namespace millrace
