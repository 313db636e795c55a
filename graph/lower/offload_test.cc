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
  EXPECT_EQ(After(Offloaded({.world_size = 2, .zero_stage = 2}), {"bucket_0"}), "");
}

TEST(Offload, ParametersOnTheHostAreCopiedInBeforeTheyAreGathered) {
  LowerOptions options = Offloaded({.world_size = 2, .zero_stage = 3});
  options.offload.parameters = Tier::kHost;
  EXPECT_EQ(After(options, {"copy", "gather", "adamw"}), "");
}

TEST(Offload, OnOneRankTheCopyIsTheGather) {
  LowerOptions options = Offloaded({.zero_stage = 3});
  options.offload.parameters = Tier::kHost;
  EXPECT_EQ(After(options, {"copy", "gather", "adamw"}), "");
}

TEST(Offload, StatesOnStorageAreStagedAroundTheUpdate) {
  LowerOptions options = Offloaded({.reduce_bucket_bytes = 1});
  options.offload.optimizer = Tier::kStorage;
  options.offload.staging_buckets = 1;
  EXPECT_EQ(After(options, {"read", "write", "adamw", "copy"}), "");
}

TEST(Offload, MicroBatchesAreAddedUpOnTheHost) {
  EXPECT_EQ(After(Offloaded({.world_size = 2, .zero_stage = 2, .accumulation = 2}),
                  {"copy_to_host", "accumulate"}),
            "");
}

TEST(Offload, ADelayedUpdateUsesWhatTheStepBeforeLeft) {
  LowerOptions options = Offloaded({.clip_norm = 1});
  options.offload.delayed = true;
  EXPECT_EQ(After(options, {"copy_to_host", "adamw", "norm", "clip"}), "");
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
