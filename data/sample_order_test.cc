#include "data/sample_order.h"

#include <algorithm>
#include <numeric>

#include "gtest/gtest.h"

namespace millrace {
namespace {

TEST(SampleOrder, EveryEpochIsAPermutationOfItsOwn) {
  std::vector<int64_t> sorted(1000);
  std::iota(sorted.begin(), sorted.end(), 0);
  auto a = EpochOrder(1000, 1, 0, true), b = EpochOrder(1000, 1, 1, true);
  EXPECT_EQ(a, EpochOrder(1000, 1, 0, true));
  EXPECT_NE(a, b);
  EXPECT_NE(a, EpochOrder(1000, 2, 0, true));
  EXPECT_EQ(EpochOrder(1000, 1, 5, false), sorted);
  std::sort(a.begin(), a.end());
  EXPECT_EQ(a, sorted);
}

TEST(SampleOrder, EveryPlaceIsEquallyLikelyForASample) {
  std::vector<int> places(5);
  for (int epoch = 0; epoch < 5000; ++epoch) {
    const auto order = EpochOrder(5, 3, epoch, true);
    ++places[std::find(order.begin(), order.end(), 2) - order.begin()];
  }
  for (int count : places) EXPECT_NEAR(count, 1000, 150);
}

TEST(SampleOrder, TheElementsOfAGlobalBatchGoToOneMicroBatchEachByTheWrittenRule) {
  const BatchSplit split{3, 4, 5};
  ASSERT_EQ(split.global_batch(), 60);
  std::vector<int> seen(60);
  for (int rank = 0; rank < 5; ++rank) {
    for (int micro = 0; micro < 4; ++micro) {
      for (int64_t i = 0; i < 3; ++i) {
        const int64_t j = split.FirstElement(rank, micro) + i;
        ++seen[j];
        EXPECT_EQ(j / (3 * 5), micro);
        EXPECT_EQ(j / 3 % 5, rank);
      }
    }
  }
  EXPECT_EQ(seen, std::vector<int>(60, 1));
}

}  // namespace
}  // namespace millrace
