#include "graph/lower/stage_batches.h"

#include <gtest/gtest.h>

#include "graph/lower/testing/fake_model.h"
#include "graph/lower/testing/pass_text.h"

namespace millrace {
namespace {

LowerOptions Separate(int accumulation) {
  LowerOptions options;
  options.separate_memory = true;
  options.accumulation = accumulation;
  return options;
}

TEST(StageBatches, TheHostLoadsAndOneCopyBringsAllTensors) {
  FakeModelOptions model;
  model.stages = 2;
  EXPECT_EQ(Lines(TextAround("stage_batches", MakeFakeModel(model), Separate(1)).after,
                  {"batch", "forward", "backward"}),
            R"(load_batch/0() -> host_batch/images/0, host_batch/labels/0
copy_to_device/batch/0(host_batch/images/0, host_batch/labels/0) -> images/0, labels/0
forward/a/0(images/0, param/bucket_0) -> act/a/0, saved/a/0
forward/b/0(act/a/0, labels/0, param/bucket_0) -> loss/0, logits/0, saved/b/0
backward/b/0(act/a/0, labels/0, saved/b/0, param/bucket_0) -> dact/a/0, grad/bucket_0/b/0
backward/a/0(images/0, saved/a/0, dact/a/0, param/bucket_0) -> grad/bucket_0/a/0
)");
}

TEST(StageBatches, TheNextBatchIsLoadedBesideThisOneAndCopiedBesideItsLastStage) {
  FakeModelOptions model;
  model.stages = 2;
  EXPECT_EQ(Lines(TextAround("stage_batches", MakeFakeModel(model), Separate(3)).after,
                  {"batch", "ward/a/"}),
            R"(load_batch/0() -> host_batch/images/0, host_batch/labels/0
copy_to_device/batch/0(host_batch/images/0, host_batch/labels/0) -> images/0, labels/0
load_batch/1() -> host_batch/images/1, host_batch/labels/1 after copy_to_device/batch/0
forward/a/0(images/0, param/bucket_0) -> act/a/0, saved/a/0
copy_to_device/batch/1(host_batch/images/1, host_batch/labels/1) -> images/1, labels/1 after backward/b/0
load_batch/2() -> host_batch/images/2, host_batch/labels/2 after copy_to_device/batch/1
backward/a/0(images/0, saved/a/0, dact/a/0, param/bucket_0) -> grad/bucket_0/a/0
forward/a/1(images/1, param/bucket_0) -> act/a/1, saved/a/1 after backward/a/0
copy_to_device/batch/2(host_batch/images/2, host_batch/labels/2) -> images/2, labels/2 after backward/b/1
backward/a/1(images/1, saved/a/1, dact/a/1, param/bucket_0) -> grad/bucket_0/a/1
forward/a/2(images/2, param/bucket_0) -> act/a/2, saved/a/2 after backward/a/1
backward/a/2(images/2, saved/a/2, dact/a/2, param/bucket_0) -> grad/bucket_0/a/2
)");
}

TEST(StageBatches, LoadingIsSplitSoThatItRunsBesideCompute) {
  const std::string after = TextAround("split_async", MakeFakeModel(), Separate(2)).after;
  EXPECT_EQ(Lines(after, {"load_batch/1", "copy_to_device/batch/1"}),
            R"(load_batch/1.start() after copy_to_device/batch/0.done
load_batch/1.done() -> host_batch/images/1, host_batch/labels/1
copy_to_device/batch/1.start(host_batch/images/1, host_batch/labels/1) after backward/b/0
copy_to_device/batch/1.done() -> images/1, labels/1
)");
}

TEST(StageBatches, EvaluationStepsLoadInTheSameWay) {
  LowerOptions options = Separate(1);
  options.kind = StepKind::kEvaluate;
  options.alone = true;
  EXPECT_EQ(Lines(TextAround("stage_batches", MakeFakeModel(), options).after, {"batch"}),
            R"(load_batch/0() -> host_batch/images/0, host_batch/labels/0
copy_to_device/batch/0(host_batch/images/0, host_batch/labels/0) -> images/0, labels/0
)");
}

TEST(StageBatches, OneMemoryIsLeftAlone) {
  LowerOptions options;
  const PassText text = TextAround("stage_batches", MakeFakeModel(), options);
  EXPECT_EQ(text.before, text.after);
}

}  // namespace
}  // namespace millrace
