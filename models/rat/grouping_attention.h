// Spatial grouping attention (SGA): a strided convolution makes fewer tokens out of a grid, and these gather from the
// grid's tokens, a few rounds with shared weights. A = softmax over keys says to which group a token belongs; divided by
// its sum over queries, it says what share of a token a group takes.
//
//   tokens [B, N, D] on grid g, spacing s  ->  tokens [B, N', D] on the convolution's output grid, spacing s * stride
//
// Dense: each group sees every token; a block of scores exists at a time and none is kept. Sparse: each group sees the
// window around its own place in the finer grid (models/sparse_attention.h), memory linear in tokens.
//
//   GroupingConfig c{.width = 32, .heads = 4, .mlp = 128, .kernel = {7, 7}, .stride = {3, 3}, .rose = ...};
//   std::vector<GroupedTokens> out = GroupingAttention({{.tokens = x, .grid = {12, 15}, .spacing = s}}, c, params, {});
//
// The published package reads values, stored token by token, as if they lay head by head, and the result likewise
// (HeadLayout::kReference, for its weights and numbers). Correct is the default. All f32.
#ifndef MILLRACE_MODELS_RAT_GROUPING_ATTENTION_H_
#define MILLRACE_MODELS_RAT_GROUPING_ATTENTION_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "models/convolution.h"
#include "models/rat/blocks.h"
#include "models/rat/rose.h"
#include "models/sparse_attention.h"

namespace millrace::rat {

struct GroupingConfig {
  int64_t width = 0, heads = 1, mlp = 0, iterations = 3;
  std::vector<int64_t> kernel, stride;
  bool sparse = false;
  std::vector<int64_t> window;  // sparse: tokens per axis that a group sees
  HeadLayout layout = HeadLayout::kCorrect;
  bool qkv_bias = true;
  RoseConfig rose;
  ConvGeometry geometry()
      const;  // padding (kernel - 1) / 2 on both sides, "same" where all strides are 1
};

void AddGroupingParams(std::vector<ParamSpec>& params, const std::string& prefix,
                       const GroupingConfig& c);

struct GroupingParams {
  at::Tensor temp, mask_embedding, strider_weight, strider_bias, kv_weight, kv_bias, q_weight,
      q_bias;
  MlpParams mlp;
  RoseParams rose;
  at::Tensor norm_weight[3], norm_bias[3];
};
GroupingParams ReadGroupingParams(ParamReader& reader, const GroupingConfig& c);

struct GroupingInput {
  at::Tensor tokens;
  std::vector<int64_t> grid;
  at::Tensor spacing;  // [B or 1, scales, axes] of the images; undefined: 1
  int64_t scale = 0;
  std::vector<double> factor;  // of the grid's spacing to the image's
  at::Tensor hidden;           // u8 [B, N]: tokens replaced by mask_embedding; undefined: none
};

struct GroupedTokens {
  at::Tensor tokens;
  std::vector<int64_t> grid;
  std::vector<double> factor;
  // Of the last round, [B, H, N', N], where asked for: for looking at, not for training.
  at::Tensor attn_q, attn_k;
};

// Several inputs (the scales of an image) share the parameters.
std::vector<GroupedTokens> GroupingAttention(const std::vector<GroupingInput>& inputs,
                                             const GroupingConfig& c, const GroupingParams& p,
                                             const Dropout& dropout, bool want_attention = false);

// u8 [B, N]: 1 where the window `kernel` around a token, cut at the edges, holds a 1 - what a convolution of that kernel
// makes of hidden pixels.
at::Tensor DilateMask(const at::Tensor& mask, const std::vector<int64_t>& grid,
                      const std::vector<int64_t>& kernel);

// The smallest window per axis with which each of `keys` tokens is seen by one of the queries.
int64_t SmallestCoveringWindow(int64_t keys, int64_t queries, int64_t stride);

// q, k [B, N, H, d] rotated and scaled; v [B, Nk, H * d] -> [B, Nq, H * d], as models/sparse_attention.h but every
// query sees every key.
at::Tensor DenseGroupingAttention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                  HeadLayout layout, double eps);

}  // namespace millrace::rat

#endif  // MILLRACE_MODELS_RAT_GROUPING_ATTENTION_H_
