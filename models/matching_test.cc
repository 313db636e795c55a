#include "models/matching.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/boxes.h"

namespace millrace {
namespace {

using testing::ElementsAre;

double CostOf(const std::vector<int64_t>& column, const std::vector<double>& cost,
              int64_t columns) {
  double sum = 0;
  for (size_t i = 0; i < column.size(); ++i) {
    if (column[i] >= 0)
      sum += cost[i * static_cast<size_t>(columns) + static_cast<size_t>(column[i])];
  }
  return sum;
}

// Every way to give min(rows, columns) rows a column of their own.
double CheapestByTrying(const std::vector<double>& cost, int64_t rows, int64_t columns) {
  const int64_t n = std::max(rows, columns);
  std::vector<int64_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  double best = std::numeric_limits<double>::infinity();
  do {
    double sum = 0;
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t j = order[static_cast<size_t>(i)];
      if (j < columns) sum += cost[static_cast<size_t>(i * columns + j)];
    }
    best = std::min(best, sum);
  } while (std::next_permutation(order.begin(), order.end()));
  return best;
}

TEST(Assign, IsAsCheapAsTheBestOfAllPermutations) {
  std::mt19937 random(7);
  for (int64_t rows = 1; rows <= 6; ++rows) {
    for (int64_t columns = 1; columns <= 6; ++columns) {
      for (int trial = 0; trial < 8; ++trial) {
        std::vector<double> cost;
        for (int64_t i = 0; i < rows * columns; ++i) {
          // Fractions and small integers with ties, both of either sign.
          cost.push_back(trial % 2 == 0 ? std::uniform_real_distribution<>(-3, 3)(random)
                                        : std::uniform_int_distribution<>(-2, 2)(random));
        }
        const std::vector<int64_t> column = Assign(cost, rows, columns);
        ASSERT_EQ(column.size(), static_cast<size_t>(rows));
        std::vector<int64_t> given;
        for (const int64_t j : column) {
          if (j >= 0) given.push_back(j);
        }
        ASSERT_EQ(given.size(), static_cast<size_t>(std::min(rows, columns)));
        std::sort(given.begin(), given.end());
        ASSERT_EQ(std::adjacent_find(given.begin(), given.end()), given.end());
        ASSERT_NEAR(CostOf(column, cost, columns), CheapestByTrying(cost, rows, columns), 1e-9);
      }
    }
  }
}

TEST(Assign, GivesUpTheGreedyChoiceWhereTheSumGains) {
  EXPECT_THAT(Assign({1, 2, 1.5, 4}, 2, 2), ElementsAre(1, 0));
}

TEST(Assign, OfRowsThatCannotAllHaveAColumnTheCheapestDo) {
  EXPECT_THAT(Assign({5, 1, 3}, 3, 1), ElementsAre(-1, 0, -1));
  EXPECT_THAT(Assign({}, 3, 0), ElementsAre(-1, -1, -1));
  EXPECT_TRUE(Assign({}, 0, 3).empty());
}

TEST(Assign, TiesFallTheSameWayEveryTime) {
  const std::vector<double> equal(5 * 8, 1.0);
  const std::vector<int64_t> first = Assign(equal, 5, 8);
  EXPECT_THAT(first, ElementsAre(0, 1, 2, 3, 4));
  EXPECT_EQ(Assign(equal, 5, 8), first);
}

TEST(Assign, CostsThatAreNoNumbersAreAvoidedAndDoNotHang) {
  const double nan = std::nan(""), infinity = std::numeric_limits<double>::infinity();
  EXPECT_THAT(Assign({nan, 1, 2, infinity}, 2, 2), ElementsAre(1, 0));
  EXPECT_THAT(Assign({nan, nan, nan, nan}, 2, 2), ElementsAre(0, 1));
}

// Two queries, boxes far apart, classes 0 and 1.
struct Scene {
  std::vector<float> logits{4, -4, -4, 4};
  std::vector<float> boxes{0.2f, 0.2f, 0.1f, 0.1f, 0.8f, 0.8f, 0.1f, 0.1f};
  std::vector<int64_t> classes;
  std::vector<float> targets;

  void Add(int64_t c, float x) {
    classes.push_back(c);
    targets.insert(targets.end(), {x, x, 0.1f, 0.1f});
  }
  std::vector<int64_t> Match(const MatchOptions& options) const {
    std::vector<int64_t> match(2, 99);
    MatchQueries({logits.data(), boxes.data(), classes.data(), targets.data(), 2, 2,
                  static_cast<int64_t>(classes.size())},
                 options, match.data());
    return match;
  }
};

TEST(MatchQueries, PaddingBetweenObjectsIsNobodys) {
  Scene scene;
  scene.Add(1, 0.8f);
  scene.Add(-1, 0.2f);
  scene.Add(0, 0.2f);
  EXPECT_THAT(scene.Match({}), ElementsAre(2, 0));
}

TEST(MatchQueries, AnImageWithoutObjectsLeavesEveryQueryFree) {
  Scene scene;
  EXPECT_THAT(scene.Match({}), ElementsAre(-1, -1));
  scene.Add(-1, 0.2f);
  EXPECT_THAT(scene.Match({}), ElementsAre(-1, -1));
}

TEST(MatchQueries, OfMoreObjectsThanQueriesTheNearestAreTaken) {
  Scene scene;
  scene.Add(0, 0.5f);
  scene.Add(0, 0.21f);
  scene.Add(1, 0.79f);
  EXPECT_THAT(scene.Match({}), ElementsAre(1, 2));
}

TEST(MatchQueries, WeightsDecideBetweenClassAndPlace) {
  Scene scene;  // the places are crossed with the classes
  scene.Add(1, 0.2f);
  scene.Add(0, 0.8f);
  for (const bool focal : {true, false}) {
    EXPECT_THAT(scene.Match({{10, 0.1, 0.1}, focal}), ElementsAre(1, 0));
    EXPECT_THAT(scene.Match({{0.1, 5, 2}, focal}), ElementsAre(0, 1));
  }
}

TEST(Boxes, OverlapByHand) {
  const Corners a{0, 0, 2, 2}, b{1, 1, 3, 3}, far{4, 0, 6, 2}, inside{0, 0, 1, 1},
      point{1, 1, 1, 1};
  EXPECT_DOUBLE_EQ(BoxOverlap(a, a).iou, 1);
  EXPECT_DOUBLE_EQ(BoxOverlap(a, a).giou, 1);
  EXPECT_DOUBLE_EQ(BoxOverlap(a, b).iou, 1.0 / 7);
  EXPECT_DOUBLE_EQ(BoxOverlap(a, b).giou, 1.0 / 7 - 2.0 / 9);
  EXPECT_DOUBLE_EQ(BoxOverlap(a, far).iou, 0);
  EXPECT_DOUBLE_EQ(BoxOverlap(a, far).giou, -4.0 / 12);
  EXPECT_DOUBLE_EQ(BoxOverlap(a, inside).giou, 0.25);
  EXPECT_DOUBLE_EQ(BoxOverlap(point, point).giou, 0);  // not a division by zero
}

TEST(Boxes, TheGradientIsThatOfFiniteDifferences) {
  std::mt19937 random(3);
  std::uniform_real_distribution<float> place(0.3f, 0.7f), size(0.05f, 0.6f);
  for (int trial = 0; trial < 50; ++trial) {
    std::vector<float> boxes;
    for (int i = 0; i < 2; ++i) {
      boxes.insert(boxes.end(), {place(random), place(random), size(random), size(random)});
    }
    const double wi = trial % 3, wg = 1.5 - trial % 2;
    const auto value = [&](const std::vector<float>& b) {
      const Overlap o = BoxOverlap(ToCorners(b.data()), ToCorners(b.data() + 4));
      return wi * o.iou + wg * o.giou;
    };
    std::vector<double> gradient(8);
    AddOverlapGradient(boxes.data(), boxes.data() + 4, wi, wg, gradient.data(),
                       gradient.data() + 4);
    for (size_t i = 0; i < 8; ++i) {
      std::vector<float> up = boxes, down = boxes;
      up[i] += 1e-4f, down[i] -= 1e-4f;
      const double step = static_cast<double>(up[i]) - static_cast<double>(down[i]);
      EXPECT_NEAR(gradient[i], (value(up) - value(down)) / step, 2e-2) << trial << " " << i;
    }
  }
}

}  // namespace
}  // namespace millrace
