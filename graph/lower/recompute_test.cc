#include "graph/lower/recompute.h"

#include <gtest/gtest.h>

#include "graph/ir/pipeline.pb.h"
#include "graph/lower/lower.h"
#include "graph/lower/testing/fake_model.h"
#include "graph/lower/testing/pass_text.h"

namespace millrace {
namespace {

LowerOptions Named(std::vector<std::string> stages, LowerOptions options = {}) {
  options.recompute.stages = std::move(stages);
  return options;
}

std::vector<std::string> Mistakes(const RecomputeOptions& options,
                                  const ModelSpec& spec = MakeFakeModel()) {
  std::vector<std::string> texts;
  for (const RecomputeMistake& m : CheckRecompute(spec, options)) {
    texts.push_back(absl::StrCat(m.entry, ": ", m.message, "; ", m.suggestion));
  }
  return texts;
}

TEST(Recompute, RunsForwardAgainRightBeforeItsBackward) {
  const PassText text = TextAround("recompute", MakeFakeModel({.stages = 2}), Named({"a"}));
  EXPECT_EQ(text.before, R"(load_batch/0() -> images/0, labels/0
forward/a/0(images/0, param/a) -> act/a/0, saved/a/0
forward/b/0(act/a/0, labels/0, param/b) -> loss/0, logits/0, saved/b/0
backward/b/0(act/a/0, labels/0, saved/b/0, param/b) -> dact/a/0, grad/b/0
backward/a/0(images/0, saved/a/0, dact/a/0, param/a) -> grad/a/0
)");
  EXPECT_EQ(text.after, R"(load_batch/0() -> images/0, labels/0
forward/a/0(images/0, param/a) -> act/a/0
forward/b/0(act/a/0, labels/0, param/b) -> loss/0, logits/0, saved/b/0
backward/b/0(act/a/0, labels/0, saved/b/0, param/b) -> dact/a/0, grad/b/0
recompute/a/0(images/0, param/a) -> again/a/0, saved/a/0 after backward/b/0
backward/a/0(images/0, saved/a/0, dact/a/0, param/a) -> grad/a/0
)");
}

TEST(Recompute, EveryMicroBatchRecomputesAfterItsOwnBackward) {
  const std::string text =
      TextAround("recompute", MakeFakeModel(), Named({"b"}, {.accumulation = 2})).after;
  EXPECT_EQ(Lines(text, {"recompute/"}),
            R"(recompute/b/0(act/a/0, param/b) -> again/b/0, saved/b/0 after backward/c/0
recompute/b/1(act/a/1, param/b) -> again/b/1, saved/b/1 after backward/c/1
)");
}

TEST(Recompute, EachRunHasTheScratchOfItsKind) {
  ModelSpec spec = MakeFakeModel({.stages = 2, .workspace_bytes = 128});
  spec.stages[0].evaluate.workspace_bytes = 64;
  spec.stages[0].forward_operators = 7;
  const auto graph = Lower(spec, Named({"a"}));
  ASSERT_TRUE(graph.ok()) << graph.status();
  EXPECT_EQ(graph->values()[graph->FindValue("ws/forward/a/0")].bytes(), 64);
  EXPECT_EQ(graph->values()[graph->FindValue("ws/recompute/a/0")].bytes(), 128);
  EXPECT_EQ(IntAttr(graph->nodes()[graph->FindNode("forward/a/0")], "evaluate", 0), 1);
  EXPECT_EQ(IntAttr(graph->nodes()[graph->FindNode("forward/b/0")], "evaluate", 0), 0);
  EXPECT_EQ(graph->nodes()[graph->FindNode("recompute/a/0")].flops, 1000000);
  EXPECT_EQ(graph->nodes()[graph->FindNode("recompute/a/0")].operators, 7);
}

TEST(Recompute, AtStage3OneGatherServesRecomputeAndBackward) {
  LowerOptions options = Named({"a", "b"});
  options.world_size = 2;
  options.zero_stage = 3;
  options.reduce_bucket_bytes = 148;  // a bucket per stage
  options.prefetch_depth = 0;
  const std::string text = TextAround("prefetch", MakeFakeModel(), options).after;
  EXPECT_EQ(
      Lines(text, {"backward/", "recompute/"}),
      R"(backward/c/0(act/b/0, labels/0, saved/c/0, gathered/bucket_0/forward/0) -> dact/b/0, grad/bucket_0/c/0
all_gather/bucket_1/backward/0(param/bucket_1) -> gathered/bucket_1/backward/0 after backward/c/0
recompute/b/0(act/a/0, gathered/bucket_1/backward/0) -> again/b/0, saved/b/0 after backward/c/0
backward/b/0(act/a/0, saved/b/0, dact/b/0, gathered/bucket_1/backward/0) -> dact/a/0, grad/bucket_1/b/0
all_gather/bucket_2/backward/0(param/bucket_2) -> gathered/bucket_2/backward/0 after backward/b/0
recompute/a/0(images/0, gathered/bucket_2/backward/0) -> again/a/0, saved/a/0 after backward/b/0
backward/a/0(images/0, saved/a/0, dact/a/0, gathered/bucket_2/backward/0) -> grad/bucket_2/a/0
)");
}

TEST(Recompute, AllLeavesOutTheLastStageAndWhatSavesNothing) {
  ModelSpec spec = MakeFakeModel({.stages = 5});
  spec.stages[1].saved_bytes = 0;
  EXPECT_EQ(RecomputedStages(spec, {.all = true}),
            (std::vector<bool>{true, false, true, true, false}));
}

TEST(Recompute, EveryKthIsCountedFromTheFirst) {
  const ModelSpec spec = MakeFakeModel({.stages = 6});
  EXPECT_EQ(RecomputedStages(spec, {.every = 2}),
            (std::vector<bool>{false, true, false, true, false, false}));
  EXPECT_EQ(RecomputedStages(spec, {.every = 3}),
            (std::vector<bool>{false, false, true, false, false, false}));
  EXPECT_EQ(RecomputedStages(spec, {.every = 1}), RecomputedStages(spec, {.all = true}));
}

TEST(Recompute, EvaluationIsNotTouched) {
  LowerOptions options = Named({"a"}, {.kind = StepKind::kEvaluate});
  const auto graph = Lower(MakeFakeModel(), options);
  ASSERT_TRUE(graph.ok()) << graph.status();
  EXPECT_EQ(graph->FindNode("recompute/a/0"), -1);
}

TEST(Recompute, WhatRecomputesNothingIsAnErrorAllAtOnce) {
  ModelSpec spec = MakeFakeModel();
  for (StageSpec& s : spec.stages) s.name = "layers." + s.name;
  spec.stages[0].saved_bytes = 0;
  EXPECT_EQ(
      Mistakes({.stages = {"layer.b", "layers.b", "layers.b", "layers.c", "layers.a", "x"}}, spec),
      (std::vector<std::string>{
          "0: model fake has no stage 'layer.b'; did you mean 'layers.b'?",
          "2: stage 'layers.b' is named twice; take one of them out",
          "3: recomputing stage 'layers.c' changes nothing: it is the last one, its backward "
          "follows its forward at once; take it out",
          "4: recomputing stage 'layers.a' changes nothing: it saves nothing for its "
          "backward; take it out",
          "5: model fake has no stage 'x'; its stages: layers.a, layers.b, layers.c"}));
  EXPECT_EQ(
      Mistakes({.every = 3}),
      (std::vector<std::string>{"-1: memory.recompute.every 3 matches no stage: model fake has "
                                "2 before its last, which is never recomputed; at most 2"}));
  EXPECT_EQ(Mistakes({.all = true}, MakeFakeModel({.stages = 1})).size(), 1u);
  EXPECT_TRUE(Mistakes({.every = 2}).empty());
  EXPECT_FALSE(Lower(MakeFakeModel(), Named({"nowhere"})).ok());
}

TEST(Recompute, OptionsComeFromThePipeline) {
  Pipeline pipeline;
  pipeline.mutable_memory()->mutable_recompute()->set_every(2);
  pipeline.mutable_memory()->mutable_recompute()->add_stage("a");
  const RecomputeOptions o = FromPipeline(pipeline).recompute;
  EXPECT_EQ(o.every, 2);
  EXPECT_EQ(o.stages, std::vector<std::string>{"a"});
  EXPECT_FALSE(o.all);
  EXPECT_FALSE(FromPipeline(Pipeline()).recompute.any());
}

}  // namespace
}  // namespace millrace
