#include "graph/lower/reduce_window.h"

#include <gtest/gtest.h>

#include "graph/lower/testing/fake_model.h"
#include "graph/lower/testing/pass_text.h"

namespace millrace {
namespace {

PassText Window(LowerOptions options) {
  options.world_size = 2;
  options.reduce_bucket_bytes = 148;  // a bucket per stage
  PassText text = TextAround("reduce_window", MakeFakeModel(), options);
  const std::vector<std::string> words = {"backward/", "reduce_scatter", "accumulate"};
  return {Lines(text.before, words), Lines(text.after, words)};
}

TEST(ReduceWindow, BackwardWaitsForTheGradientBeforeTheLast) {
  const PassText text = Window({.zero_stage = 2});
  EXPECT_EQ(
      text.before,
      R"(backward/c/0(act/b/0, labels/0, saved/c/0, param/bucket_0) -> dact/b/0, grad/bucket_0/c/0
reduce_scatter/bucket_0/0(grad/bucket_0/c/0) -> grad/bucket_0
backward/b/0(act/a/0, saved/b/0, dact/b/0, param/bucket_1) -> dact/a/0, grad/bucket_1/b/0
reduce_scatter/bucket_1/0(grad/bucket_1/b/0) -> grad/bucket_1
backward/a/0(images/0, saved/a/0, dact/a/0, param/bucket_2) -> grad/bucket_2/a/0
reduce_scatter/bucket_2/0(grad/bucket_2/a/0) -> grad/bucket_2
)");
  EXPECT_EQ(
      text.after,
      R"(backward/c/0(act/b/0, labels/0, saved/c/0, param/bucket_0) -> dact/b/0, grad/bucket_0/c/0
reduce_scatter/bucket_0/0(grad/bucket_0/c/0) -> grad/bucket_0
backward/b/0(act/a/0, saved/b/0, dact/b/0, param/bucket_1) -> dact/a/0, grad/bucket_1/b/0
reduce_scatter/bucket_1/0(grad/bucket_1/b/0) -> grad/bucket_1
backward/a/0(images/0, saved/a/0, dact/a/0, param/bucket_2) -> grad/bucket_2/a/0 after reduce_scatter/bucket_0/0
reduce_scatter/bucket_2/0(grad/bucket_2/a/0) -> grad/bucket_2
)");
}

TEST(ReduceWindow, WithoutOverlapItWaitsForTheLast) {
  const std::string text = Window({.zero_stage = 2, .overlap = false}).after;
  EXPECT_NE(text.find("grad/bucket_1/b/0 after reduce_scatter/bucket_0/0\n"), std::string::npos)
      << text;
}

TEST(ReduceWindow, AccumulateMovesDownToTheBackwardThatWaitsForIt) {
  EXPECT_EQ(
      Window({.zero_stage = 2, .accumulation = 2}).after,
      R"(backward/c/0(act/b/0, labels/0, saved/c/0, param/bucket_0) -> dact/b/0, grad/bucket_0/c/0
reduce_scatter/bucket_0/0(grad/bucket_0/c/0) -> grad/bucket_0/0
backward/b/0(act/a/0, saved/b/0, dact/b/0, param/bucket_1) -> dact/a/0, grad/bucket_1/b/0
reduce_scatter/bucket_1/0(grad/bucket_1/b/0) -> grad/bucket_1/0
backward/a/0(images/0, saved/a/0, dact/a/0, param/bucket_2) -> grad/bucket_2/a/0 after reduce_scatter/bucket_0/0
reduce_scatter/bucket_2/0(grad/bucket_2/a/0) -> grad/bucket_2/0
load_batch/1() -> images/1, labels/1 after backward/a/0
backward/c/1(act/b/1, labels/1, saved/c/1, param/bucket_0) -> dact/b/1, grad/bucket_0/c/1 after reduce_scatter/bucket_1/0, reduce_scatter/bucket_2/0
reduce_scatter/bucket_0/1(grad/bucket_0/c/1) -> grad/bucket_0/1
backward/b/1(act/a/1, saved/b/1, dact/b/1, param/bucket_1) -> dact/a/1, grad/bucket_1/b/1
reduce_scatter/bucket_1/1(grad/bucket_1/b/1) -> grad/bucket_1/1
accumulate/bucket_0/1(grad/bucket_0/0, grad/bucket_0/1) -> grad/bucket_0
backward/a/1(images/1, saved/a/1, dact/a/1, param/bucket_2) -> grad/bucket_2/a/1 after accumulate/bucket_0/1
reduce_scatter/bucket_2/1(grad/bucket_2/a/1) -> grad/bucket_2/1
accumulate/bucket_1/1(grad/bucket_1/0, grad/bucket_1/1) -> grad/bucket_1
accumulate/bucket_2/1(grad/bucket_2/0, grad/bucket_2/1) -> grad/bucket_2
)");
}

TEST(ReduceWindow, PersistentGradientsNeedNone) {
  const PassText text = Window({.zero_stage = 1});
  EXPECT_EQ(text.before, text.after);
}

}  // namespace
}  // namespace millrace
