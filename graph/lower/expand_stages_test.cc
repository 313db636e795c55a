#include "graph/lower/expand_stages.h"

#include <gtest/gtest.h>

#include "graph/lower/testing/fake_model.h"
#include "graph/lower/testing/pass_text.h"

namespace millrace {
namespace {

TEST(ExpandStages, WritesForwardThenBackwardOfEveryStage) {
  EXPECT_EQ(TextAround("expand_stages", MakeFakeModel({.stages = 2}), {}).after,
            R"(load_batch/0() -> images/0, labels/0
forward/a/0(images/0, param/a) -> act/a/0, saved/a/0
forward/b/0(act/a/0, labels/0, param/b) -> loss/0, logits/0, saved/b/0
backward/b/0(act/a/0, labels/0, saved/b/0, param/b) -> dact/a/0, grad/b/0
backward/a/0(images/0, saved/a/0, dact/a/0, param/a) -> grad/a/0
)");
}

TEST(ExpandStages, NextMicroBatchBeginsAfterTheLastBackward) {
  const std::string text =
      TextAround("expand_stages", MakeFakeModel({.stages = 2}), {.accumulation = 3}).after;
  EXPECT_EQ(Lines(text, {"load_batch"}), R"(load_batch/0() -> images/0, labels/0
load_batch/1() -> images/1, labels/1 after backward/a/0
load_batch/2() -> images/2, labels/2 after backward/a/1
)");
}

TEST(ExpandStages, LeavesOutWhatHasNoBytes) {
  const ModelSpec spec =
      MakeFakeModel({.stages = 2, .params = {}, .saved_bytes = 0, .workspace_bytes = 64});
  EXPECT_EQ(TextAround("expand_stages", spec, {}).after, R"(load_batch/0() -> images/0, labels/0
forward/a/0(images/0) -> act/a/0, ws/forward/a/0
forward/b/0(act/a/0, labels/0) -> loss/0, logits/0, ws/forward/b/0
backward/b/0(act/a/0, labels/0) -> dact/a/0, ws/backward/b/0
backward/a/0(images/0, dact/a/0) -> ws/backward/a/0
)");
}

TEST(ExpandStages, EvaluationHasForwardOnlyAndSavesNothing) {
  const std::string text = TextAround("expand_stages", MakeFakeModel({.stages = 2}),
                                      {.kind = StepKind::kEvaluate, .accumulation = 4})
                               .after;
  EXPECT_EQ(text, R"(load_batch/0() -> images/0, labels/0
forward/a/0(images/0, param/a) -> act/a/0
forward/b/0(act/a/0, labels/0, param/b) -> loss/0, logits/0
)");
}

TEST(ExpandStages, LossIsScaledByRanksAndMicroBatches) {
  const auto graph = Lower(MakeFakeModel({.stages = 2}), {.world_size = 4, .accumulation = 2});
  ASSERT_TRUE(graph.ok()) << graph.status();
  const Node& last = graph->nodes()[graph->FindNode("backward/b/1")];
  EXPECT_EQ(FloatAttr(last, "scale", 1.0), 1.0 / 8);
  EXPECT_EQ(FloatAttr(graph->nodes()[graph->FindNode("backward/a/1")], "scale", 1.0), 1.0);
}

TEST(ExpandStages, StageThatDoesNotFitTheOneBeforeIsNamed) {
  ModelSpec spec = MakeFakeModel();
  spec.stages[1].inputs.clear();
  const auto graph = Lower(spec, {});
  ASSERT_FALSE(graph.ok());
  EXPECT_EQ(graph.status().message(),
            "lowering fake, pass expand_stages: stage 'b' has 0 inputs, expected 1: what a gives");
}

}  // namespace
}  // namespace millrace
