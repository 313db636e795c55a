#include <ATen/ops/add.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/sum.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "models/layers.h"
#include "models/rat/heads.h"

namespace millrace::rat {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::Variable;
using torch::autograd::variable_list;
using OptionalTensor = std::optional<at::Tensor>;

constexpr double kNormEps = 1e-5;

// One weight [3 D, D] over three inputs [rows_i, D].
struct CrossProjectFunction : Function<CrossProjectFunction> {
  static variable_list forward(AutogradContext* ctx, const Variable& q, const Variable& k,
                               const Variable& v, const Variable& weight, const Variable& bias) {
    ctx->save_for_backward({q, k, v, weight});
    const int64_t width = weight.size(1);
    variable_list out;
    for (const Variable* x : {&q, &k, &v}) {
      const int64_t begin = static_cast<int64_t>(out.size()) * width;
      out.push_back(
          at::addmm(bias.narrow(0, begin, width), *x, weight.narrow(0, begin, width).t()));
    }
    return out;
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor& weight = saved[3];
    const int64_t width = weight.size(1);
    variable_list result(5);
    result[3] = at::empty_like(weight);
    result[4] = at::empty({weight.size(0)}, weight.options());
    for (size_t i = 0; i < 3; ++i) {
      const int64_t begin = static_cast<int64_t>(i) * width;
      result[i] = at::mm(grads[i], weight.narrow(0, begin, width));
      at::Tensor dw = result[3].narrow(0, begin, width), db = result[4].narrow(0, begin, width);
      at::mm_out(dw, grads[i].t(), saved[i]);
      at::sum_out(db, grads[i], {0});
    }
    return result;
  }
};

// [Q, D] for every sample: [B, Q, D].
struct RepeatFunction : Function<RepeatFunction> {
  static Variable forward(AutogradContext*, const Variable& x, int64_t batch) {
    at::Tensor y = at::empty({batch, x.size(0), x.size(1)}, x.options());
    return y.copy_(x.unsqueeze(0).expand(y.sizes()));
  }
  static variable_list backward(AutogradContext*, variable_list grads) {
    return {at::sum(grads[0], {0}), Variable()};
  }
};

double Logit(double p) { return std::log(p / (1 - p)); }

// The anchor of token i of a grid: its centre, and two tokens wide and high.
void GridAnchor(const std::vector<int64_t>& grid, int64_t i, double* anchor) {
  const double w = static_cast<double>(grid[1]), h = static_cast<double>(grid[0]);
  anchor[0] = Logit((static_cast<double>(i % grid[1]) + 0.5) / w);
  anchor[1] = Logit((static_cast<double>(i / grid[1]) + 0.5) / h);
  anchor[2] = Logit(std::min(0.9, 2 / w));
  anchor[3] = Logit(std::min(0.9, 2 / h));
}

// sigmoid(offset + anchor); anchors are learnt (centers, sizes [Q, 2], before the sigmoid) or those of the grid.
struct BoxFunction : Function<BoxFunction> {
  static Variable forward(AutogradContext* ctx, const Variable& offsets,
                          const OptionalTensor& centers, const OptionalTensor& sizes,
                          const std::vector<int64_t>& grid) {
    at::Tensor boxes = at::empty_like(offsets);
    ctx->saved_data["learnt"] = centers.has_value();
    if (!boxes.is_meta()) {
      const int64_t queries = offsets.size(1);
      for (int64_t i = 0; i < offsets.size(0) * queries; ++i) {
        const int64_t q = i % queries;
        double anchor[4];
        if (centers) {
          for (int64_t c = 0; c < 4; ++c) {
            anchor[c] = (c < 2 ? *centers : *sizes).data_ptr<float>()[2 * q + c % 2];
          }
        } else {
          GridAnchor(grid, q, anchor);
        }
        for (int64_t c = 0; c < 4; ++c) {
          const double x = offsets.data_ptr<float>()[4 * i + c] + anchor[c];
          boxes.data_ptr<float>()[4 * i + c] = static_cast<float>(1 / (1 + std::exp(-x)));
        }
      }
    }
    ctx->save_for_backward({boxes});
    return boxes;
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const at::Tensor boxes = ctx->get_saved_variables()[0], dy = grads[0].contiguous();
    const bool learnt = ctx->saved_data["learnt"].toBool();
    const int64_t queries = boxes.size(1);
    variable_list result(4);
    result[0] = at::empty_like(boxes);
    if (learnt) {
      result[1] = at::empty({queries, 2}, boxes.options());
      result[2] = at::empty({queries, 2}, boxes.options());
    }
    if (boxes.is_meta()) return result;
    std::vector<double> sum(static_cast<size_t>(4 * queries));
    for (int64_t i = 0; i < boxes.numel(); ++i) {
      const float b = boxes.data_ptr<float>()[i];
      const float d = dy.data_ptr<float>()[i] * b * (1 - b);
      result[0].data_ptr<float>()[i] = d;
      sum[static_cast<size_t>(i % (4 * queries))] += d;
    }
    for (size_t i = 0; i < sum.size() && learnt; ++i) {
      const size_t to = i / 4 * 2 + i % 2;
      result[i % 4 < 2 ? 1 : 2].data_ptr<float>()[to] = static_cast<float>(sum[i]);
    }
    return result;
  }
};

// Sine positions [n, D] of places in [0, 1]: half of the channels for x, half for y; sines and cosines of doubling
// frequencies by turns. `place` gives x and y before the sigmoid. No gradient.
template <typename Place>
at::Tensor SinePositions(int64_t n, int64_t width, const at::TensorOptions& options,
                         Place&& place) {
  at::Tensor out = at::empty({n, width}, options.requires_grad(false));
  if (out.is_meta()) return out;
  const int64_t per_axis = width / 2, waves = std::max<int64_t>(1, per_axis / 2);
  for (int64_t i = 0; i < n; ++i) {
    double at[4];
    place(i, at);
    float* row = out.data_ptr<float>() + i * width;
    for (int64_t c = 0; c < width; ++c) {
      const int64_t axis = std::min<int64_t>(c / std::max<int64_t>(1, per_axis), 1);
      const int64_t j = (c - axis * per_axis) / 2;
      // From half a wave over the image to 32.
      const double waves_over_image =
          0.5 * std::pow(64.0, static_cast<double>(j) / static_cast<double>(waves));
      const double x = 1 / (1 + std::exp(-at[axis]));
      const double angle = 2 * M_PI * waves_over_image * x;
      row[c] =
          static_cast<float>((c - axis * per_axis) % 2 == 0 ? std::sin(angle) : std::cos(angle));
    }
  }
  return out;
}

// Multi-head attention of q [B, Q, D] to k, v [B, N, D], with its projections.
at::Tensor CrossAttention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                          int64_t batch, int64_t heads, const CrossAttentionParams& p) {
  const int64_t width = p.in_weight.size(1);
  const auto rows = [width](const at::Tensor& x) { return x.view({-1, width}); };
  variable_list qkv =
      CrossProjectFunction::apply(rows(q), rows(k), rows(v), p.in_weight, p.in_bias);
  // Queries that are the same for all samples are projected once.
  at::Tensor query =
      q.dim() == 2 ? RepeatFunction::apply(qkv[0], batch) : at::Tensor(qkv[0].view(q.sizes()));
  const at::Tensor context =
      Attention(query, qkv[1].view({batch, -1, width}), qkv[2].view({batch, -1, width}), heads);
  return layers::Linear(rows(context), p.out_weight, p.out_bias);
}

// x [B * Q, D] through one layer of DETR's decoder, pre-norm. Positions are added to queries and keys.
at::Tensor DecoderLayer(at::Tensor x, Uses& tokens, const at::Tensor& query_positions,
                        const at::Tensor& token_positions, int64_t batch, const DetectionConfig& c,
                        const DecoderLayerParams& p, const Dropout& dropout) {
  const std::vector<int64_t> shape{batch, -1, c.width};
  {
    layers::Branch b = layers::LayerNormBranch(x, p.norm_weight[0], p.norm_bias[0], kNormEps);
    auto [values, placed] = Fork(b.normed.view(shape));
    auto [q, k] = Fork(at::add(placed, query_positions));
    x = CrossAttention(q, k, values, batch, c.heads, p.self);
    x.add_(b.residual);
  }
  {
    layers::Branch b = layers::LayerNormBranch(x, p.norm_weight[1], p.norm_bias[1], kNormEps);
    const at::Tensor q = at::add(b.normed.view(shape), query_positions);
    const at::Tensor k = at::add(tokens.Next(), token_positions);
    x = CrossAttention(q, k, tokens.Next(), batch, c.heads, p.cross);
    x.add_(b.residual);
  }
  layers::Branch b = layers::LayerNormBranch(x, p.norm_weight[2], p.norm_bias[2], kNormEps);
  x = Mlp(b.normed, p.mlp, dropout);
  return x.add_(b.residual);
}

void AddCross(std::vector<ParamSpec>& params, const std::string& name, int64_t width) {
  // As torch.nn.MultiheadAttention starts: Xavier for the joint projection, zeros for biases.
  const InitSpec xavier{InitSpec::Kind::kUniform,
                        std::sqrt(6.0 / (4.0 * static_cast<double>(width)))};
  params.push_back({name + ".in_proj_weight", {3 * width, width}, DType::kF32, xavier, true});
  params.push_back({name + ".in_proj_bias", {3 * width}, DType::kF32, {}, false});
  AddFanIn(params, name + ".out_proj", {width, width});
  params.back().init = {};
}

CrossAttentionParams ReadCross(ParamReader& reader) {
  CrossAttentionParams p;
  p.in_weight = reader.Next(), p.in_bias = reader.Next();
  p.out_weight = reader.Next(), p.out_bias = reader.Next();
  return p;
}

}  // namespace

void AddDetectionParams(std::vector<ParamSpec>& params, const std::string& prefix,
                        const DetectionConfig& c) {
  if (!c.token_queries) {
    params.push_back({prefix + "query_embed.weight",
                      {c.queries, c.width},
                      DType::kF32,
                      {InitSpec::Kind::kNormal, 1.0},
                      /*weight_decay=*/false});
    if (c.anchors()) {
      // Centres all over the image, boxes of a fifth of it.
      params.push_back({prefix + "anchor_centers.weight",
                        {c.queries, 2},
                        DType::kF32,
                        {InitSpec::Kind::kUniform, 2.5},
                        false});
      params.push_back({prefix + "anchor_sizes.weight",
                        {c.queries, 2},
                        DType::kF32,
                        {InitSpec::Kind::kConstant, Logit(0.2)},
                        false});
    }
  }
  for (int64_t i = 0; i < c.decoder_layers; ++i) {
    const std::string layer = prefix + "layers." + std::to_string(i) + ".";
    for (const char* norm : {"norm1", "norm2", "norm3"}) {
      AddNormParams(params, layer + norm, c.width);
    }
    AddCross(params, layer + "self_attn", c.width);
    AddCross(params, layer + "cross_attn", c.width);
    AddLinear(params, layer + "mlp.fc1", c.mlp, c.width);
    AddLinear(params, layer + "mlp.fc2", c.width, c.mlp);
  }
  if (c.anchors()) AddNormParams(params, prefix + "norm", c.width);
  AddFanIn(params, prefix + "class_head", {c.logits, c.width});
  if (c.class_bias != 0) params.back().init = {InitSpec::Kind::kConstant, c.class_bias};
  AddFanIn(params, prefix + "bbox_head", {4, c.width});
  if (c.anchors()) params.back().init = {};  // boxes start as their anchors
  if (!c.anchors()) AddCross(params, prefix + "cross_attn", c.width);
}

DetectionParams ReadDetectionParams(ParamReader& reader, const DetectionConfig& c) {
  DetectionParams p;
  p.query_embed = reader.NextIf(!c.token_queries);
  p.anchor_centers = reader.NextIf(!c.token_queries && c.anchors());
  p.anchor_sizes = reader.NextIf(!c.token_queries && c.anchors());
  for (int64_t i = 0; i < c.decoder_layers; ++i) {
    DecoderLayerParams l;
    for (int k = 0; k < 3; ++k) l.norm_weight[k] = reader.Next(), l.norm_bias[k] = reader.Next();
    l.self = ReadCross(reader);
    l.cross = ReadCross(reader);
    l.mlp.fc1_weight = reader.Next(), l.mlp.fc1_bias = reader.Next();
    l.mlp.fc2_weight = reader.Next(), l.mlp.fc2_bias = reader.Next();
    p.layers.push_back(std::move(l));
  }
  if (c.anchors()) p.norm_weight = reader.Next(), p.norm_bias = reader.Next();
  p.class_weight = reader.Next(), p.class_bias = reader.Next();
  p.box_weight = reader.Next(), p.box_bias = reader.Next();
  if (!c.anchors()) p.cross = ReadCross(reader);
  return p;
}

Detections DetectionHead(const at::Tensor& tokens, const std::vector<int64_t>& grid,
                         const DetectionConfig& c, const DetectionParams& p,
                         const Dropout& dropout) {
  const int64_t batch = tokens.size(0);
  at::Tensor x;  // [B * Q, D]
  if (!c.anchors()) {
    auto [keys, values] = Fork(tokens);
    x = CrossAttention(p.query_embed, keys, values, batch, c.heads, p.cross);
  } else {
    Uses memory(tokens, 2 * c.decoder_layers);
    // Positions follow the anchors and give them no gradient.
    const at::Tensor centers = p.anchor_centers.defined() ? p.anchor_centers.detach() : tokens;
    const auto token_place = [&grid](int64_t i, double* at) { GridAnchor(grid, i, at); };
    const at::Tensor token_positions =
        SinePositions(tokens.size(1), c.width, tokens.options(), token_place);
    const at::Tensor query_positions =
        c.token_queries ? token_positions
                        : SinePositions(c.queries, c.width, tokens.options(),
                                        [&centers](int64_t i, double* at) {
                                          at[0] = centers.data_ptr<float>()[2 * i];
                                          at[1] = centers.data_ptr<float>()[2 * i + 1];
                                        });
    if (c.token_queries) {
      // The residual hands on the gradient that it got, so it is the second of the two.
      at::Tensor first = tokens;
      if (c.decoder_layers > 0) {
        auto [used, query] = Fork(tokens);
        memory = Uses(used, 2 * c.decoder_layers);
        first = query;
      }
      x = first.view({-1, c.width});
    } else {
      x = RepeatFunction::apply(p.query_embed, batch).view({-1, c.width});
    }
    for (int64_t i = 0; i < c.decoder_layers; ++i) {
      Dropout drop = dropout;
      drop.layer += static_cast<uint64_t>(i);
      x = DecoderLayer(x, memory, query_positions, token_positions, batch, c,
                       p.layers[static_cast<size_t>(i)], drop);
    }
    x = layers::LayerNorm(x, p.norm_weight, p.norm_bias, kNormEps);
  }
  auto [for_class, for_box] = Fork(x);
  Detections d;
  d.class_logits = layers::Linear(for_class, p.class_weight, p.class_bias)
                       .view({batch, -1, p.class_weight.size(0)});
  const at::Tensor offsets = layers::Linear(for_box, p.box_weight, p.box_bias).view({batch, -1, 4});
  if (c.anchors()) {
    const auto optional = [](const at::Tensor& t) {
      return t.defined() ? OptionalTensor(t) : std::nullopt;
    };
    d.boxes =
        BoxFunction::apply(offsets, optional(p.anchor_centers), optional(p.anchor_sizes), grid);
  } else {
    d.boxes = at::sigmoid(offsets);
  }
  return d;
}

}  // namespace millrace::rat
