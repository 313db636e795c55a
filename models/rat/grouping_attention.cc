#include "models/rat/grouping_attention.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/softmax.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "models/layers.h"

namespace millrace::rat {
namespace {

// Machine epsilon of f32, whatever the storage type: the published one follows the type, and is then 9.8e-4 in f16.
constexpr double kEps = 1.1920929e-7;
constexpr double kNormEps = 1e-5;

int64_t Product(const std::vector<int64_t>& v) {
  int64_t n = 1;
  for (const int64_t x : v) n *= x;
  return n;
}

// First key of a window.
int64_t WindowStart(int64_t query, int64_t keys, int64_t stride, int64_t window) {
  const int64_t w = std::min(window, keys);
  return std::clamp<int64_t>(query * stride - w / 2, 0, keys - w);
}

// 0 where a query sees a key, -infinity elsewhere; [Nq, Nk].
at::Tensor WindowMask(const Neighborhood& n, const at::TensorOptions& options) {
  const int64_t queries = Product(n.query_grid), keys = Product(n.key_grid);
  at::Tensor mask = at::full({queries, keys}, 0.0, options);
  for (int64_t q = 0; q < queries; ++q) {
    for (int64_t k = 0; k < keys; ++k) {
      int64_t rest_q = q, rest_k = k;
      for (size_t a = n.stride.size(); a-- > 0;) {
        const int64_t iq = rest_q % n.query_grid[a], ik = rest_k % n.key_grid[a];
        rest_q /= n.query_grid[a], rest_k /= n.key_grid[a];
        const int64_t begin = WindowStart(iq, n.key_grid[a], n.stride[a], n.window[a]);
        if (ik < begin || ik >= begin + n.window[a]) {
          mask.data_ptr<float>()[q * keys + k] = -std::numeric_limits<float>::infinity();
        }
      }
    }
  }
  return mask;
}

// The scores themselves, by automatic differentiation.
void AddAttention(const at::Tensor& q, const at::Tensor& k, const Neighborhood* window,
                  GroupedTokens* out) {
  at::Tensor scores = at::matmul(q.transpose(1, 2), k.permute({0, 2, 3, 1}));
  if (window != nullptr) scores = scores + WindowMask(*window, q.options());
  out->attn_k = at::softmax(scores, -1);
  out->attn_q = out->attn_k / (out->attn_k.sum(-2, true) + kEps);
}

// Parameters as often as they are used.
struct SharedParams {
  Uses temp, q_weight, q_bias, fc1_weight, fc1_bias, fc2_weight, fc2_bias, freqs, scale[4],
      strider_weight, strider_bias, kv_weight, kv_bias, norm1_weight, norm1_bias, norm2_weight,
      norm2_bias, norm3_weight, norm3_bias, mask_embedding;

  SharedParams(const GroupingParams& p, int64_t scales, int64_t rounds, int64_t masks)
      : temp(p.temp, rounds),
        q_weight(p.q_weight, rounds),
        q_bias(p.q_bias, rounds),
        fc1_weight(p.mlp.fc1_weight, rounds),
        fc1_bias(p.mlp.fc1_bias, rounds),
        fc2_weight(p.mlp.fc2_weight, rounds),
        fc2_bias(p.mlp.fc2_bias, rounds),
        freqs(p.rose.freqs, rounds + scales),
        scale{{p.rose.scale[0], rounds + scales},
              {p.rose.scale[1], rounds + scales},
              {p.rose.scale[2], rounds + scales},
              {p.rose.scale[3], rounds + scales}},
        strider_weight(p.strider_weight, scales),
        strider_bias(p.strider_bias, scales),
        kv_weight(p.kv_weight, scales),
        kv_bias(p.kv_bias, scales),
        norm1_weight(p.norm_weight[0], scales),
        norm1_bias(p.norm_bias[0], scales),
        norm2_weight(p.norm_weight[1], rounds),
        norm2_bias(p.norm_bias[1], rounds),
        norm3_weight(p.norm_weight[2], rounds),
        norm3_bias(p.norm_bias[2], rounds),
        mask_embedding(p.mask_embedding, masks) {}
  RoseParams rose() {
    return {freqs.Next(), {scale[0].Next(), scale[1].Next(), scale[2].Next(), scale[3].Next()}};
  }
};

GroupedTokens Group(const GroupingInput& in, const GroupingConfig& c, SharedParams& p,
                    const Dropout& dropout, bool want_attention) {
  const int64_t batch = in.tokens.size(0), heads = c.heads, d = c.width / heads;
  const ConvGeometry geometry = c.geometry();
  GroupedTokens out;
  out.grid = OutputGrid(in.grid, geometry);
  for (size_t a = 0; a < in.factor.size(); ++a) {
    out.factor.push_back(in.factor[a] * static_cast<double>(c.stride[a]));
  }
  const RoseSegment fine{0, in.grid, in.scale, in.factor};
  const RoseSegment coarse{0, out.grid, in.scale, out.factor};
  const Neighborhood window{out.grid, in.grid, c.stride, c.window};

  at::Tensor keys, values, x = in.tokens;
  if (in.hidden.defined()) x = HideTokens(x, in.hidden, p.mask_embedding.Next());
  {
    auto [for_groups, for_keys] = Fork(x);
    x = Convolution(for_groups, p.strider_weight.Next(), p.strider_bias.Next(), in.grid, geometry);
    x = layers::LayerNorm(x, p.norm1_weight.Next(), p.norm1_bias.Next(), kNormEps);
    std::vector<at::Tensor> kv =
        Project(for_keys.view({-1, c.width}), p.kv_weight.Next(), p.kv_bias.Next(), 2);
    const std::vector<int64_t> shape = in.tokens.sizes().vec();
    keys = Rotate(kv[0].view(shape), c.rose, {fine}, in.spacing, p.rose(), at::Tensor());
    values = kv[1].view(shape);
  }
  Uses k(keys, c.iterations), v(values, c.iterations);
  keys.reset(), values.reset();
  for (int64_t i = 0; i < c.iterations; ++i) {
    auto [for_query, stays] = Fork(x);
    at::Tensor y;
    {
      at::Tensor q =
          layers::Linear(for_query.view({-1, c.width}), p.q_weight.Next(), p.q_bias.Next());
      q = Rotate(q.view(x.sizes()), c.rose, {coarse}, in.spacing, p.rose(), p.temp.Next());
      const at::Tensor q4 = q.view({batch, -1, heads, d});
      const at::Tensor k4 = k.Next().view({batch, -1, heads, d});
      y = c.sparse ? SparseGroupingAttention(q4, k4, v.Next(), window, c.layout, kEps)
                   : DenseGroupingAttention(q4, k4, v.Next(), c.layout, kEps);
      if (want_attention && i + 1 == c.iterations) {
        AddAttention(q4, k4, c.sparse ? &window : nullptr, &out);
      }
    }
    x = AddNorm(stays, y, p.norm2_weight.Next(), p.norm2_bias.Next(), kNormEps);
    auto [for_mlp, residual] = Fork(x);
    const MlpParams mlp{p.fc1_weight.Next(), p.fc1_bias.Next(), p.fc2_weight.Next(),
                        p.fc2_bias.Next()};
    Dropout drop = dropout;
    drop.layer += static_cast<uint64_t>(2 * (in.scale * c.iterations + i));
    y = Mlp(for_mlp.view({-1, c.width}), mlp, drop).view(x.sizes());
    x = AddNorm(residual, y, p.norm3_weight.Next(), p.norm3_bias.Next(), kNormEps);
  }
  out.tokens = x;
  return out;
}

}  // namespace

ConvGeometry GroupingConfig::geometry() const {
  if (std::all_of(stride.begin(), stride.end(), [](int64_t s) { return s == 1; })) {
    return SamePadding(kernel);
  }
  ConvGeometry g{kernel, stride, {}, {}};
  for (const int64_t k : kernel) g.pad_low.push_back((k - 1) / 2);
  g.pad_high = g.pad_low;
  return g;
}

void AddGroupingParams(std::vector<ParamSpec>& params, const std::string& prefix,
                       const GroupingConfig& c) {
  params.push_back({prefix + "temp",
                    {1},
                    DType::kF32,
                    {InitSpec::Kind::kConstant, 1 / std::sqrt(static_cast<double>(c.width))},
                    /*weight_decay=*/false});
  InitSpec unit{InitSpec::Kind::kUniform, 0.5};
  unit.offset = 0.5;
  params.push_back(
      {prefix + "mask_embedding", {c.width}, DType::kF32, unit, /*weight_decay=*/false});
  std::vector<int64_t> kernel{c.width, c.width};
  kernel.insert(kernel.end(), c.kernel.begin(), c.kernel.end());
  AddFanIn(params, prefix + "strider", std::move(kernel));
  AddLinear(params, prefix + "kv", 2 * c.width, c.width, c.qkv_bias);
  AddLinear(params, prefix + "q", c.width, c.width, c.qkv_bias);
  AddLinear(params, prefix + "mlp.fc1", c.mlp, c.width);
  AddLinear(params, prefix + "mlp.fc2", c.width, c.mlp);
  AddRoseParams(params, prefix + "rose.", c.rose);
  for (const char* norm : {"norm1", "norm2", "norm3"})
    AddNormParams(params, prefix + norm, c.width);
}

GroupingParams ReadGroupingParams(ParamReader& reader, const GroupingConfig& c) {
  GroupingParams p;
  p.temp = reader.Next();
  p.mask_embedding = reader.Next();
  p.strider_weight = reader.Next(), p.strider_bias = reader.Next();
  p.kv_weight = reader.Next(), p.kv_bias = reader.NextIf(c.qkv_bias);
  p.q_weight = reader.Next(), p.q_bias = reader.NextIf(c.qkv_bias);
  p.mlp.fc1_weight = reader.Next(), p.mlp.fc1_bias = reader.Next();
  p.mlp.fc2_weight = reader.Next(), p.mlp.fc2_bias = reader.Next();
  p.rose = ReadRoseParams(reader, c.rose);
  for (int i = 0; i < 3; ++i) p.norm_weight[i] = reader.Next(), p.norm_bias[i] = reader.Next();
  return p;
}

at::Tensor DilateMask(const at::Tensor& mask, const std::vector<int64_t>& grid,
                      const std::vector<int64_t>& kernel) {
  at::Tensor from = mask.contiguous(), to = from;
  int64_t inner = Product(grid);
  for (size_t a = 0; a < grid.size(); ++a) {  // a maximum over a box is one over each axis in turn
    inner /= grid[a];
    to = at::empty(from.sizes(), from.options());
    const int64_t n = grid[a], reach = kernel[a] / 2;
    for (int64_t i = 0; i < from.numel() && !to.is_meta(); ++i) {
      const int64_t at = i / inner % n;
      uint8_t any = 0;
      for (int64_t k = -std::min(reach, at); k < kernel[a] - reach && at + k < n; ++k) {
        any |= from.data_ptr<uint8_t>()[i + k * inner];
      }
      to.data_ptr<uint8_t>()[i] = any;
    }
    from = to;
  }
  return to;
}

int64_t SmallestCoveringWindow(int64_t keys, int64_t queries, int64_t stride) {
  for (int64_t w = 1; w < keys; ++w) {
    int64_t seen = 0;  // keys before this are seen by a query so far
    for (int64_t q = 0; q < queries && WindowStart(q, keys, stride, w) <= seen; ++q) {
      seen = WindowStart(q, keys, stride, w) + w;
    }
    if (seen >= keys) return w;
  }
  return keys;
}

std::vector<GroupedTokens> GroupingAttention(const std::vector<GroupingInput>& inputs,
                                             const GroupingConfig& c, const GroupingParams& p,
                                             const Dropout& dropout, bool want_attention) {
  const int64_t scales = static_cast<int64_t>(inputs.size());
  const int64_t masks = std::count_if(inputs.begin(), inputs.end(),
                                      [](const GroupingInput& in) { return in.hidden.defined(); });
  SharedParams shared(p, scales, scales * c.iterations, masks);
  std::vector<GroupedTokens> out;
  for (const GroupingInput& in : inputs) {
    out.push_back(Group(in, c, shared, dropout, want_attention));
  }
  return out;
}

}  // namespace millrace::rat
