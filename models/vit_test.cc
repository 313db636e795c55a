// The ViT's shape, mistakes in its arguments, and its gradients against finite differences. The public
// package's numbers are compared in tests/ (golden cases vit_small, vit_small_ce, vit_base_formula).
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string>

#include "graph/base/random.h"
#include "gtest/gtest.h"
#include "models/model.h"
#include "models/model_run.h"
#include "models/stage_run.h"
#include "models/tensors.h"

namespace millrace {
namespace {

struct Result {
  std::vector<Tensors> outputs;  // by stage
  Tensors batch_grads;
  std::vector<Tensors> param_grads;
};

// All stages forward, then backward. An empty `grad_outputs` starts at the loss.
Result RunStages(const ModelDef& model, const std::vector<Tensors>& params,
                 const at::Tensor& images, const at::Tensor& labels, const Tensors& grad_outputs) {
  Result r;
  auto run = RunModel(model, params, {images, labels}, {.train = true, .batch_needs_grad = true});
  EXPECT_TRUE(run.ok()) << run.status();
  if (!run.ok()) return r;
  r.outputs = run->outputs;
  auto g = BackwardModel(model, *std::move(run), grad_outputs);
  EXPECT_TRUE(g.ok()) << g.status();
  if (!g.ok()) return r;
  r.param_grads = std::move(g->params);
  r.batch_grads = std::move(g->batch);
  return r;
}

TEST(Vit, PresetsHaveThePublishedNumbersOfParameters) {
  const auto count = [](const char* name) { return BuildModel(name, {}, {})->parameter_count(); };
  EXPECT_EQ(count("vit_base"), 85875556);
  EXPECT_EQ(count("vit_huge"), 630894181);
  EXPECT_EQ(count("vit_tiny"), 5380132);
  EXPECT_EQ(BuildModel("vit_tiny", {{"qkv_bias", false}}, {})->parameter_count(),
            5380132 - 12 * 3 * 192);
}

TEST(Vit, WrongArgumentsAreNamedAllAtOnceWithASuggestion) {
  const auto message = [](const char* model, const Attrs& args) {
    return std::string(BuildModel(model, args, {}).status().message());
  };
  EXPECT_NE(message("vit_tny", {}).find("did you mean 'vit_tiny'?"), std::string::npos);
  const std::string m = message("vit", {{"num_label", int64_t{3}}, {"heads", std::string("two")}});
  EXPECT_NE(m.find("did you mean 'num_labels'?"), std::string::npos) << m;
  EXPECT_NE(m.find("'heads' of model 'vit' is a string, expected an integer"), std::string::npos);
  const std::string n = message("vit", {{"patch_size", int64_t{15}}, {"heads", int64_t{7}}});
  EXPECT_NE(n.find("image_size 224 is not a multiple of patch_size 15"), std::string::npos) << n;
  EXPECT_NE(n.find("hidden_size 768 is not a multiple of heads 7"), std::string::npos) << n;
  EXPECT_TRUE(BuildModel("vit", {{"label_smoothing", int64_t{0}}}, {}).ok());
  EXPECT_FALSE(BuildModel("vit", {{"label_smoothing", 1.0}}, {}).ok());
  EXPECT_FALSE(BuildModel("vit", {}, {.micro_batch = 0}).ok());
}

// A small ViT in double with random parameters everywhere, so that no gradient is zero by symmetry.
struct Tiny {
  explicit Tiny(Attrs more = {}) {
    Attrs args{{"image_size", int64_t{6}},  {"channels", int64_t{2}}, {"patch_size", int64_t{3}},
               {"hidden_size", int64_t{8}}, {"layers", int64_t{2}},   {"heads", int64_t{2}},
               {"num_labels", int64_t{5}},  {"label_smoothing", 0.1}};
    for (const auto& [name, value] : more) args[name] = value;
    at::set_num_threads(1);  // waking others costs more than these products
    model = *BuildModel("vit", args, {.micro_batch = 3});
    images = Random("images", model.batch[0].shape, 1);
    labels = at::zeros({3}, at::kLong);
    for (int i = 0; i < 3; ++i) labels.data_ptr<int64_t>()[i] = 2 * i;
    for (const StageDef& s : model.stages) {
      params.emplace_back();
      for (const ParamSpec& p : s.params) params.back().push_back(Random(p.name, p.shape, 0.3));
    }
  }
  static at::Tensor Random(const std::string& name, const std::vector<int64_t>& shape, double s) {
    at::Tensor t = at::zeros(shape, at::kDouble);
    const CounterRng rng(5, HashString(name));
    for (int64_t i = 0; i < t.numel(); ++i) t.data_ptr<double>()[i] = s * rng.Normal(i);
    return t;
  }
  double Loss() const {
    return RunModel(model, params, {images, labels}, {.train = false})
        ->outputs.back()[0]
        .item<double>();
  }
  double Slope(at::Tensor& t, int64_t i) const {
    constexpr double h = 1e-5;
    double& v = t.data_ptr<double>()[i];
    const double x = v;
    v = x + h;
    const double up = Loss();
    v = x - h;
    const double down = Loss();
    v = x;
    return (up - down) / (2 * h);
  }
  ModelDef model;
  at::Tensor images, labels;
  std::vector<Tensors> params;
};

TEST(Vit, GradientsAreTheSlopesOfTheLoss) {
  for (const bool qkv_bias : {true, false}) {
    Tiny tiny({{"qkv_bias", qkv_bias}});
    const Result r = RunStages(tiny.model, tiny.params, tiny.images, tiny.labels, {});
    const auto check = [&](const std::string& name, at::Tensor& t, const at::Tensor& grad) {
      ASSERT_TRUE(grad.defined()) << name;
      const at::Tensor g = grad.contiguous();
      for (int64_t i = 0; i < t.numel(); i += std::max<int64_t>(1, t.numel() / 3)) {
        EXPECT_NEAR(g.data_ptr<double>()[i], tiny.Slope(t, i), 1e-8) << name << " " << i;
      }
    };
    for (size_t s = 0; s < tiny.params.size(); ++s) {
      for (size_t k = 0; k < tiny.params[s].size(); ++k) {
        check(tiny.model.stages[s].params[k].name, tiny.params[s][k], r.param_grads[s][k]);
      }
    }
    check("images", tiny.images, r.batch_grads[0]);
  }
}

TEST(Vit, LabelSmoothingMixesTheTargetWithTheUniformDistribution) {
  Tiny tiny;
  const Result r = RunStages(tiny.model, tiny.params, tiny.images, tiny.labels, {});
  const at::Tensor log_p = r.outputs.back()[1].log_softmax(1);
  double want = 0;
  for (int b = 0; b < 3; ++b) {
    for (int c = 0; c < 5; ++c) {
      want -= (0.1 / 5 + (c == 2 * b ? 0.9 : 0)) * log_p[b][c].item<double>() / 3;
    }
  }
  EXPECT_NEAR(r.outputs.back()[0].item<double>(), want, 1e-12);
}

TEST(Vit, TrainingAndEvaluationComputeTheSameBits) {
  Tiny tiny;
  const Result r = RunStages(tiny.model, tiny.params, tiny.images, tiny.labels, {});
  EXPECT_EQ(r.outputs.back()[0].item<double>(), tiny.Loss());
}

TEST(Vit, CuttingAtStageBoundariesChangesNoGradient) {
  Tiny tiny;
  const Result cut = RunStages(tiny.model, tiny.params, tiny.images, tiny.labels, {});
  // All stages as one.
  StageDef whole = tiny.model.stages.back();
  whole.inputs.clear();
  whole.sources.clear();
  whole.batch = {0, 1};
  whole.params.clear();
  Tensors params;
  for (size_t i = 0; i < tiny.params.size(); ++i) {
    const StageDef& s = tiny.model.stages[i];
    whole.params.insert(whole.params.end(), s.params.begin(), s.params.end());
    params.insert(params.end(), tiny.params[i].begin(), tiny.params[i].end());
  }
  whole.forward = [&tiny](const Tensors& inputs, const Tensors& params) {
    Tensors x;
    auto next = params.begin();
    for (const StageDef& s : tiny.model.stages) {
      for (int b : s.batch) x.push_back(inputs[b]);
      const auto end = next + static_cast<std::ptrdiff_t>(s.params.size());
      x = s.forward(x, Tensors(next, end));
      next = end;
    }
    return x;
  };
  auto tape = StageForward(whole, {tiny.images, tiny.labels}, params, {.batch_needs_grad = true});
  ASSERT_TRUE(tape.ok()) << tape.status();
  auto grads = StageBackward(*std::move(tape), {}, 1.0);
  ASSERT_TRUE(grads.ok()) << grads.status();
  size_t k = 0;
  for (const Tensors& stage : cut.param_grads) {
    for (const at::Tensor& g : stage) EXPECT_TRUE(g.equal(grads->params[k++]));
  }
  EXPECT_TRUE(cut.batch_grads[0].equal(grads->inputs[0]));
}

TEST(Vit, MistakesBecomeAStatusThatNamesTheStage) {
  Tiny tiny;
  const StageDef& layer = tiny.model.stages[1];
  EXPECT_FALSE(StageForward(layer, {}, tiny.params[1], {}).ok());
  Tensors wrong = tiny.params[1];
  wrong[0] = at::zeros({3, 3}, at::kDouble);
  const auto tape = StageForward(layer, {at::zeros({3, 5, 8}, at::kDouble)}, wrong, {});
  ASSERT_FALSE(tape.ok());
  EXPECT_NE(tape.status().message().find("forward of stage 'layers.0'"), std::string::npos);
  EXPECT_FALSE(StageBackward(StageTape(), {}, 1).ok());
}

// The same numbers, up to the rounding of what is stored: 8 bits of significand in bf16, 11 in f16.
TEST(Vit, SixteenBitsAgreeWithF32WithinTheirRounding) {
  const Tiny tiny;
  const auto in = [&](DType dtype) {
    ModelDef model = tiny.model;
    SetDType(dtype, &model);
    std::vector<Tensors> params;
    for (const Tensors& stage : tiny.params) {
      params.emplace_back();
      for (const at::Tensor& p : stage) params.back().push_back(p.to(ToScalarType(dtype)));
    }
    return RunStages(model, params, tiny.images.to(at::kFloat), tiny.labels, {});
  };
  const Result exact = in(DType::kF32);
  for (const auto& [dtype, ulp] : {std::pair{DType::kBF16, 0x1p-8}, {DType::kF16, 0x1p-11}}) {
    const Result r = in(dtype);
    ASSERT_EQ(r.outputs.size(), exact.outputs.size());
    EXPECT_EQ(r.outputs.back()[0].scalar_type(), at::kFloat);
    EXPECT_NEAR(r.outputs.back()[0].item<float>(), exact.outputs.back()[0].item<float>(), 4 * ulp);
    double off = 0;
    for (size_t s = 0; s < r.param_grads.size(); ++s) {
      for (size_t k = 0; k < r.param_grads[s].size(); ++k) {
        const at::Tensor &got = r.param_grads[s][k], &want = exact.param_grads[s][k];
        ASSERT_EQ(got.scalar_type(), ToScalarType(dtype));
        const double size = want.abs().max().item<float>();
        off = std::max(off, got.to(at::kFloat).sub(want).abs().max().item<float>() / (size + 1e-3));
      }
    }
    EXPECT_LT(off, 24 * ulp) << Name(dtype);
    EXPECT_GT(off, 0.2 * ulp) << Name(dtype) << ": computed in f32 throughout?";
  }
}

}  // namespace
}  // namespace millrace
