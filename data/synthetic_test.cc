#include "data/synthetic.h"

#include <cmath>

#include "data/open_dataset.h"
#include "data/test_files.h"

namespace millrace {
namespace {

DatasetOptions Options(int64_t first, int64_t count) {
  DatasetOptions options;
  options.kind = DatasetOptions::Kind::kSynthetic;
  options.shape = {3, 5, 7};  // 105 values: not a multiple of a block
  options.classes = 4;
  options.seed = 11;
  options.first = first;
  options.count = count;
  return options;
}

std::vector<float> Image(const Dataset& data, int64_t index, int64_t* label) {
  std::vector<float> pixels(data.shape().elements());
  EXPECT_TRUE(data.Get(index, absl::MakeSpan(pixels), label).ok());
  return pixels;
}

TEST(Synthetic, PixelsAreStandardNormalAndLabelsCoverAllClasses) {
  auto data = OpenDataset(Options(0, 500));
  ASSERT_TRUE(data.ok()) << data.status();
  double sum = 0, squares = 0, fourth = 0;
  std::vector<int> labels(4);
  for (int64_t i = 0; i < 500; ++i) {
    int64_t label;
    for (float v : Image(**data, i, &label)) {
      ASSERT_TRUE(std::isfinite(v));
      sum += v, squares += v * v, fourth += v * v * v * v;
    }
    ASSERT_TRUE(label >= 0 && label < 4);
    ++labels[label];
  }
  const double n = 500 * 105;
  EXPECT_NEAR(sum / n, 0, 0.02);
  EXPECT_NEAR(squares / n, 1, 0.03);
  EXPECT_NEAR(fourth / n, 3, 0.25);
  for (int count : labels) EXPECT_NEAR(count, 125, 50);
}

TEST(Synthetic, AnImageDependsOnSeedAndPlaceNotOnHowManyAreMade) {
  auto all = OpenDataset(Options(0, 10)), part = OpenDataset(Options(7, 2));
  DatasetOptions other_seed = Options(0, 10);
  other_seed.seed = 12;
  auto other = OpenDataset(other_seed);
  ASSERT_TRUE(all.ok() && part.ok() && other.ok());
  int64_t a, b, c;
  EXPECT_EQ(Image(**all, 7, &a), Image(**part, 0, &b));
  EXPECT_EQ(a, b);
  EXPECT_NE(Image(**all, 7, &a), Image(**all, 8, &b));
  EXPECT_NE(Image(**all, 7, &a), Image(**other, 7, &c));
}

TEST(Synthetic, AllMistakesAreReportedAtOnce) {
  DatasetOptions options = Options(0, 0);
  options.classes = 0;
  options.shape.width = 0;
  ExpectError(OpenDataset(options).status(), absl::StatusCode::kInvalidArgument,
              {"3x5x0", "classes is 0", "count is 0"});
}

TEST(Synthetic, MoreThanTheMachineHoldsIsRefusedBeforeAllocating) {
  DatasetOptions options = Options(0, int64_t{1} << 40);
  options.shape = {3, 1024, 1024};
  ExpectError(OpenDataset(options).status(), absl::StatusCode::kResourceExhausted,
              {"MiB", "lower count"});
}

}  // namespace
}  // namespace millrace
