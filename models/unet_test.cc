// The U-Net and the layers that it alone has: against LibTorch's, planned as it runs, and as large as it should be.
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/ops/batch_norm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/max_pool2d.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/allocator.h"
#include "models/batch_norm.h"
#include "models/max_pool.h"
#include "models/meta_kernels.h"
#include "models/model.h"
#include "models/planned_step.h"
#include "models/probe.h"

namespace millrace {
namespace {

using testing::HasSubstr;

double Distance(const at::Tensor& a, const at::Tensor& b) {
  if (a.sizes() != b.sizes()) return 1e9;
  const at::Tensor x = a.to(at::kDouble), y = b.to(at::kDouble);
  return x.sub(y).abs().max().item<double>() / (1e-9 + y.abs().max().item<double>());
}

struct NormCase {
  at::Tensor x, dy;  // [B, N, C]
  BatchNormParams p;
};
NormCase MakeNorm(int64_t batch, int64_t tokens, int64_t channels) {
  NormCase c;
  c.x = at::randn({batch, tokens, channels}).mul(3).add(at::randn({channels}).mul(20));
  c.dy = at::randn({batch, tokens, channels});
  c.p = {at::randn({channels}), at::randn({channels}), at::randn({channels}),
         at::rand({channels}).add(0.5)};
  return c;
}

// y and the gradients of x and of the four parameters.
Tensors Ours(const NormCase& c, const BatchNormOptions& o) {
  Tensors of;
  for (const at::Tensor* t : {&c.x, &c.p.weight, &c.p.bias, &c.p.running_mean, &c.p.running_var}) {
    of.push_back(t->detach().set_requires_grad(true));
  }
  const at::Tensor y = BatchNorm(of[0], {of[1], of[2], of[3], of[4]}, o);
  Tensors result =
      torch::autograd::grad({y}, of, {c.dy}, std::nullopt, false, /*allow_unused=*/true);
  result.insert(result.begin(), y.detach());
  return result;
}

// The same by LibTorch in double, with the running statistics before minus after one update by momentum 1.
Tensors Torch(const NormCase& c, const BatchNormOptions& o) {
  const auto leaf = [](const at::Tensor& t) { return t.to(at::kDouble).set_requires_grad(true); };
  const Tensors of{leaf(c.x), leaf(c.p.weight), leaf(c.p.bias)};
  const at::Tensor mean = c.p.running_mean.to(at::kDouble), var = c.p.running_var.to(at::kDouble);
  const at::Tensor mean_before = mean.clone(), var_before = var.clone();
  at::Tensor y = at::batch_norm(of[0].transpose(1, 2), of[1], of[2], mean, var, o.training,
                                /*momentum=*/1.0, o.eps, false);
  if (o.relu) y = y.relu();
  y = y.transpose(1, 2);
  Tensors result = torch::autograd::grad({y}, of, {c.dy.to(at::kDouble)});
  result.insert(result.begin(), y.detach());
  result.push_back(mean_before.sub(mean));
  result.push_back(var_before.sub(var));
  return result;
}

TEST(BatchNorm, EqualsLibTorchsAndGivesTheStepOfItsStatistics) {
  for (const auto& [batch, tokens, channels] :
       {std::tuple<int64_t, int64_t, int64_t>{2, 700, 5}, {1, 2048, 64}, {3, 4, 33}}) {
    for (const bool relu : {false, true}) {
      const NormCase c = MakeNorm(batch, tokens, channels);
      const BatchNormOptions o{.training = true, .relu = relu};
      const Tensors ours = Ours(c, o), theirs = Torch(c, o);
      for (size_t i = 0; i < theirs.size(); ++i) {
        EXPECT_LT(Distance(ours[i], theirs[i]), 5e-6) << i << " of " << tokens << " " << relu;
      }
    }
  }
}

TEST(BatchNorm, EvaluationTakesRunningStatisticsAndLeavesThem) {
  const NormCase c = MakeNorm(2, 300, 7);
  const BatchNormOptions o{.training = false};
  const Tensors ours = Ours(c, o), theirs = Torch(c, o);
  for (size_t i = 0; i < 4; ++i) EXPECT_LT(Distance(ours[i], theirs[i]), 5e-6) << i;
  EXPECT_FALSE(ours[4].defined());
  EXPECT_FALSE(ours[5].defined());
}

TEST(BatchNorm, BitsDoNotDependOnTheNumberOfThreads) {
  const NormCase c = MakeNorm(2, 3000, 20);
  const Tensors one = Ours(c, {});
  at::set_num_threads(3);
  const Tensors three = Ours(c, {});
  at::set_num_threads(1);
  for (size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(one[i].equal(three[i])) << i;
}

TEST(MaxPool, EqualsLibTorchsAlsoWithTiesAndOddGrids) {
  for (const auto& [rows, columns] : {std::pair<int64_t, int64_t>{8, 6}, {7, 9}, {2, 2}}) {
    const at::Tensor tokens = at::randn({2, rows * columns, 5}).mul(2).round();  // many ties
    const at::Tensor x = tokens.set_requires_grad(true), image = tokens.detach()
                                                                     .transpose(1, 2)
                                                                     .reshape({2, 5, rows, columns})
                                                                     .set_requires_grad(true);
    const at::Tensor y = MaxPool2x2(x, rows, columns), want = at::max_pool2d(image, {2, 2});
    EXPECT_TRUE(y.equal(want.flatten(2).transpose(1, 2)));
    const at::Tensor dy = at::randn(y.sizes());
    const at::Tensor dx = torch::autograd::grad({y}, {x}, {dy})[0];
    const at::Tensor dimage =
        torch::autograd::grad({want}, {image}, {dy.transpose(1, 2).reshape(want.sizes())})[0];
    EXPECT_TRUE(dx.equal(dimage.flatten(2).transpose(1, 2)));
  }
}

TEST(Unet, HasTheNamesAndTheSizeOfTheBaseline) {
  const auto model = BuildModel("unet", {}, {.micro_batch = 1});
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->parameter_count(), 31045441);
  EXPECT_EQ(model->task, Task::kSegmentation);
  std::map<std::string, const ParamSpec*> params;
  for (const StageDef& s : model->stages) {
    for (const ParamSpec& p : s.params) EXPECT_TRUE(params.emplace(p.name, &p).second) << p.name;
  }
  const auto shape = [&](const std::string& name) { return params.at(name)->shape; };
  using Shape = std::vector<int64_t>;
  EXPECT_EQ(shape("enc1.0.weight"), (Shape{64, 3, 3, 3}));
  EXPECT_EQ(shape("bottleneck.3.weight"), (Shape{1024, 1024, 3, 3}));
  EXPECT_EQ(shape("dec4.0.weight"), (Shape{1024, 512, 2, 2}));
  EXPECT_EQ(shape("fuse1.0.weight"), (Shape{64, 128, 3, 3}));
  EXPECT_EQ(shape("final_conv.weight"), (Shape{1, 64, 1, 1}));
  EXPECT_TRUE(params.at("fuse2.4.running_var")->statistic);
  EXPECT_EQ(params.at("fuse2.4.running_var")->momentum, 0.1);
  EXPECT_EQ(params.at("fuse2.4.running_var")->init.kind, InitSpec::Kind::kOnes);
}

TEST(Unet, MistakesAreSaidAllAtOnce) {
  const auto model = BuildModel("unet",
                                {{"image_size", int64_t{8}},
                                 {"image_width", int64_t{3}},
                                 {"num_classes", int64_t{0}},
                                 {"batch_norm_momentum", 2.0}},
                                {.micro_batch = 1});
  ASSERT_FALSE(model.ok());
  const std::string message(model.status().message());
  EXPECT_THAT(message, HasSubstr("image_size is 8, expected at least 16"));
  EXPECT_THAT(message, HasSubstr("image_width is 3"));
  EXPECT_THAT(message, HasSubstr("num_classes is 0"));
  EXPECT_THAT(message, HasSubstr("batch_norm_momentum is 2"));
}

struct PlanCase {
  int64_t height, width, classes, batch;
  int threads;
  DType dtype = DType::kF32;
};

// Square and not, of sizes that no pooling divides, several classes, in 16 bits, on two threads: what the meta device
// foresees is what runs.
TEST(Unet, APlannedStepGivesTheBitsOfAPlainOneInsideItsPlan) {
  InstallAllocators();
  for (const PlanCase& c : {PlanCase{32, 32, 1, 2, 1},
                            {37, 50, 3, 1, 1},
                            {16, 16, 1, 1, 2},
                            {32, 48, 2, 2, 2},
                            {48, 32, 1, 2, 1, DType::kBF16}}) {
    at::set_num_threads(c.threads);
    const Attrs args{{"image_size", c.height},
                     {"image_width", c.width},
                     {"num_classes", c.classes},
                     {"width", int64_t{4}}};
    auto step = PlannedStep::Create("unet", args, c.batch, c.threads, c.dtype);
    ASSERT_TRUE(step.ok()) << step.status();
    const auto plain = (*step)->RunPlain();
    ASSERT_TRUE(plain.ok()) << plain.status();
    for (int repeat = 0; repeat < 2; ++repeat) {
      const auto planned = (*step)->RunPlanned();
      ASSERT_TRUE(planned.ok()) << planned.status();
      EXPECT_EQ(planned->mismatches, 0) << c.height << " x " << c.width;
      EXPECT_TRUE(planned->guards_intact);
      ASSERT_EQ(planned->outputs.size(), 2u);
      for (size_t i = 0; i < 2; ++i) EXPECT_TRUE(planned->outputs[i].equal(plain->outputs[i]));
      EXPECT_EQ(planned->outputs[1].sizes(),
                at::IntArrayRef({c.batch, c.classes, c.height, c.width}));
      for (size_t s = 0; s < plain->param_grads.size(); ++s) {
        for (size_t k = 0; k < plain->param_grads[s].size(); ++k) {
          EXPECT_TRUE(planned->param_grads[s][k].equal(plain->param_grads[s][k])) << s << " " << k;
        }
      }
    }
    const auto evaluated = (*step)->EvaluatePlanned();
    ASSERT_TRUE(evaluated.ok()) << evaluated.status();
    EXPECT_EQ(evaluated->mismatches, 0);
  }
  at::set_num_threads(1);
}

TEST(Unet, FlopsAreThoseOfItsConvolutions) {
  const auto model =
      BuildModel("unet", {{"image_size", int64_t{64}}, {"width", int64_t{8}}}, {.micro_batch = 2});
  const auto spec = Probe(*model);
  ASSERT_TRUE(spec.ok()) << spec.status();
  // A level has `2^-2l` of the places and `2^2l` of the weights of level 0; its encoder 9 (1 + 2) / 2 x 8^2 products a
  // place, its decoder 9 x 3 x 8^2 and 2 x 8^2 for the way up, the bottleneck 9 x 3 / 2.
  const double place = 2.0 * 2 * 64 * 64, unit = 8 * 8;
  const double encoders = 9 * (3 * 8 + unit) + 3 * 9 * 1.5 * unit, bottleneck = 9 * 1.5 * unit;
  const double decoders = 4 * (9 * 3 * unit + 2 * unit), head = 8;
  double forward = 0, backward = 0;
  for (const StageSpec& s : spec->stages) {
    forward += static_cast<double>(s.forward_flops);
    backward += static_cast<double>(s.backward_flops);
  }
  EXPECT_NEAR(forward, place * (encoders + bottleneck + decoders + head), 1);
  EXPECT_NEAR(backward, 2 * forward - place * 9 * 3 * 8, 1);  // images have no gradient
}

}  // namespace
}  // namespace millrace
