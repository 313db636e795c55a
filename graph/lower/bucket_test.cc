#include "graph/lower/bucket.h"

#include <gtest/gtest.h>

#include "graph/lower/bucket_layout.h"
#include "graph/lower/testing/fake_model.h"
#include "graph/lower/testing/pass_text.h"

namespace millrace {
namespace {

// "bucket_0[96]: a.0@0 a.1@32 ...": stage.parameter@offset.
std::string Layout(const ModelSpec& spec, int64_t bytes, int ranks) {
  const auto buckets = LayoutBuckets(spec, bytes, ranks);
  if (!buckets.ok()) return buckets.status().ToString();
  std::string text;
  for (const Bucket& b : *buckets) {
    absl::StrAppend(&text, b.name, "[", b.numel, "]:");
    for (const ParamSlot& s : b.slots) {
      absl::StrAppend(&text, " ", spec.stages[s.stage].name, ".", s.param, "@", s.offset);
    }
    text += "\n";
  }
  return text;
}

TEST(Bucket, ReplacesParametersAndGradientsOfEveryStage) {
  const PassText text =
      TextAround("bucket", MakeFakeModel({.stages = 2}), {.reduce_bucket_bytes = 148});
  EXPECT_EQ(text.before, R"(load_batch/0() -> images/0, labels/0
forward/a/0(images/0, param/a) -> act/a/0, saved/a/0
forward/b/0(act/a/0, labels/0, param/b) -> loss/0, logits/0, saved/b/0
backward/b/0(act/a/0, labels/0, saved/b/0, param/b) -> dact/a/0, grad/b/0
backward/a/0(images/0, saved/a/0, dact/a/0, param/a) -> grad/a/0
)");
  EXPECT_EQ(text.after, R"(load_batch/0() -> images/0, labels/0
forward/a/0(images/0, param/bucket_1) -> act/a/0, saved/a/0
forward/b/0(act/a/0, labels/0, param/bucket_0) -> loss/0, logits/0, saved/b/0
backward/b/0(act/a/0, labels/0, saved/b/0, param/bucket_0) -> dact/a/0, grad/bucket_0/b/0
backward/a/0(images/0, saved/a/0, dact/a/0, param/bucket_1) -> grad/bucket_1/a/0
)");
}

TEST(Bucket, FillsFromTheLastStageAndAlignsTo16Elements) {
  EXPECT_EQ(Layout(MakeFakeModel(), 200, 1),
            "bucket_0[96]: b.0@0 b.1@32 c.0@48 c.1@80\n"
            "bucket_1[48]: a.0@0 a.1@32\n");
}

TEST(Bucket, EndIsPaddedTo16ElementsPerRank) {
  EXPECT_EQ(Layout(MakeFakeModel(), 200, 4),
            "bucket_0[128]: b.0@0 b.1@32 c.0@48 c.1@80\n"
            "bucket_1[64]: a.0@0 a.1@32\n");
}

TEST(Bucket, StageLargerThanTheLimitIsSplitBetweenItsParameters) {
  EXPECT_EQ(Layout(MakeFakeModel({.stages = 1}), 16, 1),
            "bucket_0[16]: a.1@0\n"
            "bucket_1[32]: a.0@0\n");
}

TEST(Bucket, SlicesOfTheStagesTileTheBucket) {
  const auto buckets = LayoutBuckets(MakeFakeModel(), 1000, 4);
  ASSERT_TRUE(buckets.ok());
  ASSERT_EQ(buckets->size(), 1u);
  EXPECT_EQ((*buckets)[0].numel, 192);
  int64_t end = 0;
  for (int stage = 0; stage < 3; ++stage) {
    const Slice slice = SliceOf((*buckets)[0], stage);
    EXPECT_EQ(slice.offset, end);
    end += slice.numel;
  }
  EXPECT_EQ(end, 192);
}

TEST(Bucket, TwoElementTypesAreAnError) {
  ModelSpec spec = MakeFakeModel();
  spec.stages[1].params[0].dtype = DType::kF16;
  EXPECT_NE(Layout(spec, 100, 1).find("'b.p0' is f16, 'a.p0' is f32"), std::string::npos);
}

}  // namespace
}  // namespace millrace
