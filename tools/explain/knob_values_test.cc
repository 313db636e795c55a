#include "tools/explain/knob_values.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace millrace {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<std::string> Near(const std::string& path, const std::string& current) {
  const auto doc = DocOf(path);
  EXPECT_TRUE(doc.ok()) << doc.status();
  return NeighbourValues(*doc, current);
}

TEST(KnobValues, AreNeighboursOfTheTypeWithTheCurrentAmongThem) {
  EXPECT_THAT(Near("parallel.zero.stage", "2"), ElementsAre("0", "1", "2", "3"));
  EXPECT_THAT(Near("parallel.zero.reduce_bucket_bytes", "1000"),
              ElementsAre("250", "1000", "4000"));
  EXPECT_THAT(Near("parallel.zero.prefetch_depth", "1"), ElementsAre("0", "1", "2", "4"));
  EXPECT_THAT(Near("train.micro_batch", "3"), ElementsAre("1", "2", "3", "4", "6"));
  EXPECT_THAT(Near("train.micro_batch", "50"), ElementsAre("25", "50", "100"));
  EXPECT_THAT(Near("runtime.overlap", "true"), ElementsAre("false", "true"));
  EXPECT_THAT(Near("runtime.cuda_graphs", "false"), ElementsAre("false", "true"));
  EXPECT_THAT(Near("optimizer.clip_norm", "0"), ElementsAre("0", "0.5", "1"));
  EXPECT_THAT(Near("optimizer.lr", "0.002"), ElementsAre("0.001", "0.002", "0.004"));
  EXPECT_THAT(Near("parallel.zero.accumulation", "REDUCE_LAST"),
              ElementsAre("REDUCE_EACH", "REDUCE_LAST", "KEEP_GATHERED"));
}

TEST(KnobValues, TextsAndListsHaveNone) {
  EXPECT_THAT(Near("machine", "\"node_8\""), IsEmpty());
  EXPECT_THAT(Near("data.augment.mean", "[0.5]"), IsEmpty());
}

}  // namespace
}  // namespace millrace
