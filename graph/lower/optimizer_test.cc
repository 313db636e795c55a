#include "graph/lower/optimizer.h"

#include <gtest/gtest.h>

#include "graph/lower/testing/fake_model.h"
#include "graph/lower/testing/pass_text.h"

namespace millrace {
namespace {

std::string Added(const LowerOptions& options) {
  const PassText text = TextAround("optimizer", MakeFakeModel({.stages = 2}), options);
  EXPECT_EQ(text.after.substr(0, text.before.size()), text.before);
  return text.after.substr(text.before.size());
}

TEST(OptimizerStep, ClipsByTheNormOfAllBucketsThenUpdatesEach) {
  EXPECT_EQ(Added({.reduce_bucket_bytes = 148, .clip_norm = 1}),
            R"(grad_norm/bucket_0(grad/bucket_0) -> norm/bucket_0
grad_norm/bucket_1(grad/bucket_1) -> norm/bucket_1
norm_sum(norm/bucket_0, norm/bucket_1) -> norm
clip_coefficient(norm) -> clip
adamw/bucket_0(param/bucket_0, grad/bucket_0, exp_avg/bucket_0, exp_avg_sq/bucket_0, clip) -> param/bucket_0', exp_avg/bucket_0', exp_avg_sq/bucket_0'
adamw/bucket_1(param/bucket_1, grad/bucket_1, exp_avg/bucket_1, exp_avg_sq/bucket_1, clip) -> param/bucket_1', exp_avg/bucket_1', exp_avg_sq/bucket_1'
)");
}

TEST(OptimizerStep, SgdHasMomentumOrNoState) {
  EXPECT_EQ(Added({.optimizer = OptimizerKind::kSgd}),
            "sgd/bucket_0(param/bucket_0, grad/bucket_0, momentum/bucket_0) -> param/bucket_0', "
            "momentum/bucket_0'\n");
  EXPECT_EQ(Added({.optimizer = OptimizerKind::kSgd, .momentum = false}),
            "sgd/bucket_0(param/bucket_0, grad/bucket_0) -> param/bucket_0'\n");
  EXPECT_EQ(Added({.optimizer = OptimizerKind::kAdam}).substr(0, 14), "adam/bucket_0(");
}

TEST(OptimizerStep, ParametersOf16BitsAreCopiesOfAMasterThatIsUpdated) {
  const ModelSpec half = MakeFakeModel({.stages = 2, .dtype = DType::kBF16});
  const auto lines = [&](LowerOptions options) {
    return Lines(TextAround("optimizer", half, options).after, {"adamw", "sgd"});
  };
  EXPECT_EQ(lines({}),
            "adamw/bucket_0(master/bucket_0, grad/bucket_0, exp_avg/bucket_0, exp_avg_sq/bucket_0) "
            "-> master/bucket_0', exp_avg/bucket_0', exp_avg_sq/bucket_0', param/bucket_0'\n");
  EXPECT_EQ(lines({.optimizer = OptimizerKind::kSgd, .momentum = false}),
            "sgd/bucket_0(master/bucket_0, grad/bucket_0) -> master/bucket_0', param/bucket_0'\n");
  for (const DType reduce : {DType::kF32, DType::kBF16}) {
    const auto graph = Lower(half, {.reduce_dtype = reduce});
    ASSERT_TRUE(graph.ok()) << graph.status();
    for (const char* state : {"master/bucket_0", "exp_avg/bucket_0", "exp_avg_sq/bucket_0"}) {
      EXPECT_EQ(graph->values()[graph->FindValue(state)].dtype, DType::kF32) << state;
    }
    EXPECT_EQ(graph->values()[graph->FindValue("param/bucket_0")].dtype, DType::kBF16);
    EXPECT_EQ(graph->values()[graph->FindValue("grad/bucket_0")].dtype, reduce);
  }
}

TEST(OptimizerStep, LossScaleIsReadByTheLastBackwardTakenOffByTheClipAndMovedOn) {
  LowerOptions options;
  options.loss_scale = LossScaleOptions();
  const std::string text =
      TextAround("optimizer", MakeFakeModel({.stages = 2, .dtype = DType::kF16}), options).after;
  EXPECT_EQ(Lines(text, {"loss_scale"}),
            "backward/b/0(act/a/0, labels/0, saved/b/0, loss_scale, param/bucket_0) -> dact/a/0, "
            "grad/bucket_0/b/0\n"
            "clip_coefficient(norm, loss_scale) -> clip\n"
            "update_loss_scale(clip, loss_scale) -> loss_scale'\n");
}

TEST(OptimizerStep, AdamMoves28BytesPerParameter) {
  const auto graph = Lower(MakeFakeModel({.stages = 2}), {});
  ASSERT_TRUE(graph.ok()) << graph.status();
  const Node& adamw = graph->nodes()[graph->FindNode("adamw/bucket_0")];
  EXPECT_EQ(adamw.memory_bytes, 28 * graph->buckets()[0].numel);
}

}  // namespace
}  // namespace millrace
