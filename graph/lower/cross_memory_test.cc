#include "graph/lower/cross_memory.h"

#include <gtest/gtest.h>

#include "graph/lower/testing/fake_model.h"
#include "graph/lower/testing/pass_text.h"

namespace millrace {
namespace {

// Clipped, with optimizer states on the host; two buckets.
LowerOptions Clipped(double ratio, int ranks = 1, int stage = 0) {
  LowerOptions options;
  options.separate_memory = true;
  options.clip_norm = 1;
  options.reduce_bucket_bytes = 100;
  options.world_size = ranks;
  options.zero_stage = stage;
  options.offload.optimizer = Tier::kHost;
  options.offload.ratio = ratio;
  return options;
}

// The nodes that work on norms, the coefficient or the loss scale.
std::string Small(const LowerOptions& options, DType dtype = DType::kF32) {
  FakeModelOptions model;
  model.stages = 2;
  model.dtype = dtype;
  return Lines(TextAround("cross_memory", MakeFakeModel(model), options).after,
               {"norm", "clip", "loss_scale"});
}

TEST(CrossMemory, WhatIsMadeOnOneSideAndReadOnTheOtherIsCopiedOnce) {
  EXPECT_EQ(Small(Clipped(0.5)), R"(grad_norm/bucket_0(host_grad/bucket_0) -> norm/bucket_0
copy_to_device/norm/bucket_0(norm/bucket_0) -> device_norm/bucket_0
grad_norm/bucket_1(grad/bucket_1) -> norm/bucket_1
norm_sum(device_norm/bucket_0, norm/bucket_1) -> norm
clip_coefficient(norm) -> clip
copy_to_host/clip(clip) -> host_clip
adamw/bucket_0(master/bucket_0, host_grad/bucket_0, exp_avg/bucket_0, exp_avg_sq/bucket_0, host_clip) -> master/bucket_0', exp_avg/bucket_0', exp_avg_sq/bucket_0'
adamw/bucket_1(param/bucket_1, grad/bucket_1, exp_avg/bucket_1, exp_avg_sq/bucket_1, clip) -> param/bucket_1', exp_avg/bucket_1', exp_avg_sq/bucket_1'
)");
}

TEST(CrossMemory, NothingCrossesWhereAllOfItIsOnTheHost) {
  EXPECT_EQ(Lines(Small(Clipped(1)), {"copy"}), "");
}

TEST(CrossMemory, CollectivesAreOfDeviceValues) {
  EXPECT_EQ(Lines(Small(Clipped(1, 2, 2)), {"norm(", "norm_sum", "clip("}),
            R"(norm_sum(norm/bucket_0, norm/bucket_1) -> norm
copy_to_device/norm(norm) -> device_norm
all_gather/norm(device_norm) -> norm/gathered
copy_to_host/clip(clip) -> host_clip
)");
}

TEST(CrossMemory, TheLossScaleIsAtHomeOnTheDevice) {
  LowerOptions options = Clipped(1);
  options.loss_scale = LossScaleOptions();
  EXPECT_EQ(
      Lines(Small(options, DType::kF16), {"norm)", "loss_scale", "clip("}),
      R"(backward/b/0(act/a/0, labels/0, saved/b/0, loss_scale, param/bucket_0) -> dact/a/0, grad/bucket_0/b/0
copy_to_device/norm(norm) -> device_norm
clip_coefficient(device_norm, loss_scale) -> clip
copy_to_host/clip(clip) -> host_clip
update_loss_scale(clip, loss_scale) -> loss_scale'
)");
}

TEST(CrossMemory, AHandWrittenStepGetsTheSamePasses) {
  LowerOptions options = Clipped(0.5);
  options.separate_memory = false;
  options.overlap = false;
  const auto graph = Lower(MakeFakeModel(), options);
  ASSERT_TRUE(graph.ok()) << graph.status();
  const auto separate = SeparateMemory(*graph);
  ASSERT_TRUE(separate.ok()) << separate.status();
  options.separate_memory = true;
  const auto lowered = Lower(MakeFakeModel(), options);
  ASSERT_TRUE(lowered.ok()) << lowered.status();
  EXPECT_EQ(Listing(*separate), Listing(*lowered));
}

TEST(CrossMemory, OneMemoryIsLeftAlone) {
  LowerOptions options = Clipped(0.5);
  options.separate_memory = false;
  const PassText text = TextAround("cross_memory", MakeFakeModel(), options);
  EXPECT_EQ(text.before, text.after);
}

}  // namespace
}  // namespace millrace
