#include "models/rat/multi_resolution.h"

#include <utility>

#include "models/layers.h"

namespace millrace::rat {
namespace {
constexpr double kNormEps = 1e-6;
}

void AddMultiResolutionParams(std::vector<ParamSpec>& params, const std::string& prefix,
                              const MultiResolutionConfig& c) {
  AddRoseParams(params, prefix + "rose.", c.rose);
  AddNormParams(params, prefix + "norm1", c.width);
  AddLinear(params, prefix + "qkv", 3 * c.width, c.width, c.qkv_bias);
  AddLinear(params, prefix + "proj", c.width, c.width);
  AddNormParams(params, prefix + "norm2", c.width);
  AddLinear(params, prefix + "mlp.fc1", c.mlp, c.width);
  AddLinear(params, prefix + "mlp.fc2", c.width, c.mlp);
}

MultiResolutionParams ReadMultiResolutionParams(ParamReader& reader,
                                                const MultiResolutionConfig& c) {
  MultiResolutionParams p;
  p.rose = ReadRoseParams(reader, c.rose);
  p.norm1_weight = reader.Next(), p.norm1_bias = reader.Next();
  p.qkv_weight = reader.Next(), p.qkv_bias = reader.NextIf(c.qkv_bias);
  p.proj_weight = reader.Next(), p.proj_bias = reader.Next();
  p.norm2_weight = reader.Next(), p.norm2_bias = reader.Next();
  p.mlp.fc1_weight = reader.Next(), p.mlp.fc1_bias = reader.Next();
  p.mlp.fc2_weight = reader.Next(), p.mlp.fc2_bias = reader.Next();
  return p;
}

std::vector<at::Tensor> MultiResolution(const std::vector<at::Tensor>& tokens,
                                        const std::vector<TokenGrid>& grids,
                                        const at::Tensor& spacing, const MultiResolutionConfig& c,
                                        const MultiResolutionParams& p, const Dropout& dropout,
                                        int64_t kept) {
  TORCH_CHECK(tokens.size() == grids.size() || tokens.size() == grids.size() + 1,
              "multi-resolution block: ", tokens.size(), " tensors for ", grids.size(), " grids");
  std::vector<int64_t> sizes;
  std::vector<RoseSegment> segments;
  int64_t begin = 0;
  for (size_t i = 0; i < tokens.size(); ++i) {
    const size_t leading = tokens.size() - grids.size();
    if (i >= leading) {
      const TokenGrid& g = grids[i - leading];
      segments.push_back({begin, g.grid, g.scale, g.factor});
    }
    sizes.push_back(tokens[i].size(1));
    begin += sizes.back();
  }
  const int64_t batch = tokens[0].size(0), heads = c.rose.heads;
  const std::vector<int64_t> shape{batch, begin, c.width};
  at::Tensor x = JoinTokens(tokens).view({-1, c.width});
  {
    layers::Branch branch = layers::LayerNormBranch(x, p.norm1_weight, p.norm1_bias, kNormEps);
    at::Tensor context;
    {
      std::vector<at::Tensor> qkv = Project(branch.normed, p.qkv_weight, p.qkv_bias, 3);
      Uses freqs(p.rose.freqs, 2);
      Uses scale[4] = {
          {p.rose.scale[0], 2}, {p.rose.scale[1], 2}, {p.rose.scale[2], 2}, {p.rose.scale[3], 2}};
      for (size_t i = 0; i < 2; ++i) {
        const RoseParams rose{freqs.Next(),
                              {scale[0].Next(), scale[1].Next(), scale[2].Next(), scale[3].Next()}};
        qkv[i] = Rotate(qkv[i].view(shape), c.rose, segments, spacing, rose, at::Tensor());
      }
      context = Attention(qkv[0], qkv[1], qkv[2].view(shape), heads);
    }
    x = layers::Linear(context.view({-1, c.width}), p.proj_weight, p.proj_bias);
    x.add_(branch.residual);
  }
  layers::Branch branch = layers::LayerNormBranch(x, p.norm2_weight, p.norm2_bias, kNormEps);
  x = Mlp(branch.normed, p.mlp, dropout);
  x.add_(branch.residual);
  if (kept > 0) sizes.resize(static_cast<size_t>(kept));
  return SplitTokens(x.view(shape), sizes);
}

}  // namespace millrace::rat
