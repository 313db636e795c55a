// The registered models: sizes as published, arguments that are checked, and steps that stay inside their plan.
#include <ATen/Parallel.h>

#include <algorithm>
#include <ostream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/allocator.h"
#include "models/model.h"
#include "models/model_run.h"
#include "models/planned_step.h"
#include "models/probe.h"

namespace millrace {
namespace {

using testing::HasSubstr;

std::string S(const char* s) { return s; }

TEST(Rat, PresetsHaveThePublishedNumberOfParameters) {
  const auto count = [](const char* name, const Attrs& args = {}) {
    const auto model = BuildModel(name, args, {.micro_batch = 1});
    EXPECT_TRUE(model.ok()) << model.status();
    return model.ok() ? model->parameter_count() : 0;
  };
  EXPECT_EQ(count("rat_optimized"), 18'984'197);
  EXPECT_EQ(count("rat_optimized", {{"learnable_scale", true}}), 18'984'261);
  EXPECT_EQ(count("rat_optimized_detection"), 19'256'420);
  EXPECT_EQ(count("rat_vit_huge_reference"), 3'777'317'153);
  EXPECT_EQ(count("rat_small"), 2'396'291);
  EXPECT_EQ(count("rat_base"), 18'984'197);
  EXPECT_EQ(count("rat_large"), 113'578'503);
  EXPECT_GT(count("rat_vit_huge"), 1'200'000'000);
  EXPECT_GT(count("rat_vit_huge_detection"), 1'200'000'000);
}

TEST(Rat, EveryWrongArgumentIsNamedAtOnce) {
  const auto message = [](const char* name, const Attrs& args) {
    return std::string(BuildModel(name, args, {.micro_batch = 1}).status().message());
  };
  const std::string several =
      message("rat", {{"image_size", S("64x")}, {"positional", S("ros")}, {"dims", int64_t{30}}});
  EXPECT_THAT(several, HasSubstr("image_size is 64x"));
  EXPECT_THAT(several, HasSubstr("did you mean 'rose'?"));
  EXPECT_THAT(several, HasSubstr("dims is 30, expected a multiple of 2 x heads = 32"));
  EXPECT_THAT(message("rat", {{"queries", int64_t{7}}}),
              HasSubstr("queries is 7, which has no effect with task segmentation"));
  EXPECT_THAT(message("rat", {{"window", S("5")}}), HasSubstr("where all attention is dense"));
  EXPECT_THAT(message("rat", {{"positional", S("none")}, {"learnable_scale", true}}),
              HasSubstr("learnable_scale is 1, which has no effect with positional none"));
  EXPECT_THAT(
      message("rat", {{"attention", S("sparse")}, {"window", S("3")}, {"image_size", S("129")}}),
      HasSubstr("some tokens would be in no window, expected 5 or more"));
  EXPECT_THAT(message("rat", {{"kernel", S("4")}, {"stride", S("2")}, {"image_size", S("8")}}),
              HasSubstr("leaves nothing of the grid 1x1 before block 3"));
  EXPECT_THAT(message("rat", {{"stride", S("1,2,3,4,5")}}), HasSubstr("each of 4 blocks"));
  EXPECT_THAT(message("rat", {{"attention", S("dense,spars")}}), HasSubstr("dense or sparse"));
}

TEST(Rat, EvaluationHasTheBatchOfTrainingAndReadsNoKeys) {
  for (const bool evaluate : {false, true}) {
    const auto model = BuildModel("rat_small", {}, {.micro_batch = 2, .evaluate = evaluate});
    ASSERT_TRUE(model.ok()) << model.status();
    const auto keys = std::find_if(model->batch.begin(), model->batch.end(),
                                   [](const TensorSpec& t) { return t.name == "keys"; });
    ASSERT_NE(keys, model->batch.end());
    const int index = static_cast<int>(keys - model->batch.begin());
    bool read = false;
    for (const StageDef& stage : model->stages) {
      read = read || std::count(stage.batch.begin(), stage.batch.end(), index) > 0;
    }
    EXPECT_EQ(read, !evaluate);
  }
}

struct Case {
  std::string name;
  Attrs args;
  int64_t batch;
  int threads = 1;
  DType dtype = DType::kF32;
};
std::ostream& operator<<(std::ostream& out, const Case& c) { return out << c.name; }

std::vector<Case> Cases() {
  const Attrs tiny{{"dims", int64_t{16}},
                   {"heads", int64_t{2}},
                   {"blocks", int64_t{2}},
                   {"image_size", S("15x20,9")},
                   {"attention", S("sparse,dense")},
                   {"stride", S("2")},
                   {"kernel", S("3")},
                   {"dropout", 0.2}};
  const auto with = [&](const Attrs& more) {
    Attrs a = tiny;
    for (const auto& [name, value] : more) a[name] = value;
    return a;
  };
  const Attrs detection = with({{"task", S("detection")},
                                {"num_classes", int64_t{5}},
                                {"queries", int64_t{7}},
                                {"max_objects", int64_t{3}}});
  const auto detect = [&](const Attrs& more) {
    Attrs a = detection;
    for (const auto& [name, value] : more) a[name] = value;
    return a;
  };
  Attrs token_queries = detect({{"query_source", S("tokens")}, {"decoder_layers", int64_t{1}}});
  token_queries.erase("queries");
  return {
      {"segmentation", tiny, 2},
      {"threads", tiny, 3, 2},
      {"batch of one, several classes", with({{"num_classes", int64_t{3}}}), 1},
      {"one scale, learnt spacing",
       with({{"image_size", S("18x12")}, {"learnable_scale", true}, {"initial_scaling", S("log")}}),
       1},
      {"three scales, published heads",
       with({{"image_size", S("12,9x7,5")}, {"head_layout", S("reference")}}), 2},
      {"no positions", with({{"positional", S("none")}}), 2},
      {"rope", with({{"positional", S("rope")}}), 2},
      {"absolute", with({{"positional", S("absolute")}}), 2},
      {"one token is left",
       with({{"blocks", int64_t{4}}, {"image_size", S("10")}, {"stride", S("3")}}), 1},
      {"a block of scores is not enough",
       with({{"attention", S("dense")}, {"image_size", S("40,20")}}), 2},
      {"bf16", tiny, 2, 1, DType::kBF16},
      {"f16", tiny, 1, 2, DType::kF16},
      {"detection", detection, 2},
      {"detection of one", detect({{"class_loss", S("focal")}}), 1, 2},
      {"detection, decoder", detect({{"decoder_layers", int64_t{2}}}), 2},
      {"detection, tokens as queries", token_queries, 2},
      {"detection, bf16", detect({{"decoder_layers", int64_t{1}}}), 2, 1, DType::kBF16},
  };
}

class RatStep : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override { at::set_num_threads(GetParam().threads); }
  void TearDown() override { at::set_num_threads(1); }
};

void ExpectSameBits(const StepResult& a, const StepResult& b) {
  ASSERT_EQ(a.outputs.size(), b.outputs.size());
  for (size_t i = 0; i < a.outputs.size(); ++i) EXPECT_TRUE(a.outputs[i].equal(b.outputs[i]));
  ASSERT_EQ(a.param_grads.size(), b.param_grads.size());
  for (size_t i = 0; i < a.param_grads.size(); ++i) {
    for (size_t k = 0; k < a.param_grads[i].size(); ++k) {
      const at::Tensor &x = a.param_grads[i][k], &y = b.param_grads[i][k];
      if (!y.defined()) continue;  // a parameter that the loss does not reach
      EXPECT_TRUE(x.equal(y)) << "stage " << i << ", parameter " << k;
    }
  }
}

TEST_P(RatStep, StaysInsideItsPlanAndGivesTheBitsOfAPlainOne) {
  const Case& c = GetParam();
  auto step = PlannedStep::Create("rat", c.args, c.batch, c.threads, c.dtype);
  ASSERT_TRUE(step.ok()) << step.status();
  auto plain = (*step)->RunPlain();
  ASSERT_TRUE(plain.ok()) << plain.status();
  EXPECT_TRUE(std::isfinite(plain->outputs[0].item<float>()));
  for (int repeat = 0; repeat < 2; ++repeat) {
    auto planned = (*step)->RunPlanned();
    ASSERT_TRUE(planned.ok()) << planned.status();
    EXPECT_EQ(planned->mismatches, 0);
    EXPECT_TRUE(planned->guards_intact);
    ExpectSameBits(*planned, *plain);
  }
  auto evaluated = (*step)->EvaluatePlain();
  ASSERT_TRUE(evaluated.ok()) << evaluated.status();
  auto planned = (*step)->EvaluatePlanned();
  ASSERT_TRUE(planned.ok()) << planned.status();
  EXPECT_EQ(planned->mismatches, 0);
  EXPECT_TRUE(planned->guards_intact);
  ExpectSameBits(*planned, *evaluated);
}

INSTANTIATE_TEST_SUITE_P(Tiny, RatStep, testing::ValuesIn(Cases()),
                         [](const testing::TestParamInfo<Case>& info) {
                           std::string name;
                           for (const char ch : info.param.name) {
                             if (std::isalnum(static_cast<unsigned char>(ch))) name += ch;
                           }
                           return name;
                         });

TEST(Rat, TheHugeOneIsProbedInAMomentAndAllocatesNothing) {
  InstallAllocators();
  const AllocatorStats before = CpuAllocatorStats();
  ResetAllocatorPeak();
  const auto model = BuildModel("rat_vit_huge", {}, {.micro_batch = 1});
  ASSERT_TRUE(model.ok()) << model.status();
  const auto spec = Probe(*model);
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_LT(CpuAllocatorStats().peak_bytes - before.live_bytes, 1 << 16);
}

}  // namespace
}  // namespace millrace
