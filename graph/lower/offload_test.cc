#include "graph/lower/offload.h"

#include <gtest/gtest.h>

#include "graph/lower/lower.h"
#include "graph/lower/testing/fake_model.h"
#include "graph/lower/testing/pass_text.h"

namespace millrace {
namespace {

LowerOptions Offloaded(LowerOptions options = {}) {
  options.offload.optimizer = Tier::kHost;
  return options;
}

std::string After(const LowerOptions& options, const std::vector<std::string>& words) {
  return Lines(TextAround("offload", MakeFakeModel({.stages = 2}), options).after, words);
}

TEST(Offload, TheUpdateRunsOnTheHostAndTheParametersComeBack) {
  EXPECT_EQ(
      After(Offloaded({.world_size = 2, .zero_stage = 2}), {"scatter", "copy", "adamw", "gather"}),
      R"(reduce_scatter/bucket_0/0(grad/bucket_0/a/0, grad/bucket_0/b/0) -> grad/bucket_0
copy_to_host/grad/bucket_0(grad/bucket_0) -> host_grad/bucket_0
adamw/bucket_0(master/bucket_0, host_grad/bucket_0, exp_avg/bucket_0, exp_avg_sq/bucket_0) -> master/bucket_0', exp_avg/bucket_0', exp_avg_sq/bucket_0'
copy_to_device/param/bucket_0(master/bucket_0') -> param/bucket_0/own'
all_gather/bucket_0/update(param/bucket_0/own') -> param/bucket_0'
)");
}

TEST(Offload, ParametersOnTheHostAreCopiedInBeforeTheyAreGathered) {
  LowerOptions options = Offloaded({.world_size = 2, .zero_stage = 3});
  options.offload.parameters = Tier::kHost;
  EXPECT_EQ(After(options, {"copy", "all_gather", "adamw"}),
            R"(copy_to_device/bucket_0/forward/0(param/bucket_0) -> shard/bucket_0/forward/0
all_gather/bucket_0/forward/0(shard/bucket_0/forward/0) -> gathered/bucket_0/forward/0
copy_to_host/grad/bucket_0(grad/bucket_0) -> host_grad/bucket_0
adamw/bucket_0(param/bucket_0, host_grad/bucket_0, exp_avg/bucket_0, exp_avg_sq/bucket_0) -> param/bucket_0', exp_avg/bucket_0', exp_avg_sq/bucket_0'
)");
}

TEST(Offload, OnOneRankTheCopyIsTheGather) {
  LowerOptions options = Offloaded({.zero_stage = 3});
  options.offload.parameters = Tier::kHost;
  EXPECT_EQ(After(options, {"copy", "all_gather", "adamw"}),
            R"(copy_to_device/bucket_0/forward/0(param/bucket_0) -> gathered/bucket_0/forward/0
copy_to_host/grad/bucket_0(grad/bucket_0) -> host_grad/bucket_0
adamw/bucket_0(param/bucket_0, host_grad/bucket_0, exp_avg/bucket_0, exp_avg_sq/bucket_0) -> param/bucket_0', exp_avg/bucket_0', exp_avg_sq/bucket_0'
)");
}

TEST(Offload, StatesOnStorageAreStagedAroundTheUpdate) {
  LowerOptions options = Offloaded({.reduce_bucket_bytes = 1});
  options.offload.optimizer = Tier::kStorage;
  options.offload.staging_buckets = 1;
  // The second bucket is read when the first has been written back.
  EXPECT_EQ(
      Lines(TextAround("offload", MakeFakeModel({.stages = 2, .params = {{8}}}), options).after,
            {"read/", "write/", "adamw", "copy"}),
      R"(copy_to_host/grad/bucket_0(grad/bucket_0) -> host_grad/bucket_0
read/bucket_0(master/bucket_0, exp_avg/bucket_0, exp_avg_sq/bucket_0) -> staging/master/bucket_0, staging/exp_avg/bucket_0, staging/exp_avg_sq/bucket_0 after forward/b/0
adamw/bucket_0(staging/master/bucket_0, host_grad/bucket_0, staging/exp_avg/bucket_0, staging/exp_avg_sq/bucket_0) -> staging/master/bucket_0', staging/exp_avg/bucket_0', staging/exp_avg_sq/bucket_0'
copy_to_device/param/bucket_0(staging/master/bucket_0') -> param/bucket_0'
write/bucket_0(staging/master/bucket_0', staging/exp_avg/bucket_0', staging/exp_avg_sq/bucket_0') -> master/bucket_0', exp_avg/bucket_0', exp_avg_sq/bucket_0'
copy_to_host/grad/bucket_1(grad/bucket_1) -> host_grad/bucket_1
read/bucket_1(master/bucket_1, exp_avg/bucket_1, exp_avg_sq/bucket_1) -> staging/master/bucket_1, staging/exp_avg/bucket_1, staging/exp_avg_sq/bucket_1 after write/bucket_0
adamw/bucket_1(staging/master/bucket_1, host_grad/bucket_1, staging/exp_avg/bucket_1, staging/exp_avg_sq/bucket_1) -> staging/master/bucket_1', staging/exp_avg/bucket_1', staging/exp_avg_sq/bucket_1'
copy_to_device/param/bucket_1(staging/master/bucket_1') -> param/bucket_1'
write/bucket_1(staging/master/bucket_1', staging/exp_avg/bucket_1', staging/exp_avg_sq/bucket_1') -> master/bucket_1', exp_avg/bucket_1', exp_avg_sq/bucket_1'
)");
}

TEST(Offload, MicroBatchesAreAddedUpOnTheHost) {
  EXPECT_EQ(After(Offloaded({.world_size = 2, .zero_stage = 2, .accumulation = 2}),
                  {"copy_to_host", "accumulate"}),
            R"(copy_to_host/grad/bucket_0/0(grad/bucket_0/0) -> host_grad/bucket_0
copy_to_host/grad/bucket_0/1(grad/bucket_0/1) -> host_grad/bucket_0/1
accumulate/bucket_0/1(host_grad/bucket_0, host_grad/bucket_0/1) -> host_grad/bucket_0/sum_1
)");
}

TEST(Offload, ADelayedUpdateUsesWhatTheStepBeforeLeft) {
  LowerOptions options = Offloaded({.clip_norm = 1});
  options.offload.delayed = true;
  EXPECT_EQ(After(options, {"copy_to", "adamw", "norm", "clip"}),
            R"(grad_norm/bucket_0(host_grad/bucket_0) -> norm/bucket_0
norm_sum(norm/bucket_0) -> norm
clip_coefficient(norm) -> clip
adamw/bucket_0(master/bucket_0, host_grad/bucket_0, exp_avg/bucket_0, exp_avg_sq/bucket_0, clip) -> master/bucket_0', exp_avg/bucket_0', exp_avg_sq/bucket_0'
copy_to_device/param/bucket_0(master/bucket_0') -> param/bucket_0'
copy_to_host/grad/bucket_0(grad/bucket_0) -> host_grad/bucket_0'
)");
}

TEST(Offload, ARatioMovesBucketsFromTheLastStageOn) {
  EXPECT_EQ(OffloadedBuckets({{.numel = 50}, {.numel = 30}, {.numel = 20}}, 0.5),
            (std::vector<bool>{true, false, false}));
  EXPECT_EQ(OffloadedBuckets({{.numel = 50}, {.numel = 30}, {.numel = 20}}, 0.6),
            (std::vector<bool>{true, true, false}));
  EXPECT_EQ(OffloadedBuckets({{.numel = 50}, {.numel = 30}, {.numel = 20}}, 1),
            (std::vector<bool>{true, true, true}));
}

TEST(Offload, WithoutItTheStepStaysAsItIs) {
  const PassText text = TextAround("offload", MakeFakeModel(), {});
  EXPECT_EQ(text.before, text.after);
}

}  // namespace
}  // namespace millrace
