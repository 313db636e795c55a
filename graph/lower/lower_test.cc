#include "graph/lower/lower.h"

#include <gtest/gtest.h>

#include "graph/ir/pipeline.pb.h"
#include "graph/lower/listing.h"
#include "graph/lower/testing/fake_model.h"

namespace millrace {
namespace {

constexpr AccumulationPolicy kPolicies[] = {AccumulationPolicy::kReduceEach,
                                            AccumulationPolicy::kReduceLast,
                                            AccumulationPolicy::kKeepGathered};

int64_t Padded(const Graph& graph) {
  int64_t numel = 0;
  for (const Bucket& b : graph.buckets()) numel += b.numel;
  return numel;
}

int64_t Persistent(const Graph& graph, BufferKind kind) {
  int64_t bytes = 0;
  for (const Buffer& b : graph.buffers()) {
    if (b.persistent && b.kind == kind) bytes += b.bytes;
  }
  return bytes;
}

// Elements that one rank sends, as the best algorithms do, over N - 1.
int64_t Volume(const Graph& graph) {
  int64_t sum = 0;
  for (const Node& node : graph.nodes()) {
    if (!node.is_collective || node.async == AsyncRole::kDone) continue;
    const int64_t n = graph.group_size(node.collective.group);
    sum += node.collective.op == CollectiveOp::kAllReduce ? 2 * node.collective.count / n
                                                          : node.collective.count;
  }
  return sum;
}

TEST(Lower, PersistentBytesAreTheFormulasOfTheStages) {
  for (int stage = 0; stage <= 3; ++stage) {
    for (int n : {1, 2, 4, 8}) {
      for (int m : {1, 4}) {
        for (AccumulationPolicy policy : kPolicies) {
          const auto graph = Lower(MakeFakeModel({.stages = 5}), {.world_size = n,
                                                                  .zero_stage = stage,
                                                                  .reduce_bucket_bytes = 300,
                                                                  .accumulation = m,
                                                                  .policy = policy});
          ASSERT_TRUE(graph.ok()) << graph.status();
          const int64_t p = Padded(*graph);
          EXPECT_EQ(Persistent(*graph, BufferKind::kParameter), 4 * p / (stage >= 3 ? n : 1));
          EXPECT_EQ(Persistent(*graph, BufferKind::kGradient), 4 * p / (stage >= 2 ? n : 1));
          EXPECT_EQ(Persistent(*graph, BufferKind::kOptimizerState), 8 * p / (stage >= 1 ? n : 1));
        }
      }
    }
  }
}

TEST(Lower, VolumeIsTheFormulaOfTheStage) {
  for (int n : {2, 4}) {
    for (int stage = 0; stage <= 3; ++stage) {
      LowerOptions options{.world_size = n, .zero_stage = stage, .reduce_bucket_bytes = 300};
      options.keep_at_turn = false;
      const auto graph = Lower(MakeFakeModel({.stages = 5}), options);
      ASSERT_TRUE(graph.ok()) << graph.status();
      EXPECT_EQ(Volume(*graph) * n, (stage == 3 ? 3 : 2) * Padded(*graph)) << stage;
    }
  }
}

TEST(Lower, KeepingTheHeadSavesOneGatherOfItsBucket) {
  LowerOptions options{.world_size = 2, .zero_stage = 3, .reduce_bucket_bytes = 148};
  const auto graph = Lower(MakeFakeModel({.stages = 5}), options);
  ASSERT_TRUE(graph.ok()) << graph.status();
  EXPECT_EQ(Volume(*graph) * 2, 3 * Padded(*graph) - graph->buckets()[0].numel);
}

TEST(Lower, AccumulationPolicyDecidesHowOftenIsCommunicated) {
  const auto volume = [](int stage, AccumulationPolicy policy) {
    LowerOptions options{.world_size = 2,
                         .zero_stage = stage,
                         .reduce_bucket_bytes = 148,
                         .accumulation = 4,
                         .policy = policy};
    options.keep_at_turn = false;
    const auto graph = Lower(MakeFakeModel({.stages = 5}), options);
    return graph.ok() ? 2.0 * Volume(*graph) / Padded(*graph) : -1.0;
  };
  // Reductions: 4 or 1. Stage 2 gathers updates once; stage 3 gathers 2 x 4 times or once.
  EXPECT_EQ(volume(0, AccumulationPolicy::kReduceEach), 8);
  EXPECT_EQ(volume(0, AccumulationPolicy::kReduceLast), 2);
  EXPECT_EQ(volume(2, AccumulationPolicy::kReduceEach), 5);
  EXPECT_EQ(volume(2, AccumulationPolicy::kReduceLast), 2);
  EXPECT_EQ(volume(3, AccumulationPolicy::kReduceEach), 12);
  EXPECT_EQ(volume(3, AccumulationPolicy::kReduceLast), 9);
  EXPECT_EQ(volume(3, AccumulationPolicy::kKeepGathered), 2);
}

TEST(Lower, OneRankHasNoCollectives) {
  for (int stage = 0; stage <= 3; ++stage) {
    const auto graph =
        Lower(MakeFakeModel(), {.zero_stage = stage, .accumulation = 2, .clip_norm = 1});
    ASSERT_TRUE(graph.ok()) << graph.status();
    for (const Node& node : graph->nodes()) EXPECT_FALSE(node.is_collective) << node.name;
  }
}

TEST(Lower, EvaluationHasTheTrainingStepsPersistentBuffersInTheirOrder) {
  for (int stage = 0; stage <= 3; ++stage) {
    LowerOptions options{.world_size = 2, .zero_stage = stage, .reduce_bucket_bytes = 148};
    const auto train = Lower(MakeFakeModel(), options);
    options.kind = StepKind::kEvaluate;
    const auto evaluate = Lower(MakeFakeModel({.batch = 7}), options);
    ASSERT_TRUE(train.ok() && evaluate.ok()) << evaluate.status();
    const auto persistent = [](const Graph& graph) {
      std::string text;
      for (const Buffer& b : graph.buffers()) {
        if (b.persistent) absl::StrAppend(&text, b.name, " ", b.bytes, "\n");
      }
      return text;
    };
    EXPECT_EQ(persistent(*train), persistent(*evaluate));
    EXPECT_GE(evaluate->FindValue("loss/0"), 0);
    EXPECT_GE(evaluate->FindValue("logits/0"), 0);
    EXPECT_EQ(evaluate->FindNode("backward/a/0"), -1);
  }
}

TEST(Lower, EvaluationAloneKeepsParametersAndNothingElse) {
  for (int stage = 0; stage <= 3; ++stage) {
    const auto evaluate =
        Lower(MakeFakeModel(),
              {.kind = StepKind::kEvaluate, .alone = true, .world_size = 2, .zero_stage = stage});
    ASSERT_TRUE(evaluate.ok()) << evaluate.status();
    int64_t bytes = 0;
    for (const Buffer& b : evaluate->buffers()) {
      if (!b.persistent) continue;
      EXPECT_EQ(b.kind, BufferKind::kParameter) << b.name;
      bytes += b.bytes;
    }
    int64_t elements = 0;  // with the padding of buckets
    for (const Bucket& b : evaluate->buckets()) elements += b.numel;
    EXPECT_GE(elements, MakeFakeModel().parameter_count());
    EXPECT_EQ(bytes, elements * 4 / (stage == 3 ? 2 : 1)) << stage;
  }
}

TEST(Lower, AllMistakesInTheOptionsAreNamedAtOnce) {
  const auto graph =
      Lower(MakeFakeModel(),
            {.world_size = 0, .zero_stage = 4, .reduce_bucket_bytes = 0, .accumulation = 0});
  ASSERT_FALSE(graph.ok());
  for (const char* field : {"parallel.data", "zero.stage", "reduce_bucket_bytes", "accumulation"}) {
    EXPECT_NE(graph.status().message().find(field), std::string::npos) << field;
  }
}

TEST(Lower, ModelWithoutParametersIsLowered) {
  const auto graph =
      Lower(MakeFakeModel({.params = {}}), {.world_size = 2, .zero_stage = 3, .clip_norm = 1});
  EXPECT_TRUE(graph.ok()) << graph.status();
}

TEST(Lower, OptionsComeFromThePipeline) {
  Pipeline pipeline;
  pipeline.mutable_parallel()->set_data(4);
  pipeline.mutable_parallel()->mutable_zero()->set_stage(2);
  pipeline.mutable_parallel()->mutable_zero()->set_accumulation(Zero::REDUCE_LAST);
  pipeline.mutable_train()->set_accumulation(3);
  pipeline.mutable_optimizer()->set_kind(Optimizer::SGD);
  pipeline.mutable_optimizer()->set_momentum(0);
  pipeline.mutable_optimizer()->set_clip_norm(0.5);
  const LowerOptions o = FromPipeline(pipeline);
  EXPECT_EQ(o.world_size, 4);
  EXPECT_EQ(o.zero_stage, 2);
  EXPECT_EQ(o.reduce_bucket_bytes, 26214400);
  EXPECT_EQ(o.prefetch_depth, 1);
  EXPECT_EQ(o.policy, AccumulationPolicy::kReduceLast);
  EXPECT_EQ(o.accumulation, 3);
  EXPECT_EQ(o.optimizer, OptimizerKind::kSgd);
  EXPECT_FALSE(o.momentum);
  EXPECT_TRUE(o.overlap);
  EXPECT_EQ(o.clip_norm, 0.5);
}

}  // namespace
}  // namespace millrace
