#include "models/losses.h"

#include <ATen/Functions.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/allocator.h"

namespace millrace {
namespace {

using Tensors = std::vector<at::Tensor>;

at::Tensor Floats(const std::vector<float>& values, at::IntArrayRef shape) {
  return at::tensor(values).view(shape);
}
at::Tensor Random(at::IntArrayRef shape, uint64_t seed) {
  at::manual_seed(seed);
  return at::randn(shape);
}

// The gradient of loss(x) in each element of each x against the differences to either side.
void ExpectFiniteDifferences(const Tensors& x,
                             const std::function<at::Tensor(const Tensors&)>& loss) {
  Tensors leaves;
  for (const at::Tensor& t : x) leaves.push_back(t.clone().requires_grad_(true));
  const Tensors gradients = torch::autograd::grad({loss(leaves)}, leaves);
  for (size_t k = 0; k < x.size(); ++k) {
    const double limit = 4e-3 * gradients[k].abs().max().item<double>() + 2e-3;
    for (int64_t i = 0; i < x[k].numel(); ++i) {
      constexpr double kStep = 1e-3;
      Tensors moved = x;
      const auto at = [&](double step) {
        moved[k] = x[k].clone();
        moved[k].view({-1})[i] += step;
        return loss(moved).item<double>();
      };
      // Where one side passes a corner of |x| or max(x, y), the other side knows.
      const double here = at(0), up = (at(kStep) - here) / kStep,
                   down = (here - at(-kStep)) / kStep;
      const double g = gradients[k].view({-1})[i].item<double>();
      EXPECT_GE(g, std::min(up, down) - limit) << "tensor " << k << ", element " << i;
      EXPECT_LE(g, std::max(up, down) + limit) << "tensor " << k << ", element " << i;
    }
  }
}

TEST(MaskLoss, OfCertainAndCorrectLogitsIsNothing) {
  const at::Tensor masks = Floats({1, 0, 0, 1}, {1, 2, 2}).to(at::kByte);
  const at::Tensor logits = Floats({30, -30, -30, 30}, {1, 1, 2, 2});
  EXPECT_NEAR(BceDiceLoss(logits, masks).item<double>(), 0, 1e-6);
  EXPECT_NEAR(BceDiceLoss(-logits, masks).item<double>(), 0.5 * 30 + 0.5, 1e-5);
}

TEST(MaskLoss, AnEmptyMaskAndAnEmptyPredictionAgree) {
  const at::Tensor masks = at::zeros({1, 2, 2}, at::kByte);
  EXPECT_NEAR(MaskLoss(at::full({1, 1, 2, 2}, -100.0f), masks, {0, 1}).item<double>(), 0, 1e-6);
  EXPECT_NEAR(MaskLoss(at::full({1, 1, 2, 2}, 100.0f), masks, {0, 1}).item<double>(), 1, 1e-6);
}

TEST(MaskLoss, DiceIsTheMeanOverImages) {
  const at::Tensor masks = Floats({1, 1, 0, 0}, {2, 1, 2}).to(at::kByte);
  const at::Tensor logits = Floats({50, 50, 50, 50}, {2, 1, 1, 2});
  EXPECT_NEAR(MaskLoss(logits, masks, {0, 1}).item<double>(), 0.5, 1e-6);
}

TEST(MaskLoss, OneChannelAsksWhetherAnObjectIsThereMoreAskWhich) {
  const at::Tensor masks = Floats({0, 2}, {1, 1, 2}).to(at::kByte);
  EXPECT_NEAR(BceDiceLoss(Floats({-50, 50}, {1, 1, 1, 2}), masks).item<double>(), 0, 1e-6);
  EXPECT_NEAR(BceDiceLoss(Floats({-50, -50, -50, 50}, {1, 2, 1, 2}), masks).item<double>(), 0,
              1e-6);
}

TEST(MaskLoss, TheGradientIsThatOfFiniteDifferences) {
  const at::Tensor masks = Floats({0, 1, 2, 0, 1, 1, 0, 0, 0, 0, 0, 0}, {2, 2, 3}).to(at::kByte);
  for (const MaskWeights& w : {MaskWeights{1, 0}, MaskWeights{0, 1}, MaskWeights{}}) {
    for (const int64_t classes : {1, 2}) {
      ExpectFiniteDifferences({Random({2, classes, 2, 3}, 5)},
                              [&](const Tensors& x) { return MaskLoss(x[0], masks, w).mul(3); });
    }
  }
}

// Two images, four queries, three classes, room for three objects; the second image has one object.
struct Detection {
  at::Tensor boxes = at::sigmoid(Random({2, 4, 4}, 11));
  at::Tensor classes = at::tensor({2, 0, 1, -1, 1, -1}, at::kLong).view({2, 3});
  at::Tensor targets = at::sigmoid(Random({2, 3, 4}, 12)).mul(0.5).add(0.1);
  SetLossOptions options;

  explicit Detection(bool focal) { options.match.focal = focal; }
  at::Tensor Logits() const { return Random({2, 4, options.match.focal ? 3 : 4}, 13); }
  SetLoss Loss(const at::Tensor& logits, const at::Tensor& b) const {
    return DetectionSetLoss(logits, b, classes, targets, options);
  }
};

class SetLosses : public testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(FocalAndSoftmax, SetLosses, testing::Bool());

TEST_P(SetLosses, TheGradientIsThatOfFiniteDifferences) {
  const Detection d(GetParam());
  const auto part = [&](int i) {
    ExpectFiniteDifferences({d.Logits(), d.boxes}, [&](const Tensors& x) {
      const SetLoss loss = d.Loss(x[0], x[1]);
      // Each part with a weight of its own, and once the total.
      return i == 0 ? loss.total.mul(2) : loss.classification.add(loss.l1, 0.3).sub(loss.giou);
    });
  };
  part(0);
  part(1);
}

TEST_P(SetLosses, TheTotalIsTheWeightedSum) {
  Detection d(GetParam());
  d.options.weights = {0.5, 3, 7};
  const SetLoss loss = d.Loss(d.Logits(), d.boxes);
  const double sum = 0.5 * loss.classification.item<double>() + 3 * loss.l1.item<double>() +
                     7 * loss.giou.item<double>();
  EXPECT_NEAR(loss.total.item<double>(), sum, 1e-5);
}

TEST_P(SetLosses, PaddingCountsForNothing) {
  Detection d(GetParam());
  const at::Tensor logits = d.Logits();
  const double before = d.Loss(logits, d.boxes).total.item<double>();
  d.targets[1][0] = 0.77;  // padding's box
  EXPECT_EQ(d.Loss(logits, d.boxes).total.item<double>(), before);
  // And more of it.
  d.classes = at::cat({d.classes, at::full({2, 5}, -1, at::kLong)}, 1);
  d.targets = at::cat({d.targets, at::zeros({2, 5, 4})}, 1);
  EXPECT_EQ(d.Loss(logits, d.boxes).total.item<double>(), before);
}

TEST_P(SetLosses, WithoutAnyObjectOnlyClassesCountAndNothingIsDividedByZero) {
  Detection d(GetParam());
  for (const int64_t room : {3, 0}) {
    d.classes = at::full({2, room}, -1, at::kLong);
    d.targets = at::zeros({2, room, 4});
    const SetLoss loss = d.Loss(d.Logits(), d.boxes);
    EXPECT_GT(loss.classification.item<double>(), 0);
    EXPECT_EQ(loss.l1.item<double>(), 0);
    EXPECT_EQ(loss.giou.item<double>(), 0);
    EXPECT_TRUE(loss.match.eq(-1).all().item<bool>());
    ExpectFiniteDifferences({d.Logits(), d.boxes},
                            [&](const Tensors& x) { return d.Loss(x[0], x[1]).total; });
  }
}

TEST_P(SetLosses, OfMoreObjectsThanQueriesSomeStayUnanswered) {
  Detection d(GetParam());
  d.classes = at::zeros({2, 9}, at::kLong);
  d.targets = at::sigmoid(Random({2, 9, 4}, 14));
  const SetLoss loss = d.Loss(d.Logits(), d.boxes);
  EXPECT_TRUE(loss.match.ge(0).all().item<bool>());
  ExpectFiniteDifferences({d.Logits(), d.boxes},
                          [&](const Tensors& x) { return d.Loss(x[0], x[1]).total; });
}

TEST_P(SetLosses, ADivergedPredictionGivesALossThatIsNoNumber) {
  const Detection d(GetParam());
  at::Tensor logits = d.Logits();
  logits[0][1][0] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(std::isnan(d.Loss(logits, d.boxes).total.item<double>()));
}

TEST_P(SetLosses, AClassThatTheModelDoesNotKnowIsNamed) {
  Detection d(GetParam());
  d.classes[1][0] = 3;
  try {
    d.Loss(d.Logits(), d.boxes);
    FAIL();
  } catch (const c10::Error& e) {
    EXPECT_THAT(e.what_without_backtrace(),
                testing::HasSubstr("has class 3, the model knows 0 to 2"));
  }
}

TEST(FocalLoss, ByHand) {
  // One query at p = 0.5 of an object's class: 0.25 * 0.5^2 * ln 2; of another class: 0.75 * 0.5^2 * ln 2.
  Detection d(true);
  d.classes = at::tensor({0}, at::kLong).view({1, 1});
  d.targets = d.boxes.slice(0, 0, 1).slice(1, 0, 1);
  const SetLoss loss = d.Loss(at::zeros({1, 1, 2}), d.targets);
  EXPECT_NEAR(loss.classification.item<double>(), 0.25 * std::log(2), 1e-6);
  EXPECT_NEAR(loss.total.item<double>(), 0.25 * std::log(2), 1e-6);
}

// What a plan rests on, for both directions.
TEST(Losses, TheMetaDeviceMakesTheAllocationsOfTheCpu) {
  InstallAllocators();
  const auto trace = [](at::Device device, bool focal) {
    const auto f32 = at::TensorOptions(device);
    const at::Tensor masks = at::zeros({2, 8, 8}, f32.dtype(at::kByte));
    at::Tensor logits = at::zeros({2, 3, 8, 8}, f32).requires_grad_(true);
    at::Tensor queries = at::zeros({2, 5, 4}, f32).requires_grad_(true);
    at::Tensor boxes = at::full({2, 5, 4}, 0.25, f32).requires_grad_(true);
    const at::Tensor classes = at::zeros({2, 3}, f32.dtype(at::kLong));
    const at::Tensor targets = at::full({2, 3, 4}, 0.5, f32);
    SetLossOptions options;
    options.match.focal = focal;
    Recording recording;
    const at::Tensor mask_loss = BceDiceLoss(logits, masks);
    const at::Tensor set_loss = DetectionSetLoss(queries, boxes, classes, targets, options).total;
    torch::autograd::grad({mask_loss, set_loss}, {logits, queries, boxes});
    return recording.events();
  };
  for (const bool focal : {true, false}) {
    const auto cpu = trace(at::kCPU, focal);
    EXPECT_GT(cpu.size(), 10u);
    EXPECT_TRUE(trace(at::kMeta, focal) == cpu);
  }
}

}  // namespace
}  // namespace millrace
