#include "tools/explain/field_docs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace millrace {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

TEST(FieldDocs, AreTheProtosComments) {
  const auto stage = DocOf("parallel.zero.stage");
  ASSERT_TRUE(stage.ok()) << stage.status();
  EXPECT_EQ(
      stage->comment,
      "0: replicate all (DDP). 1: shard optimizer states. 2: and gradients. 3: and parameters.");
  EXPECT_EQ(stage->type, "int32");
  EXPECT_EQ(stage->fallback, "0");
}

TEST(FieldDocs, OfAnEnumNameItsValues) {
  const auto policy = DocOf("parallel.zero.accumulation");
  ASSERT_TRUE(policy.ok()) << policy.status();
  EXPECT_EQ(policy->fallback, "REDUCE_EACH");
  ASSERT_THAT(policy->values, SizeIs(3));
  EXPECT_EQ(policy->values[1].name, "REDUCE_LAST");
  EXPECT_THAT(policy->values[1].comment, HasSubstr("reduce once"));
  EXPECT_EQ(DocOf("precision.mode")->values[1].comment,
            "bfloat16: the range of F32, 8 significant bits");
}

TEST(FieldDocs, WhatIsNoSettingIsNotFound) {
  EXPECT_EQ(DocOf("parallel.zero.stge").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(DocOf("parallel.zero").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(DocOf("train.steps.x").status().code(), absl::StatusCode::kNotFound);
}

TEST(FieldDocs, EverySettingHasADocument) {
  const std::vector<std::string> paths = KnobPaths();
  EXPECT_THAT(paths, Contains("memory.recompute.every"));
  EXPECT_THAT(paths, Contains("data.augment.mean"));
  EXPECT_THAT(paths, Not(Contains("graph.node")));
  for (const std::string& path : paths) {
    const auto doc = DocOf(path);
    ASSERT_TRUE(doc.ok()) << path << ": " << doc.status();
    EXPECT_FALSE(doc->comment.empty()) << path;
  }
}

TEST(FieldDocs, OneCommentMayServeTheLinesBelowIt) {
  EXPECT_THAT(DocOf("train.epochs")->comment, HasSubstr("exactly one must be > 0"));
  EXPECT_THAT(DocOf("data.augment.scale_max")->comment, HasSubstr("[scale_min, scale_max]"));
}

TEST(FieldDocs, LastWordNamesASettingWhenItIsTheOnlyOne) {
  EXPECT_EQ(KnobNamed("prefetch_depth"), "parallel.zero.prefetch_depth");
  EXPECT_EQ(KnobNamed("parallel.zero.stage"), "parallel.zero.stage");
  EXPECT_EQ(KnobNamed("kind"), "");  // of the optimizer and of the schedule
  EXPECT_EQ(KnobNamed("nothing"), "");
}

}  // namespace
}  // namespace millrace
