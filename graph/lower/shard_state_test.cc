#include "graph/lower/shard_state.h"

#include <gtest/gtest.h>

#include "graph/lower/testing/fake_model.h"
#include "graph/lower/testing/pass_text.h"

namespace millrace {
namespace {

PassText OneStage(LowerOptions options) {
  options.world_size = 2;
  return TextAround("shard_state", MakeFakeModel({.stages = 1}), options);
}

TEST(ShardState, OneRankStaysAsItIs) {
  const PassText text =
      TextAround("shard_state", MakeFakeModel(), {.zero_stage = 3, .accumulation = 2});
  EXPECT_EQ(text.before, text.after);
}

TEST(ShardState, Stage0SumsGradientsInPlace) {
  const PassText text = OneStage({.zero_stage = 0});
  EXPECT_EQ(text.before, R"(load_batch/0() -> images/0, labels/0
forward/a/0(images/0, labels/0, param/bucket_0) -> loss/0, logits/0, saved/a/0
backward/a/0(images/0, labels/0, saved/a/0, param/bucket_0) -> grad/bucket_0/a/0
join/bucket_0/0(grad/bucket_0/a/0) -> grad/bucket_0
adamw/bucket_0(param/bucket_0, grad/bucket_0, exp_avg/bucket_0, exp_avg_sq/bucket_0) -> param/bucket_0', exp_avg/bucket_0', exp_avg_sq/bucket_0'
)");
  EXPECT_EQ(text.after, R"(load_batch/0() -> images/0, labels/0
forward/a/0(images/0, labels/0, param/bucket_0) -> loss/0, logits/0, saved/a/0
backward/a/0(images/0, labels/0, saved/a/0, param/bucket_0) -> grad/bucket_0/a/0
all_reduce/bucket_0/0(grad/bucket_0/a/0) -> grad/bucket_0
adamw/bucket_0(param/bucket_0, grad/bucket_0, exp_avg/bucket_0, exp_avg_sq/bucket_0) -> param/bucket_0', exp_avg/bucket_0', exp_avg_sq/bucket_0'
)");
}

TEST(ShardState, Stage1UpdatesItsOwnShardAndGathersIt) {
  EXPECT_EQ(OneStage({.zero_stage = 1}).after, R"(load_batch/0() -> images/0, labels/0
forward/a/0(images/0, labels/0, param/bucket_0) -> loss/0, logits/0, saved/a/0
backward/a/0(images/0, labels/0, saved/a/0, param/bucket_0) -> grad/bucket_0/a/0
reduce_scatter/bucket_0/0(grad/bucket_0/a/0) -> grad/bucket_0
adamw/bucket_0(param/bucket_0/own, grad/bucket_0, exp_avg/bucket_0, exp_avg_sq/bucket_0) -> param/bucket_0/own', exp_avg/bucket_0', exp_avg_sq/bucket_0'
all_gather/bucket_0/update(param/bucket_0/own') -> param/bucket_0'
)");
}

TEST(ShardState, Stage2HasTheTextOfStage1ButTransientGradients) {
  EXPECT_EQ(OneStage({.zero_stage = 2}).after, OneStage({.zero_stage = 1}).after);
  const auto graph = Lower(MakeFakeModel({.stages = 1}), {.world_size = 2, .zero_stage = 2});
  ASSERT_TRUE(graph.ok()) << graph.status();
  EXPECT_EQ(Lines(BufferListing(*graph), {"grad"}),
            "grad/bucket_0/0 256 B gradient\n"
            "grad/bucket_0 128 B gradient, persistent\n");
}

TEST(ShardState, ParametersOf16BitsAreGatheredIn16BitsAndTheirMastersSharded) {
  const ModelSpec half = MakeFakeModel({.stages = 1, .dtype = DType::kBF16});
  const LowerOptions options = {.world_size = 2, .zero_stage = 2, .reduce_dtype = DType::kBF16};
  EXPECT_EQ(Lines(TextAround("shard_state", half, options).after, {"adamw", "all_gather"}),
            "adamw/bucket_0(master/bucket_0, grad/bucket_0, exp_avg/bucket_0, exp_avg_sq/bucket_0) "
            "-> master/bucket_0', exp_avg/bucket_0', exp_avg_sq/bucket_0', param/bucket_0/own'\n"
            "all_gather/bucket_0/update(param/bucket_0/own') -> param/bucket_0'\n");
  const auto graph = Lower(half, options);
  ASSERT_TRUE(graph.ok()) << graph.status();
  EXPECT_EQ(Lines(BufferListing(*graph), {"persistent"}),
            "param/bucket_0 128 B parameter, persistent\n"
            "master/bucket_0 128 B optimizer_state, persistent\n"
            "exp_avg/bucket_0 128 B optimizer_state, persistent\n"
            "exp_avg_sq/bucket_0 128 B optimizer_state, persistent\n"
            "grad/bucket_0 64 B gradient, persistent\n");
}

// 16 bytes at stage 0; 4 + 12/N; 2 + 14/N; 16/N.
TEST(ShardState, BytesPerParameterAreThoseOfMixedPrecisionAdam) {
  const ModelSpec half = MakeFakeModel({.params = {{64, 64}}, .dtype = DType::kBF16});
  for (int ranks : {2, 4, 8}) {
    for (int stage = 0; stage < 4; ++stage) {
      const auto graph =
          Lower(half, {.world_size = ranks, .zero_stage = stage, .reduce_dtype = DType::kBF16});
      ASSERT_TRUE(graph.ok()) << graph.status();
      int64_t bytes = 0;
      for (const Buffer& b : graph->buffers()) bytes += b.persistent ? b.bytes : 0;
      const int64_t n = half.parameter_count();
      const int64_t whole = stage == 0 ? 16 : stage == 1 ? 4 : stage == 2 ? 2 : 0;
      EXPECT_EQ(bytes, whole * n + (16 - whole) * n / ranks) << ranks << " ranks, stage " << stage;
    }
  }
}

TEST(ShardState, Stage3GathersBeforeUseAndKeepsTheHeadForItsBackward) {
  EXPECT_EQ(OneStage({.zero_stage = 3}).after, R"(load_batch/0() -> images/0, labels/0
all_gather/bucket_0/forward/0(param/bucket_0) -> gathered/bucket_0/forward/0
forward/a/0(images/0, labels/0, gathered/bucket_0/forward/0) -> loss/0, logits/0, saved/a/0
backward/a/0(images/0, labels/0, saved/a/0, gathered/bucket_0/forward/0) -> grad/bucket_0/a/0
reduce_scatter/bucket_0/0(grad/bucket_0/a/0) -> grad/bucket_0
adamw/bucket_0(param/bucket_0, grad/bucket_0, exp_avg/bucket_0, exp_avg_sq/bucket_0) -> param/bucket_0', exp_avg/bucket_0', exp_avg_sq/bucket_0'
)");
}

TEST(ShardState, Stage3GathersAgainForBackwardOnlyWhatWasReleased) {
  const PassText text = TextAround("shard_state", MakeFakeModel(),
                                   {.world_size = 2, .zero_stage = 3, .reduce_bucket_bytes = 148});
  EXPECT_EQ(Lines(text.after, {"all_gather", "forward/", "backward/"}),
            R"(all_gather/bucket_2/forward/0(param/bucket_2) -> gathered/bucket_2/forward/0
forward/a/0(images/0, gathered/bucket_2/forward/0) -> act/a/0, saved/a/0
all_gather/bucket_1/forward/0(param/bucket_1) -> gathered/bucket_1/forward/0
forward/b/0(act/a/0, gathered/bucket_1/forward/0) -> act/b/0, saved/b/0
all_gather/bucket_0/forward/0(param/bucket_0) -> gathered/bucket_0/forward/0
forward/c/0(act/b/0, labels/0, gathered/bucket_0/forward/0) -> loss/0, logits/0, saved/c/0
backward/c/0(act/b/0, labels/0, saved/c/0, gathered/bucket_0/forward/0) -> dact/b/0, grad/bucket_0/c/0
all_gather/bucket_1/backward/0(param/bucket_1) -> gathered/bucket_1/backward/0
backward/b/0(act/a/0, saved/b/0, dact/b/0, gathered/bucket_1/backward/0) -> dact/a/0, grad/bucket_1/b/0
all_gather/bucket_2/backward/0(param/bucket_2) -> gathered/bucket_2/backward/0
backward/a/0(images/0, saved/a/0, dact/a/0, gathered/bucket_2/backward/0) -> grad/bucket_2/a/0
)");
}

TEST(ShardState, NeighboursShareOneGatherOfTheirBucket) {
  const PassText text =
      TextAround("shard_state", MakeFakeModel({.stages = 4}),
                 {.world_size = 2, .zero_stage = 3, .reduce_bucket_bytes = 296, .accumulation = 2});
  EXPECT_EQ(Lines(text.after, {"all_gather"}),
            R"(all_gather/bucket_1/forward/0(param/bucket_1) -> gathered/bucket_1/forward/0
all_gather/bucket_0/forward/0(param/bucket_0) -> gathered/bucket_0/forward/0
all_gather/bucket_1/backward/0(param/bucket_1) -> gathered/bucket_1/backward/0
all_gather/bucket_1/forward/1(param/bucket_1) -> gathered/bucket_1/forward/1
all_gather/bucket_0/forward/1(param/bucket_0) -> gathered/bucket_0/forward/1
all_gather/bucket_1/backward/1(param/bucket_1) -> gathered/bucket_1/backward/1
)");
}

TEST(ShardState, KeepGatheredGathersOncePerStep) {
  const PassText text = TextAround("shard_state", MakeFakeModel({.stages = 4}),
                                   {.world_size = 2,
                                    .zero_stage = 3,
                                    .reduce_bucket_bytes = 296,
                                    .accumulation = 3,
                                    .policy = AccumulationPolicy::kKeepGathered});
  EXPECT_EQ(Lines(text.after, {"all_gather"}),
            R"(all_gather/bucket_1/forward/0(param/bucket_1) -> gathered/bucket_1/forward/0
all_gather/bucket_0/forward/0(param/bucket_0) -> gathered/bucket_0/forward/0
)");
}

TEST(ShardState, ReduceEachAddsUpSumsOverTheRanks) {
  const std::string text = OneStage({.zero_stage = 2, .accumulation = 2}).after;
  EXPECT_EQ(Lines(text, {"reduce_scatter", "accumulate", "join"}),
            R"(reduce_scatter/bucket_0/0(grad/bucket_0/a/0) -> grad/bucket_0/0
reduce_scatter/bucket_0/1(grad/bucket_0/a/1) -> grad/bucket_0/1
accumulate/bucket_0/1(grad/bucket_0/0, grad/bucket_0/1) -> grad/bucket_0
)");
}

TEST(ShardState, ReduceLastReducesTheSumOfTheMicroBatches) {
  const std::string text =
      OneStage({.zero_stage = 2, .accumulation = 2, .policy = AccumulationPolicy::kReduceLast})
          .after;
  EXPECT_EQ(Lines(text, {"reduce_scatter", "accumulate", "join"}),
            R"(join/bucket_0/0(grad/bucket_0/a/0) -> grad/bucket_0/0
join/bucket_0/1(grad/bucket_0/a/1) -> grad/bucket_0/1
accumulate/bucket_0/1(grad/bucket_0/0, grad/bucket_0/1) -> grad/bucket_0/sum_1
reduce_scatter/bucket_0/1(grad/bucket_0/sum_1) -> grad/bucket_0
)");
}

TEST(ShardState, NormOfShardsIsGathered) {
  const std::string text = OneStage({.zero_stage = 1, .clip_norm = 1}).after;
  EXPECT_EQ(Lines(text, {"norm", "clip_coefficient"}),
            R"(grad_norm/bucket_0(grad/bucket_0) -> norm/bucket_0
norm_sum(norm/bucket_0) -> norm
all_gather/norm(norm) -> norm/gathered
clip_coefficient(norm/gathered) -> clip
)");
  EXPECT_EQ(Lines(OneStage({.zero_stage = 0, .clip_norm = 1}).after, {"all_gather"}), "");
}

}  // namespace
}  // namespace millrace
