#include "graph/lower/accumulate.h"

#include <gtest/gtest.h>

#include "graph/lower/testing/fake_model.h"
#include "graph/lower/testing/pass_text.h"

namespace millrace {
namespace {

TEST(Accumulate, JoinsSlicesAndAddsMicroBatchesInOrder) {
  const PassText text = TextAround("accumulate", MakeFakeModel({.stages = 2}), {.accumulation = 2});
  const std::vector<std::string> words = {"backward/b", "-> grad", "join", "accumulate"};
  EXPECT_EQ(
      Lines(text.before, words),
      R"(backward/b/0(act/a/0, labels/0, saved/b/0, param/bucket_0) -> dact/a/0, grad/bucket_0/b/0
backward/a/0(images/0, saved/a/0, dact/a/0, param/bucket_0) -> grad/bucket_0/a/0
backward/b/1(act/a/1, labels/1, saved/b/1, param/bucket_0) -> dact/a/1, grad/bucket_0/b/1
backward/a/1(images/1, saved/a/1, dact/a/1, param/bucket_0) -> grad/bucket_0/a/1
)");
  EXPECT_EQ(
      Lines(text.after, words),
      R"(backward/b/0(act/a/0, labels/0, saved/b/0, param/bucket_0) -> dact/a/0, grad/bucket_0/b/0
backward/a/0(images/0, saved/a/0, dact/a/0, param/bucket_0) -> grad/bucket_0/a/0
join/bucket_0/0(grad/bucket_0/a/0, grad/bucket_0/b/0) -> grad/bucket_0/0
backward/b/1(act/a/1, labels/1, saved/b/1, param/bucket_0) -> dact/a/1, grad/bucket_0/b/1
backward/a/1(images/1, saved/a/1, dact/a/1, param/bucket_0) -> grad/bucket_0/a/1
join/bucket_0/1(grad/bucket_0/a/1, grad/bucket_0/b/1) -> grad/bucket_0/1
accumulate/bucket_0/1(grad/bucket_0/0, grad/bucket_0/1) -> grad/bucket_0
)");
}

TEST(Accumulate, SumsBeforeTheLastHaveNamesOfTheirOwn) {
  const std::string text =
      TextAround("accumulate", MakeFakeModel({.stages = 1}), {.accumulation = 4}).after;
  EXPECT_EQ(Lines(text, {"accumulate"}),
            R"(accumulate/bucket_0/1(grad/bucket_0/0, grad/bucket_0/1) -> grad/bucket_0/sum_1
accumulate/bucket_0/2(grad/bucket_0/sum_1, grad/bucket_0/2) -> grad/bucket_0/sum_2
accumulate/bucket_0/3(grad/bucket_0/sum_2, grad/bucket_0/3) -> grad/bucket_0
)");
}

TEST(Accumulate, GradientsOf16BitsAreWidenedBeforeTheyAreAddedUnlessSumsAreToBeTheirs) {
  const ModelSpec half = MakeFakeModel({.stages = 1, .dtype = DType::kF16});
  const std::vector<std::string> words = {"join", "cast", "accumulate"};
  EXPECT_EQ(Lines(TextAround("accumulate", half, {.accumulation = 2}).after, words),
            R"(join/bucket_0/0(grad/bucket_0/a/0) -> grad/bucket_0/f16/0
cast/bucket_0/0(grad/bucket_0/f16/0) -> grad/bucket_0/0
join/bucket_0/1(grad/bucket_0/a/1) -> grad/bucket_0/f16/1
cast/bucket_0/1(grad/bucket_0/f16/1) -> grad/bucket_0/1
accumulate/bucket_0/1(grad/bucket_0/0, grad/bucket_0/1) -> grad/bucket_0
)");
  const LowerOptions narrow = {.accumulation = 2, .reduce_dtype = DType::kF16};
  EXPECT_EQ(Lines(TextAround("accumulate", half, narrow).after, words),
            R"(join/bucket_0/0(grad/bucket_0/a/0) -> grad/bucket_0/0
join/bucket_0/1(grad/bucket_0/a/1) -> grad/bucket_0/1
accumulate/bucket_0/1(grad/bucket_0/0, grad/bucket_0/1) -> grad/bucket_0
)");
}

TEST(Accumulate, OneMicroBatchOnlyJoins) {
  const std::string text = TextAround("accumulate", MakeFakeModel({.stages = 2}), {}).after;
  EXPECT_EQ(Lines(text, {"join", "accumulate"}),
            "join/bucket_0/0(grad/bucket_0/a/0, grad/bucket_0/b/0) -> grad/bucket_0\n");
}

}  // namespace
}  // namespace millrace
