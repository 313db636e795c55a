// Gradients of the transformer's parts against finite differences, on tiny shapes, and what the golden cases do not
// reach: spacings that differ by sample, the corrected layout of heads, dropout, tokens of a single cell.
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "graph/base/random.h"
#include "gtest/gtest.h"
#include "models/init.h"
#include "models/rat/grouping_attention.h"
#include "models/rat/heads.h"
#include "models/rat/multi_resolution.h"
#include "models/rat/rose.h"

namespace millrace::rat {
namespace {

using Tensors = std::vector<at::Tensor>;
using Function = std::function<Tensors(const Tensors&)>;

at::Tensor Random(const std::string& name, std::vector<int64_t> shape, double scale = 1) {
  at::Tensor t = at::empty(shape, at::kFloat);
  const CounterRng rng(7, HashString(name));
  for (int64_t i = 0; i < t.numel(); ++i) {
    t.data_ptr<float>()[i] = static_cast<float>(scale * rng.Normal(static_cast<uint64_t>(i)));
  }
  return t;
}

// Parameters at values that make mistakes visible: biases are not 0, norms not 1.
Tensors Params(const std::vector<ParamSpec>& specs) {
  Tensors params;
  for (const ParamSpec& s : specs) {
    at::Tensor p = at::empty(s.shape, at::kFloat);
    FillParam(s, 3, 0, s.numel(), p.data_ptr<float>());
    const double scale =
        s.shape.size() >= 2 && s.name.find("freqs") == std::string::npos ? 0.25 : 0.1;
    params.push_back(p + Random(s.name, s.shape, scale));
  }
  return params;
}

double Loss(const Tensors& outputs) {
  double sum = 0;
  for (size_t k = 0; k < outputs.size(); ++k) {
    const at::Tensor y = outputs[k].contiguous();
    const at::Tensor probe = Random("probe" + std::to_string(k), y.sizes().vec());
    for (int64_t i = 0; i < y.numel(); ++i) {
      sum += static_cast<double>(y.data_ptr<float>()[i]) * probe.data_ptr<float>()[i];
    }
  }
  return sum;
}

// Some elements of each tensor of `x`, which may be undefined.
void CheckGradients(const std::string& what, Tensors x, const Function& f) {
  Tensors leaves, used;
  for (at::Tensor& t : x) {
    leaves.push_back(t.clone().set_requires_grad(true));
    used.push_back(leaves.back());
  }
  Tensors outputs = f(leaves), probes;
  for (size_t k = 0; k < outputs.size(); ++k) {
    probes.push_back(Random("probe" + std::to_string(k), outputs[k].sizes().vec()));
  }
  const Tensors grads =
      torch::autograd::grad(outputs, used, probes, std::nullopt, false, /*allow_unused=*/true);
  constexpr float kStep = 4e-3f;
  for (size_t t = 0; t < x.size(); ++t) {
    double largest = 0;
    const int64_t n = x[t].numel();
    const at::Tensor g =
        grads[t].defined() ? grads[t].contiguous() : at::zeros(x[t].sizes(), at::kFloat);
    for (int64_t i = 0; i < n; ++i) {
      largest = std::max<double>(largest, std::abs(g.data_ptr<float>()[i]));
    }
    for (int64_t i = 0; i < n; i += std::max<int64_t>(1, n / 7)) {
      float& value = x[t].data_ptr<float>()[i];
      const float before = value;
      value = before + kStep;
      const double up = Loss(f(x));
      const float high = value;
      value = before - kStep;
      const double slope = (up - Loss(f(x))) / (static_cast<double>(high) - value);
      value = before;
      EXPECT_NEAR(g.data_ptr<float>()[i], slope, 0.01 * largest + 0.02)
          << what << ", tensor " << t << ", element " << i;
    }
  }
}

RoseConfig Rose(int64_t axes, bool learnable_spacing) {
  RoseConfig c;
  c.heads = 2, c.head_width = 4, c.axes = axes;
  c.learnable_spacing = learnable_spacing;
  c.start = learnable_spacing ? SpacingStart::kLog : SpacingStart::kIdentity;
  return c;
}

TEST(Rose, GradientsWithASpacingForEachSampleAndATemperature) {
  for (const int64_t axes : {1, 2, 3}) {
    const RoseConfig c = Rose(axes, true);
    std::vector<ParamSpec> specs;
    AddRoseParams(specs, "", c);
    Tensors x = Params(specs);
    x.push_back(at::full({1}, 0.7, at::kFloat));
    std::vector<int64_t> grid{3, 2, 2};
    grid.resize(static_cast<size_t>(axes));
    int64_t tokens = 1;
    for (const int64_t g : grid) tokens *= g;
    x.push_back(Random("x", {2, tokens + 1, 8}));
    const at::Tensor spacing = Random("spacing", {2, 2, axes}).abs() + 0.5;
    const std::vector<RoseSegment> segments{
        {1, grid, 1, std::vector<double>(static_cast<size_t>(axes), 2.0)}};
    CheckGradients("axes " + std::to_string(axes), x, [&](const Tensors& t) -> Tensors {
      const RoseParams p{t[0], {t[1], t[2], t[3], t[4]}};
      Uses freqs(t[0], 2);
      const at::Tensor warm = Rotate(t[6], c, segments, spacing, p, t[5]);
      return {warm};
    });
  }
}

TEST(Rose, EverySampleTurnsByItsOwnSpacing) {
  const RoseConfig c = Rose(2, false);
  const at::Tensor x = Random("x", {2, 6, 8}), spacing = Random("s", {2, 1, 2}).abs() + 0.5;
  const auto turned = [&](const at::Tensor& tokens, const at::Tensor& s) {
    return Rotate(tokens, c, {{0, {2, 3}, 0, {1, 1}}}, s, {}, at::Tensor());
  };
  const at::Tensor both = turned(x, spacing);
  for (int64_t b = 0; b < 2; ++b) {
    EXPECT_TRUE(both.narrow(0, b, 1).equal(turned(x.narrow(0, b, 1), spacing.narrow(0, b, 1))));
  }
  // Twice the spacing on every second token is the same place.
  const at::Tensor one = at::full({1, 1, 2}, 1.0), two = at::full({1, 1, 2}, 2.0);
  const at::Tensor fine = Rotate(Random("f", {1, 9, 8}), c, {{0, {1, 9}, 0, {1, 1}}}, one, {}, {});
  at::Tensor every_second = at::empty({1, 5, 8}, at::kFloat);
  for (int64_t i = 0; i < 5; ++i) {
    every_second.select(1, i).copy_(Random("f", {1, 9, 8}).select(1, 2 * i));
  }
  const at::Tensor coarse = Rotate(every_second, c, {{0, {1, 5}, 0, {1, 1}}}, two, {}, {});
  for (int64_t i = 0; i < 5; ++i) {
    EXPECT_LT((coarse.select(1, i) - fine.select(1, 2 * i)).abs().max().item<float>(), 1e-6);
  }
}

// Scores written out, values by head as they should be.
at::Tensor Plain(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double eps) {
  const at::Tensor a = at::softmax(at::matmul(q.transpose(1, 2), k.permute({0, 2, 3, 1})), -1);
  const at::Tensor shares = a / (a.sum(-2, true) + eps);
  const at::Tensor values = v.view({v.size(0), v.size(1), q.size(2), q.size(3)}).transpose(1, 2);
  return at::matmul(shares, values).transpose(1, 2).reshape({q.size(0), q.size(1), v.size(2)});
}

TEST(GroupingAttention, DenseIsThePlainFormulaAndSparseWithAWindowOverAllIsDense) {
  const double eps = 1.1920929e-7;
  const at::Tensor q = Random("q", {2, 6, 3, 4}), k = Random("k", {2, 35, 3, 4}),
                   v = Random("v", {2, 35, 12});
  const at::Tensor dense = DenseGroupingAttention(q, k, v, HeadLayout::kCorrect, eps);
  EXPECT_LT((dense - Plain(q, k, v, eps)).abs().max().item<float>(), 1e-6);
  for (const HeadLayout layout : {HeadLayout::kCorrect, HeadLayout::kReference}) {
    const at::Tensor sparse =
        SparseGroupingAttention(q, k, v, {{2, 3}, {5, 7}, {3, 3}, {9, 9}}, layout, eps);
    EXPECT_LT((sparse - DenseGroupingAttention(q, k, v, layout, eps)).abs().max().item<float>(),
              1e-6);
  }
}

// More heads and samples than a block of scores holds.
TEST(GroupingAttention, BlocksOfHeadsDoNotShow) {
  const at::Tensor q = Random("q", {3, 300, 2, 4}), k = Random("k", {3, 1100, 2, 4}),
                   v = Random("v", {3, 1100, 8});
  const at::Tensor y = DenseGroupingAttention(q, k, v, HeadLayout::kCorrect, 1e-7);
  EXPECT_LT((y - Plain(q, k, v, 1e-7)).abs().max().item<float>(), 2e-6);
}

GroupingConfig Grouping(bool sparse, HeadLayout layout) {
  GroupingConfig c;
  c.width = 8, c.heads = 2, c.mlp = 12, c.iterations = 2;
  c.kernel = {3, 3}, c.stride = {2, 2};
  c.sparse = sparse, c.window = {5, 5}, c.layout = layout;
  c.rose = Rose(2, true);
  return c;
}

TEST(GroupingAttention, GradientsOfBothKindsBothLayoutsTwoScalesMaskAndDropout) {
  const at::Tensor spacing = Random("s", {2, 2, 2}).abs() + 0.5;
  at::Tensor hidden = at::zeros({2, 30}, at::kByte);
  for (const int64_t i : {3, 7, 44}) hidden.data_ptr<uint8_t>()[i] = 1;
  at::Tensor keys = at::full({2}, 5, at::kLong);
  for (const bool sparse : {false, true}) {
    for (const HeadLayout layout : {HeadLayout::kCorrect, HeadLayout::kReference}) {
      const GroupingConfig c = Grouping(sparse, layout);
      std::vector<ParamSpec> specs;
      AddGroupingParams(specs, "", c);
      Tensors x = Params(specs);
      x.push_back(Random("x0", {2, 30, 8}));
      x.push_back(Random("x1", {2, 4, 8}));
      CheckGradients(sparse ? "sparse" : "dense", x, [&](const Tensors& t) -> Tensors {
        ParamReader reader(t);
        const GroupingParams p = ReadGroupingParams(reader, c);
        const auto out = GroupingAttention({{t[t.size() - 2], {5, 6}, spacing, 0, {1, 1}, hidden},
                                            {t.back(), {2, 2}, spacing, 1, {1, 1}, {}}},
                                           c, p, {keys, 0.25, 11});
        EXPECT_EQ(out[0].grid, (std::vector<int64_t>{3, 3}));
        return {out[0].tokens, out[1].tokens};
      });
    }
  }
}

TEST(GroupingAttention, AGridOfOneTokenStaysOne) {
  for (const bool sparse : {false, true}) {
    GroupingConfig c = Grouping(sparse, HeadLayout::kCorrect);
    std::vector<ParamSpec> specs;
    AddGroupingParams(specs, "", c);
    Tensors x = Params(specs);
    x.push_back(Random("x", {1, 1, 8}));
    CheckGradients("one token", x, [&](const Tensors& t) -> Tensors {
      ParamReader reader(t);
      const GroupingParams p = ReadGroupingParams(reader, c);
      return {GroupingAttention({{t.back(), {1, 1}, {}, 0, {1, 1}, {}}}, c, p, {})[0].tokens};
    });
  }
}

TEST(GroupingAttention, TheSmallestWindowThatSeesAllIsKnown) {
  EXPECT_EQ(SmallestCoveringWindow(128, 43, 3), 5);
  EXPECT_EQ(SmallestCoveringWindow(9, 9, 1), 1);
  EXPECT_EQ(SmallestCoveringWindow(2, 1, 3), 2);
  EXPECT_EQ(SmallestCoveringWindow(1, 1, 3), 1);
  EXPECT_EQ(SmallestCoveringWindow(128, 64, 2), 3);
}

TEST(MultiResolution, GradientsOfTwoScalesWithLeadingTokensAndDropout) {
  MultiResolutionConfig c;
  c.width = 8, c.mlp = 12;
  c.rose = Rose(2, true);
  std::vector<ParamSpec> specs;
  AddMultiResolutionParams(specs, "", c);
  const at::Tensor spacing = Random("s", {2, 2, 2}).abs() + 0.5, keys = at::full({2}, 9, at::kLong);
  Tensors x = Params(specs);
  for (const int64_t n : {1, 6, 4}) x.push_back(Random("x" + std::to_string(n), {2, n, 8}));
  for (const int64_t kept : {0, 2}) {
    CheckGradients("block", x, [&](const Tensors& t) -> Tensors {
      ParamReader reader(t);
      const MultiResolutionParams p = ReadMultiResolutionParams(reader, c);
      const size_t n = t.size();
      return MultiResolution({t[n - 3], t[n - 2], t[n - 1]},
                             {{{2, 3}, 0, {2, 2}}, {{2, 2}, 1, {2, 2}}}, spacing, c, p,
                             {keys, 0.25, 11}, kept);
    });
  }
}

TEST(DetectionHead, GradientsOfAllThreeKinds) {
  for (const auto& [layers, tokens] :
       {std::pair<int64_t, bool>{0, false}, {1, false}, {0, true}, {2, true}}) {
    DetectionConfig c;
    c.width = 8, c.heads = 2, c.mlp = 12, c.logits = 3, c.queries = tokens ? 6 : 4;
    c.decoder_layers = layers, c.token_queries = tokens;
    std::vector<ParamSpec> specs;
    AddDetectionParams(specs, "", c);
    Tensors x = Params(specs);
    // Positions follow the anchors without a gradient: only what boxes make of them is differentiated.
    const size_t anchors = layers > 0 && !tokens ? 2 : 0;
    Tensors fixed;
    if (anchors > 0) {
      fixed = {x[1], x[2]};
      x.erase(x.begin() + 1, x.begin() + 3);
    }
    x.push_back(Random("tokens", {2, 6, 8}));
    CheckGradients("layers " + std::to_string(layers), x, [&](const Tensors& t) -> Tensors {
      Tensors all = t;
      all.insert(all.begin() + static_cast<std::ptrdiff_t>(fixed.empty() ? 0 : 1), fixed.begin(),
                 fixed.end());
      ParamReader reader(all);
      const DetectionParams p = ReadDetectionParams(reader, c);
      const Detections d = DetectionHead(t.back(), {2, 3}, c, p, {});
      return {d.class_logits, d.boxes};
    });
  }
}

TEST(Dropout, DependsOnTheSampleNotOnTheBatchItIsIn) {
  at::Tensor keys = at::empty({3}, at::kLong);
  for (int64_t i = 0; i < 3; ++i) keys.data_ptr<int64_t>()[i] = 100 + i;
  const at::Tensor ones = at::full({3 * 400, 25}, 1.0, at::kFloat);
  const at::Tensor all = ones.clone();
  DropInPlace(all, {keys, 0.1, 5}, 0);
  const at::Tensor last = at::full({400, 25}, 1.0, at::kFloat);
  DropInPlace(last, {keys.narrow(0, 2, 1), 0.1, 5}, 0);
  EXPECT_TRUE(all.narrow(0, 800, 400).equal(last));
  EXPECT_FALSE(all.narrow(0, 0, 400).equal(last));
  EXPECT_NEAR(all.mean().item<float>(), 1, 0.01);
  EXPECT_NEAR((all == 0).to(at::kFloat).mean().item<float>(), 0.1, 0.01);
  const at::Tensor other = at::full({400, 25}, 1.0, at::kFloat);
  DropInPlace(other, {keys.narrow(0, 2, 1), 0.1, 5}, 1);
  EXPECT_FALSE(other.equal(last));
  const at::Tensor evaluated = ones.clone();
  DropInPlace(evaluated, {at::zeros({3}, at::kLong), 0.1, 5}, 0);
  EXPECT_TRUE(evaluated.equal(ones));
}

}  // namespace
}  // namespace millrace::rat
