#include "tools/evaluate/score_table.h"

#include <cmath>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace millrace {
namespace {

using testing::HasSubstr;
using testing::Not;

ScoreRow Row(const std::string& variant, int64_t size, double dice) {
  ScoreRow r;
  r.variant = variant;
  r.pipeline = "p, \"q\"";
  r.height = r.width = size;
  r.parameters = 1234;
  r.metrics.loss = 0.25;
  r.metrics.samples = 40;
  r.metrics.values = {{"dice", dice}, {"iou", dice / 2}};
  r.seconds = 4;
  r.device_bytes = 5'000'000;
  return r;
}

TEST(ScoreTable, HasARowForEachVariantAndSizeWithAlignedColumns) {
  EXPECT_EQ(ScoreTableText({Row("rose", 128, 0.9), Row("a longer name", 64, 0.75)}),
            "variant        size  parameters  samples    loss    dice     iou  img/s  device MB\n"
            "rose            128        1234       40  0.2500  0.9000  0.4500   10.0        5.0\n"
            "a longer name    64        1234       40  0.2500  0.7500  0.3750   10.0        5.0\n");
}

TEST(ScoreTable, CsvQuotesWhatWouldSplitAColumn) {
  const std::string csv = ScoreTableCsv({Row("rose", 128, 0.5)});
  EXPECT_THAT(csv, HasSubstr("variant,height,width,parameters,samples,loss,dice,iou,seconds"));
  EXPECT_THAT(csv,
              HasSubstr("rose,128,128,1234,40,0.25,0.5,0.25,4.0,10.0,5000000,\"p, \"\"q\"\"\""));
}

TEST(ScoreChart, OneSizeGivesBarsSeveralGiveALinePerVariant) {
  const std::string bars = ScoreChart({Row("a<b", 128, 0.9), Row("c", 128, 0.8)}, "dice");
  EXPECT_THAT(bars, HasSubstr("a&lt;b"));
  EXPECT_THAT(bars, HasSubstr(">0.9000<"));
  EXPECT_THAT(bars, Not(HasSubstr("<path")));
  const std::string lines = ScoreChart(
      {Row("a", 256, 0.9), Row("a", 128, 0.7), Row("b", 128, 0.8), Row("b", 256, 0.6)}, "iou");
  EXPECT_THAT(lines, HasSubstr("<title>a, 128: 0.3500</title>"));
  EXPECT_THAT(lines, HasSubstr(">256</text>"));
  EXPECT_EQ(lines.find("NaN"), std::string::npos);
  EXPECT_EQ(lines.find("http:"), lines.find("http://www.w3.org/2000/svg"));
  // Each line goes from the smaller size to the larger one, left to right.
  size_t paths = 0;
  for (size_t at = lines.find(" d=\"M"); at != std::string::npos;
       at = lines.find(" d=\"M", at + 1)) {
    ++paths;
    EXPECT_LT(lines.find("L", at), lines.find("\"", at + 5));
  }
  EXPECT_EQ(paths, 2u);
}

TEST(ScoreChart, AValueThatIsNoNumberLeavesAGap) {
  const std::string lines =
      ScoreChart({Row("a", 64, 0.9), Row("a", 128, NAN), Row("a", 256, 0.7)}, "dice");
  EXPECT_EQ(lines.find("nan"), std::string::npos);
}

}  // namespace
}  // namespace millrace
