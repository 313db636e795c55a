#include "graph/lower/expand_stages.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>

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

TEST(ExpandStages, AnOutputCalledLikeATensorOfTheBatchGetsANameOfItsOwn) {
  ModelSpec spec = MakeFakeModel({.stages = 1, .params = {}, .saved_bytes = 0});
  spec.stages[0].outputs.push_back(spec.batch[1]);
  const auto graph = Lower(spec, {.kind = StepKind::kEvaluate});
  ASSERT_TRUE(graph.ok()) << graph.status();
  const Node& last = graph->nodes()[graph->FindNode("forward/a/0")];
  EXPECT_EQ(graph->values()[last.outputs[2]].name, "output.labels/0");
}

TEST(ExpandStages, LossIsScaledByRanksAndMicroBatches) {
  const auto graph = Lower(MakeFakeModel({.stages = 2}), {.world_size = 4, .accumulation = 2});
  ASSERT_TRUE(graph.ok()) << graph.status();
  const Node& last = graph->nodes()[graph->FindNode("backward/b/1")];
  EXPECT_EQ(FloatAttr(last, "scale", 1.0), 1.0 / 8);
  EXPECT_EQ(FloatAttr(graph->nodes()[graph->FindNode("backward/a/1")], "scale", 1.0), 1.0);
}

TEST(ExpandStages, ASkipConnectionGoesFromAnEarlyStageToALateOne) {
  ModelSpec spec = MakeFakeModel({.stages = 3, .params = {}, .saved_bytes = 0});
  spec.stages[0].outputs.push_back({"skip", DType::kF32, {2, 8}});
  spec.stages[2].inputs.push_back(spec.stages[0].outputs[1]);
  spec.stages[2].sources.push_back({0, 1});
  spec.stages[1].batch = {1};
  EXPECT_EQ(TextAround("expand_stages", spec, {}).after, R"(load_batch/0() -> images/0, labels/0
forward/a/0(images/0) -> act/a.0/0, act/a.1/0
forward/b/0(act/a.0/0, labels/0) -> act/b/0
forward/c/0(act/b/0, act/a.1/0, labels/0) -> loss/0, logits/0
backward/c/0(act/b/0, act/a.1/0, labels/0) -> dact/b/0, dact/a.1/0
backward/b/0(act/a.0/0, labels/0, dact/b/0) -> dact/a.0/0
backward/a/0(images/0, dact/a.0/0, dact/a.1/0)
)");
}

TEST(ExpandStages, GradientsOfStatisticsAreScaledLikeTheLoss) {
  ModelSpec spec = MakeFakeModel({.stages = 2});
  spec.stages[0].params[1].statistic = true;
  EXPECT_EQ(spec.stages[0].parameter_count(), 32);
  EXPECT_EQ(spec.stages[0].element_count(), 37);
  LowerOptions options;
  options.world_size = 4;
  options.accumulation = 2;
  const absl::StatusOr<Graph> graph = Lower(spec, options);
  ASSERT_TRUE(graph.ok()) << graph.status();
  const auto scale = [&](const char* node) {
    return FloatAttr(graph->nodes()[graph->FindNode(node)], "statistic_scale", 0);
  };
  EXPECT_EQ(scale("backward/a/1"), 1.0 / 8);
  EXPECT_EQ(scale("backward/b/1"), 0);
}

TEST(ExpandStages, StagesThatDoNotFitTogetherAreNamed) {
  const auto message = [](const std::function<void(ModelSpec&)>& damage) {
    ModelSpec spec = MakeFakeModel({.stages = 3});
    damage(spec);
    return std::string(Lower(spec, {}).status().message());
  };
  const std::string pass = "lowering fake, pass expand_stages: ";
  EXPECT_EQ(message([](ModelSpec& m) { m.stages[1].inputs.clear(); }),
            pass + "stage 'b' has 0 inputs and 1 sources of them");
  EXPECT_EQ(message([](ModelSpec& m) { m.stages[1].sources[0].stage = 1; }),
            pass + "stage 'b' reads output 0 of stage 1, which does not come before it");
  EXPECT_EQ(message([](ModelSpec& m) { m.stages[2].sources[0].stage = 0; }),
            pass + "stage 'c' reads output 0 of stage 0, which another input reads already");
  EXPECT_EQ(message([](ModelSpec& m) { m.stages[1].batch = {2}; }),
            pass + "stage 'b' reads tensor 2 of a batch of 2");
  EXPECT_EQ(message([](ModelSpec& m) { m.stages[1].outputs.push_back(m.stages[1].outputs[0]); }),
            pass + "no stage reads output 1 of stage 'b'");
}

}  // namespace
}  // namespace millrace
