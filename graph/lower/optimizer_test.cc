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

TEST(OptimizerStep, AdamMoves28BytesPerParameter) {
  const auto graph = Lower(MakeFakeModel({.stages = 2}), {});
  ASSERT_TRUE(graph.ok()) << graph.status();
  const Node& adamw = graph->nodes()[graph->FindNode("adamw/bucket_0")];
  EXPECT_EQ(adamw.memory_bytes, 28 * graph->buckets()[0].numel);
}

}  // namespace
}  // namespace millrace
