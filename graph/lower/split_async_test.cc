#include "graph/lower/split_async.h"

#include <gtest/gtest.h>

#include "graph/lower/testing/fake_model.h"
#include "graph/lower/testing/pass_text.h"

namespace millrace {
namespace {

TEST(SplitAsync, StartsReductionsBehindBackwardAndEndsThemBeforeTheUpdate) {
  const PassText text = TextAround("split_async", MakeFakeModel(),
                                   {.world_size = 2, .zero_stage = 0, .reduce_bucket_bytes = 148});
  EXPECT_EQ(text.before, R"(load_batch/0() -> images/0, labels/0
forward/a/0(images/0, param/bucket_2) -> act/a/0, saved/a/0
forward/b/0(act/a/0, param/bucket_1) -> act/b/0, saved/b/0
forward/c/0(act/b/0, labels/0, param/bucket_0) -> loss/0, logits/0, saved/c/0
backward/c/0(act/b/0, labels/0, saved/c/0, param/bucket_0) -> dact/b/0, grad/bucket_0/c/0
all_reduce/bucket_0/0(grad/bucket_0/c/0) -> grad/bucket_0
backward/b/0(act/a/0, saved/b/0, dact/b/0, param/bucket_1) -> dact/a/0, grad/bucket_1/b/0
all_reduce/bucket_1/0(grad/bucket_1/b/0) -> grad/bucket_1
backward/a/0(images/0, saved/a/0, dact/a/0, param/bucket_2) -> grad/bucket_2/a/0
all_reduce/bucket_2/0(grad/bucket_2/a/0) -> grad/bucket_2
adamw/bucket_0(param/bucket_0, grad/bucket_0, exp_avg/bucket_0, exp_avg_sq/bucket_0) -> param/bucket_0', exp_avg/bucket_0', exp_avg_sq/bucket_0'
adamw/bucket_1(param/bucket_1, grad/bucket_1, exp_avg/bucket_1, exp_avg_sq/bucket_1) -> param/bucket_1', exp_avg/bucket_1', exp_avg_sq/bucket_1'
adamw/bucket_2(param/bucket_2, grad/bucket_2, exp_avg/bucket_2, exp_avg_sq/bucket_2) -> param/bucket_2', exp_avg/bucket_2', exp_avg_sq/bucket_2'
)");
  EXPECT_EQ(text.after, R"(load_batch/0() -> images/0, labels/0
forward/a/0(images/0, param/bucket_2) -> act/a/0, saved/a/0
forward/b/0(act/a/0, param/bucket_1) -> act/b/0, saved/b/0
forward/c/0(act/b/0, labels/0, param/bucket_0) -> loss/0, logits/0, saved/c/0
backward/c/0(act/b/0, labels/0, saved/c/0, param/bucket_0) -> dact/b/0, grad/bucket_0/c/0
all_reduce/bucket_0/0.start(grad/bucket_0/c/0)
backward/b/0(act/a/0, saved/b/0, dact/b/0, param/bucket_1) -> dact/a/0, grad/bucket_1/b/0
all_reduce/bucket_1/0.start(grad/bucket_1/b/0)
backward/a/0(images/0, saved/a/0, dact/a/0, param/bucket_2) -> grad/bucket_2/a/0
all_reduce/bucket_2/0.start(grad/bucket_2/a/0)
all_reduce/bucket_0/0.done() -> grad/bucket_0
adamw/bucket_0(param/bucket_0, grad/bucket_0, exp_avg/bucket_0, exp_avg_sq/bucket_0) -> param/bucket_0', exp_avg/bucket_0', exp_avg_sq/bucket_0'
all_reduce/bucket_1/0.done() -> grad/bucket_1
adamw/bucket_1(param/bucket_1, grad/bucket_1, exp_avg/bucket_1, exp_avg_sq/bucket_1) -> param/bucket_1', exp_avg/bucket_1', exp_avg_sq/bucket_1'
all_reduce/bucket_2/0.done() -> grad/bucket_2
adamw/bucket_2(param/bucket_2, grad/bucket_2, exp_avg/bucket_2, exp_avg_sq/bucket_2) -> param/bucket_2', exp_avg/bucket_2', exp_avg_sq/bucket_2'
)");
}

TEST(SplitAsync, WhoWaitedForTheCollectiveWaitsForItsDone) {
  const PassText text = TextAround("split_async", MakeFakeModel(),
                                   {.world_size = 2, .zero_stage = 3, .reduce_bucket_bytes = 148});
  EXPECT_EQ(Lines(text.after, {"all_gather", "forward/", "backward/", "reduce_scatter"}),
            R"(all_gather/bucket_2/forward/0.start(param/bucket_2)
all_gather/bucket_1/forward/0.start(param/bucket_1)
all_gather/bucket_2/forward/0.done() -> gathered/bucket_2/forward/0
forward/a/0(images/0, gathered/bucket_2/forward/0) -> act/a/0, saved/a/0
all_gather/bucket_0/forward/0.start(param/bucket_0) after forward/a/0
all_gather/bucket_1/forward/0.done() -> gathered/bucket_1/forward/0
forward/b/0(act/a/0, gathered/bucket_1/forward/0) -> act/b/0, saved/b/0
all_gather/bucket_1/backward/0.start(param/bucket_1) after forward/b/0
all_gather/bucket_0/forward/0.done() -> gathered/bucket_0/forward/0
forward/c/0(act/b/0, labels/0, gathered/bucket_0/forward/0) -> loss/0, logits/0, saved/c/0
backward/c/0(act/b/0, labels/0, saved/c/0, gathered/bucket_0/forward/0) -> dact/b/0, grad/bucket_0/c/0
all_gather/bucket_2/backward/0.start(param/bucket_2) after backward/c/0
reduce_scatter/bucket_0/0.start(grad/bucket_0/c/0)
all_gather/bucket_1/backward/0.done() -> gathered/bucket_1/backward/0
backward/b/0(act/a/0, saved/b/0, dact/b/0, gathered/bucket_1/backward/0) -> dact/a/0, grad/bucket_1/b/0
reduce_scatter/bucket_1/0.start(grad/bucket_1/b/0)
all_gather/bucket_2/backward/0.done() -> gathered/bucket_2/backward/0
reduce_scatter/bucket_0/0.done() -> grad/bucket_0
backward/a/0(images/0, saved/a/0, dact/a/0, gathered/bucket_2/backward/0) -> grad/bucket_2/a/0 after reduce_scatter/bucket_0/0.done
reduce_scatter/bucket_2/0.start(grad/bucket_2/a/0)
reduce_scatter/bucket_1/0.done() -> grad/bucket_1
reduce_scatter/bucket_2/0.done() -> grad/bucket_2
)");
}

TEST(SplitAsync, NothingToHideBehindStaysWhole) {
  // One bucket: nothing runs between the last backward, the reduction and the only update.
  const PassText text =
      TextAround("split_async", MakeFakeModel(), {.world_size = 2, .zero_stage = 1});
  EXPECT_EQ(text.before, text.after);
}

TEST(SplitAsync, WithoutOverlapNothingIsSplit) {
  const PassText text =
      TextAround("split_async", MakeFakeModel(),
                 {.world_size = 2, .zero_stage = 3, .reduce_bucket_bytes = 148, .overlap = false});
  EXPECT_EQ(text.before, text.after);
}

}  // namespace
}  // namespace millrace
