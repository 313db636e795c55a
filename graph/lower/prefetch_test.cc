#include "graph/lower/prefetch.h"

#include <gtest/gtest.h>

#include "graph/lower/testing/fake_model.h"
#include "graph/lower/testing/pass_text.h"

namespace millrace {
namespace {

PassText ThreeStages(LowerOptions options) {
  options.world_size = 2;
  options.zero_stage = 3;
  options.reduce_bucket_bytes = 148;  // a bucket per stage
  PassText text = TextAround("prefetch", MakeFakeModel(), options);
  const std::vector<std::string> words = {"all_gather", "forward/", "backward/"};
  return {Lines(text.before, words), Lines(text.after, words)};
}

TEST(Prefetch, GathersOneBucketAhead) {
  const PassText text = ThreeStages({.prefetch_depth = 1});
  EXPECT_EQ(text.before,
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
  EXPECT_EQ(text.after,
            R"(all_gather/bucket_2/forward/0(param/bucket_2) -> gathered/bucket_2/forward/0
all_gather/bucket_1/forward/0(param/bucket_1) -> gathered/bucket_1/forward/0
forward/a/0(images/0, gathered/bucket_2/forward/0) -> act/a/0, saved/a/0
all_gather/bucket_0/forward/0(param/bucket_0) -> gathered/bucket_0/forward/0 after forward/a/0
forward/b/0(act/a/0, gathered/bucket_1/forward/0) -> act/b/0, saved/b/0
all_gather/bucket_1/backward/0(param/bucket_1) -> gathered/bucket_1/backward/0 after forward/b/0
forward/c/0(act/b/0, labels/0, gathered/bucket_0/forward/0) -> loss/0, logits/0, saved/c/0
backward/c/0(act/b/0, labels/0, saved/c/0, gathered/bucket_0/forward/0) -> dact/b/0, grad/bucket_0/c/0
all_gather/bucket_2/backward/0(param/bucket_2) -> gathered/bucket_2/backward/0 after backward/c/0
backward/b/0(act/a/0, saved/b/0, dact/b/0, gathered/bucket_1/backward/0) -> dact/a/0, grad/bucket_1/b/0
backward/a/0(images/0, saved/a/0, dact/a/0, gathered/bucket_2/backward/0) -> grad/bucket_2/a/0
)");
}

TEST(Prefetch, DepthZeroGathersRightBeforeUse) {
  EXPECT_EQ(ThreeStages({.prefetch_depth = 0}).after,
            R"(all_gather/bucket_2/forward/0(param/bucket_2) -> gathered/bucket_2/forward/0
forward/a/0(images/0, gathered/bucket_2/forward/0) -> act/a/0, saved/a/0
all_gather/bucket_1/forward/0(param/bucket_1) -> gathered/bucket_1/forward/0 after forward/a/0
forward/b/0(act/a/0, gathered/bucket_1/forward/0) -> act/b/0, saved/b/0
all_gather/bucket_0/forward/0(param/bucket_0) -> gathered/bucket_0/forward/0 after forward/b/0
forward/c/0(act/b/0, labels/0, gathered/bucket_0/forward/0) -> loss/0, logits/0, saved/c/0
backward/c/0(act/b/0, labels/0, saved/c/0, gathered/bucket_0/forward/0) -> dact/b/0, grad/bucket_0/c/0
all_gather/bucket_1/backward/0(param/bucket_1) -> gathered/bucket_1/backward/0 after backward/c/0
backward/b/0(act/a/0, saved/b/0, dact/b/0, gathered/bucket_1/backward/0) -> dact/a/0, grad/bucket_1/b/0
all_gather/bucket_2/backward/0(param/bucket_2) -> gathered/bucket_2/backward/0 after backward/b/0
backward/a/0(images/0, saved/a/0, dact/a/0, gathered/bucket_2/backward/0) -> grad/bucket_2/a/0
)");
}

TEST(Prefetch, WithoutOverlapTheDepthIsZero) {
  EXPECT_EQ(ThreeStages({.prefetch_depth = 2, .overlap = false}).after,
            ThreeStages({.prefetch_depth = 0}).after);
}

TEST(Prefetch, BytesLessenTheDepth) {
  // A gathered bucket has 64 x 4 bytes.
  EXPECT_EQ(ThreeStages({.prefetch_depth = 2, .prefetch_bytes = 511}).after,
            ThreeStages({.prefetch_depth = 1}).after);
  EXPECT_EQ(ThreeStages({.prefetch_depth = 2, .prefetch_bytes = 512}).after,
            ThreeStages({.prefetch_depth = 2}).after);
  EXPECT_EQ(ThreeStages({.prefetch_depth = 2, .prefetch_bytes = 255}).after,
            ThreeStages({.prefetch_depth = 0}).after);
}

TEST(Prefetch, BucketsOfOneStageCountAsOne) {
  const PassText text = TextAround("prefetch", MakeFakeModel(),
                                   {.world_size = 2, .zero_stage = 3, .reduce_bucket_bytes = 10});
  EXPECT_EQ(Lines(text.after, {"all_gather/bucket_3/f", "all_gather/bucket_2/f", "forward/a/0("}),
            R"(all_gather/bucket_3/forward/0(param/bucket_3) -> gathered/bucket_3/forward/0
all_gather/bucket_2/forward/0(param/bucket_2) -> gathered/bucket_2/forward/0
forward/a/0(images/0, gathered/bucket_5/forward/0, gathered/bucket_4/forward/0) -> act/a/0, saved/a/0
)");
}

}  // namespace
}  // namespace millrace
