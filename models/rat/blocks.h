// What the parts of the transformer share, beyond models/layers.h: each tensor used exactly once as far as autograd
// sees. Left to autograd, the sum of two gradients is in place or not depending on who else holds them, which comes out
// differently on the meta device than on the CPU; here it is written down.
//
//   auto [use, rest] = Fork(x);                        // x twice
//   Uses weight(p.fc1_weight, /*uses=*/6);             // a parameter six times; sums arrive one by one
//   y = Mlp(rows, {weight.Next(), ...}, dropout);
//
// All f32 on the host, off it in the parameters' type; tokens are [B, N, D], rows [B * N, D].
#ifndef MILLRACE_MODELS_RAT_BLOCKS_H_
#define MILLRACE_MODELS_RAT_BLOCKS_H_

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "graph/ir/model_spec.h"

namespace millrace::rat {

// x and x again. Backward adds the second's gradient to the first's in place: the first use must be one whose
// backward makes its gradient (a product, a norm), not one that hands on what it got.
std::pair<at::Tensor, at::Tensor> Fork(const at::Tensor& x);

// A tensor handed out `uses` times, undefined if it is. Each use's gradient must be made by that use. At most two
// gradients are alive at a time, as long as uses come in the order in which the tensor was handed out.
class Uses {
 public:
  Uses(const at::Tensor& x, int64_t uses) : rest_(x), left_(uses) {}
  at::Tensor Next();

 private:
  at::Tensor rest_;
  int64_t left_;
};

// x W^T + bias for a weight [parts * D, in] as `parts` tensors [rows, D]: a joint projection without the copies that
// splitting its result would cost. bias may be undefined.
std::vector<at::Tensor> Project(const at::Tensor& rows, const at::Tensor& weight,
                                const at::Tensor& bias, int64_t parts);

// Which elements fall out: a pure function of the sample's key, the layer and the element, so that backward, recompute
// and any layout of ranks see the same ones. Key 0 keeps all. What is kept is multiplied by 1 / (1 - p).
struct Dropout {
  at::Tensor keys;  // [B] i64, undefined: none
  double p = 0;
  uint64_t layer = 0;  // a hash of the layer's name; each place in it adds one
  bool active() const { return keys.defined() && p > 0; }
};
// In place; x is [B * rows, D]. For tests and functions of this folder.
void DropInPlace(const at::Tensor& x, const Dropout& dropout, uint64_t place);

struct MlpParams {
  at::Tensor fc1_weight, fc1_bias, fc2_weight, fc2_bias;
};
// fc2(GELU(fc1(x))), exact GELU, dropout after the GELU and after fc2. Keeps x and fc1(x) alone.
at::Tensor Mlp(const at::Tensor& rows, const MlpParams& p, const Dropout& dropout);

// x + LayerNorm(y), over the last dimension.
at::Tensor AddNorm(const at::Tensor& x, const at::Tensor& y, const at::Tensor& weight,
                   const at::Tensor& bias, double eps);

// Tokens of several grids as one [B, sum of N, D], and back (or the first few of them); each a copy, none for a
// single one.
at::Tensor JoinTokens(const std::vector<at::Tensor>& tokens);
std::vector<at::Tensor> SplitTokens(const at::Tensor& tokens, const std::vector<int64_t>& sizes);

// tokens where hidden [B, N] (u8) is 0, else the embedding [D].
at::Tensor HideTokens(const at::Tensor& tokens, const at::Tensor& hidden,
                      const at::Tensor& embedding);

// Softmax attention of q [B, Nq, H * d] to k, v [B, Nk, H * d], scores / sqrt(d); never holds the scores.
at::Tensor Attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, int64_t heads);

// The mean of losses, each [].
at::Tensor Mean(const std::vector<at::Tensor>& losses);

// Parameters, initialised as the published package does: linear layers truncated normal and 0, norms 1 and 0.
void AddLinear(std::vector<ParamSpec>& params, const std::string& name, int64_t out, int64_t in,
               bool bias = true);
void AddNormParams(std::vector<ParamSpec>& params, const std::string& name, int64_t width);
// PyTorch's default for linear layers and convolutions: uniform within 1 / sqrt(fan in).
void AddFanIn(std::vector<ParamSpec>& params, const std::string& name, std::vector<int64_t> shape);

// Takes parameters in the order in which they were added, on the host those of 16 bits as f32.
class ParamReader {
 public:
  explicit ParamReader(const std::vector<at::Tensor>& params) : params_(params) {}
  at::Tensor Next();
  at::Tensor NextIf(bool present) { return present ? Next() : at::Tensor(); }

 private:
  const std::vector<at::Tensor>& params_;
  size_t next_ = 0;
};

}  // namespace millrace::rat

#endif  // MILLRACE_MODELS_RAT_BLOCKS_H_
