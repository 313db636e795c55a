// A printed step passes; one that no longer fits its model is refused with what does not fit.

#include "graph/lower/edited_step.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_replace.h"
#include "graph/ir/text.h"
#include "graph/lower/lower.h"
#include "graph/lower/testing/fake_model.h"

namespace millrace {
namespace {

using testing::HasSubstr;

LowerOptions Stage(int stage) {
  LowerOptions options;
  options.zero_stage = stage;
  options.world_size = 2;
  options.reduce_bucket_bytes = 200;
  return options;
}

// What is found in the step's text after an edit.
std::string Found(int stage, const std::string& from, const std::string& to) {
  const Graph lowered = *Lower(MakeFakeModel({.stages = 4}), Stage(stage));
  const std::string text = absl::StrReplaceAll(ToText(lowered), {{from, to}});
  EXPECT_EQ(text == ToText(lowered), from.empty()) << from;
  Findings findings;
  GraphTextOptions options;
  options.groups["data"] = 2;
  options.check_types = false;
  const auto edited = ParseGraph(text, "edited.textproto", options, findings);
  EXPECT_TRUE(edited.ok()) << findings.ToText();
  if (edited.ok()) CheckEditedStep(*edited, lowered, findings);
  return findings.ToText();
}

TEST(EditedStepTest, WhatWasPrintedIsAStepOfItsModel) {
  for (int stage = 0; stage <= 3; ++stage) EXPECT_EQ(Found(stage, "", ""), "") << stage;
}

TEST(EditedStepTest, OtherNamesOfNodesAreTheEditorsBusiness) {
  EXPECT_EQ(Found(2, "name: \"forward/a/0\"", "name: \"first\""), "");
}

TEST(EditedStepTest, AStageThatTheModelDoesNotHaveIsFound) {
  EXPECT_THAT(Found(0, "attr { name: \"stage\" i: 2 }", "attr { name: \"stage\" i: 9 }"),
              HasSubstr("the model has no forward of stage 9 for micro-batch 0"));
}

TEST(EditedStepTest, AShapeThatTheKernelDoesNotWriteIsFound) {
  EXPECT_THAT(Found(0, "name: \"act/a/0\" shape: [2, 16]", "name: \"act/a/0\" shape: [2, 8]"),
              HasSubstr("writes f32[2, 8]"));
}

TEST(EditedStepTest, BucketsThatLieOtherwiseAreFound) {
  EXPECT_THAT(Found(3, "bucket { name: \"bucket_0\"", "bucket { name: \"mine\""),
              HasSubstr("bucket 'mine' is not laid out as the model's bucket 'bucket_0'"));
}

}  // namespace
}  // namespace millrace
