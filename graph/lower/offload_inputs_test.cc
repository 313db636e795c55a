#include "graph/lower/offload_inputs.h"

#include <gtest/gtest.h>

#include "graph/lower/testing/fake_model.h"
#include "graph/lower/testing/pass_text.h"

namespace millrace {
namespace {

LowerOptions Named(std::vector<std::string> stages) {
  LowerOptions options;
  options.recompute.stages = std::move(stages);
  options.recompute.offload_inputs = true;
  return options;
}

TEST(OffloadInputs, WaitOnTheHostAndComeBackOneStageAhead) {
  EXPECT_EQ(TextAround("offload_inputs", MakeFakeModel(), Named({"b"})).after,
            R"(load_batch/0() -> images/0, labels/0
forward/a/0(images/0, param/a) -> act/a/0, saved/a/0
forward/b/0(act/a/0, param/b) -> act/b/0
copy_to_host/act/a/0(act/a/0) -> host_act/a/0
forward/c/0(act/b/0, labels/0, param/c) -> loss/0, logits/0, saved/c/0
copy_to_device/act/a/0(host_act/a/0) -> back/a/0 after forward/c/0
backward/c/0(act/b/0, labels/0, saved/c/0, param/c) -> dact/b/0, grad/c/0
recompute/b/0(back/a/0, param/b) -> again/b/0, saved/b/0 after backward/c/0
backward/b/0(back/a/0, saved/b/0, dact/b/0, param/b) -> dact/a/0, grad/b/0
backward/a/0(images/0, saved/a/0, dact/a/0, param/a) -> grad/a/0
)");
}

TEST(OffloadInputs, TheBatchStays) {
  const PassText text = TextAround("offload_inputs", MakeFakeModel(), Named({"a"}));
  EXPECT_EQ(text.before, text.after);
}

}  // namespace
}  // namespace millrace
