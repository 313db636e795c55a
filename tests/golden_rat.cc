// Kinds rat and rat_formula: the whole backbone in one to three axes, with masks and with the attention accumulated
// over blocks. (golden_rat_model.cc: the registered models.)
#include <ATen/ops/matmul.h>

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "graph/base/status.h"
#include "models/rat/grouping_attention.h"
#include "models/rat/multi_resolution.h"
#include "tests/golden_case.h"
#include "tests/golden_function.h"
#include "tests/golden_rat_config.h"

namespace millrace {
namespace {

using Json = nlohmann::json;
using Grid = std::vector<int64_t>;

struct Backbone {
  int64_t channels, blocks, axes;
  Grid projection;
  rat::GroupingConfig grouping;
  rat::MultiResolutionConfig mixing;
  std::vector<Grid> images;
  bool masks, attention;
  at::Tensor spacing;
};

absl::StatusOr<Backbone> ReadBackbone(const GoldenCase& c) {
  GoldenArgs args(c.args);
  const Json ctor_json = args.Get("ctor", Json::object());
  Backbone b;
  b.images = args.Get("images", std::vector<Grid>{});
  b.masks = args.Get("mask", false);
  b.attention = args.Get("attn", c.kind == "rat");
  const Json spacings = args.Get("spacings", Json());
  args.Get("batch", int64_t{1});
  args.Get("probe_attn", false);
  RETURN_IF_ERROR(args.AllWereRead());
  GoldenArgs ctor(ctor_json);
  ASSIGN_OR_RETURN(b.grouping, ReadGrouping(ctor, "sga_kernel_size"));
  b.channels = ctor.Get("input_features", int64_t{3});
  b.blocks = ctor.Get("num_blocks", int64_t{4});
  b.axes = b.grouping.rose.axes;
  b.projection = PerAxis(ctor.Get("proj_kernel_size", Json(7)), b.axes);
  RETURN_IF_ERROR(ctor.AllWereRead());
  b.mixing.width = b.grouping.width;
  b.mixing.mlp = b.grouping.mlp;
  b.mixing.rose = b.grouping.rose;
  b.spacing = SpacingTensor(spacings, static_cast<int64_t>(b.images.size()), b.axes);
  return b;
}

std::vector<ParamSpec> BackboneParams(const Backbone& b) {
  std::vector<ParamSpec> params;
  Grid kernel{b.grouping.width, b.channels};
  kernel.insert(kernel.end(), b.projection.begin(), b.projection.end());
  rat::AddFanIn(params, "init_proj", kernel);
  for (int64_t i = 0; i < b.blocks; ++i) {
    rat::AddGroupingParams(params, absl::StrCat("sga_layers.", i, "."), b.grouping);
    rat::AddMultiResolutionParams(params, absl::StrCat("mr_attn_layers.", i, "."), b.mixing);
  }
  return params;
}

struct Scale {
  at::Tensor tokens, hidden, attn_q, attn_k;
  Grid grid;
  std::vector<double> factor;
};

// One block over all scales; returns their tokens.
void RunBlock(const Backbone& b, rat::ParamReader& reader, bool first, std::vector<Scale>& scales) {
  const rat::GroupingParams grouping = rat::ReadGroupingParams(reader, b.grouping);
  const rat::MultiResolutionParams mixing = rat::ReadMultiResolutionParams(reader, b.mixing);
  std::vector<rat::GroupingInput> in;
  for (size_t s = 0; s < scales.size(); ++s) {
    in.push_back({scales[s].tokens, scales[s].grid, b.spacing, static_cast<int64_t>(s),
                  scales[s].factor, first ? scales[s].hidden : at::Tensor()});
  }
  const auto grouped = rat::GroupingAttention(in, b.grouping, grouping, {}, b.attention);
  Tensors tokens;
  std::vector<rat::TokenGrid> grids;
  for (size_t s = 0; s < scales.size(); ++s) {
    const rat::GroupedTokens& g = grouped[s];
    tokens.push_back(g.tokens);
    grids.push_back({g.grid, static_cast<int64_t>(s), g.factor});
    scales[s].grid = g.grid;
    scales[s].factor = g.factor;
    if (!b.attention) continue;
    scales[s].attn_q = first ? g.attn_q : at::matmul(g.attn_q, scales[s].attn_q);
    scales[s].attn_k = first ? g.attn_k : at::matmul(g.attn_k, scales[s].attn_k);
  }
  tokens = rat::MultiResolution(tokens, grids, b.spacing, b.mixing, mixing, {});
  for (size_t s = 0; s < scales.size(); ++s) scales[s].tokens = tokens[s];
}

Tensors Forward(const Backbone& b, const Tensors& in, const Tensors& params) {
  rat::ParamReader reader(params);
  const int64_t count = static_cast<int64_t>(b.images.size());
  rat::Uses weight(reader.Next(), count), bias(reader.Next(), count);
  std::vector<Scale> scales;
  for (size_t s = 0; s < b.images.size(); ++s) {
    Scale scale;
    const at::Tensor& image = in[s];
    scale.grid = b.images[s];
    scale.factor.assign(static_cast<size_t>(b.axes), 1.0);
    const at::Tensor pixels = image.flatten(2).transpose(1, 2).contiguous();
    scale.tokens =
        Convolution(pixels, weight.Next(), bias.Next(), b.images[s], SamePadding(b.projection));
    if (b.masks) {
      const at::Tensor mask = in[b.images.size() + s].detach().flatten(1).to(at::kByte);
      scale.hidden = rat::DilateMask(mask, b.images[s], b.projection);
    }
    scales.push_back(std::move(scale));
  }
  for (int64_t i = 0; i < b.blocks; ++i) RunBlock(b, reader, i == 0, scales);
  Tensors out;
  for (const Scale& s : scales) {
    out.push_back(s.tokens);
    if (b.attention) out.insert(out.end(), {s.attn_q, s.attn_k});
  }
  return out;
}

absl::StatusOr<GoldenOutputs> Rat(const GoldenCase& c) {
  ASSIGN_OR_RETURN(const Backbone b, ReadBackbone(c));
  GoldenFunction f;
  f.params = BackboneParams(b);
  for (size_t s = 0; s < b.images.size(); ++s) {
    f.inputs.push_back(absl::StrCat("image", s));
    f.outputs.push_back(absl::StrCat("x_out_", s));
    if (!b.attention) continue;
    f.outputs.push_back(absl::StrCat("attn_q_", s));
    f.outputs.push_back(absl::StrCat("attn_k_", s));
  }
  for (size_t s = 0; s < b.images.size() && b.masks; ++s) {
    f.inputs.push_back(absl::StrCat("mask", s));
  }
  f.forward = [b](const Tensors& in, const Tensors& params) { return Forward(b, in, params); };
  return RunFunction(c, f);
}

REGISTER_GOLDEN_KIND(rat, Rat);
REGISTER_GOLDEN_KIND(rat_formula, Rat);

}  // namespace
}  // namespace millrace
