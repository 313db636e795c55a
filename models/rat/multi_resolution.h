// The block in which the scales of an image meet: every token of every scale attends to all of them, its place given by
// RoSE with its own scale's spacing, so that two tokens over the same spot are near each other whatever grid they are
// on. Pre-norm: x + proj(attention(LN x)), then x + MLP(LN x).
//
//   std::vector<at::Tensor> y = MultiResolution({x0, x1}, {{{6, 6}, 0, {1, 1}}, {{3, 3}, 1, {1, 1}}}, spacing, c, p, {});
#ifndef MILLRACE_MODELS_RAT_MULTI_RESOLUTION_H_
#define MILLRACE_MODELS_RAT_MULTI_RESOLUTION_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "models/rat/blocks.h"
#include "models/rat/rose.h"

namespace millrace::rat {

struct MultiResolutionConfig {
  int64_t width = 0, mlp = 0;
  bool qkv_bias = true;
  RoseConfig rose;  // has the number of heads
};

void AddMultiResolutionParams(std::vector<ParamSpec>& params, const std::string& prefix,
                              const MultiResolutionConfig& c);

struct MultiResolutionParams {
  RoseParams rose;
  at::Tensor norm1_weight, norm1_bias, qkv_weight, qkv_bias, proj_weight, proj_bias, norm2_weight,
      norm2_bias;
  MlpParams mlp;
};
MultiResolutionParams ReadMultiResolutionParams(ParamReader& reader,
                                                const MultiResolutionConfig& c);

// Where the tokens of one scale lie.
struct TokenGrid {
  std::vector<int64_t> grid;
  int64_t scale = 0;
  std::vector<double> factor;
};

// tokens: [B, N, D] for each grid; one more tensor at the front is of tokens without a place (class tokens).
// spacing as in rose.h. Of the result, the first `kept` tensors, 0 meaning all.
std::vector<at::Tensor> MultiResolution(const std::vector<at::Tensor>& tokens,
                                        const std::vector<TokenGrid>& grids,
                                        const at::Tensor& spacing, const MultiResolutionConfig& c,
                                        const MultiResolutionParams& p, const Dropout& dropout,
                                        int64_t kept = 0);

}  // namespace millrace::rat

#endif  // MILLRACE_MODELS_RAT_MULTI_RESOLUTION_H_
