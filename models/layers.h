// The layers that models are made of, as functions over parameters.
//
// A parameter is a tensor that the caller owns; an undefined bias means "without". Activations are rows:
// [batch * tokens, features], so that every projection is one matrix product without a reshape between.
// No layer copies what a view can express, and each makes the same allocations for the same shapes, which
// is what planning rests on (models/allocator.h).
//
//   layers::Branch branch = layers::LayerNormBranch(x, gamma, beta, 1e-12);
//   at::Tensor h = layers::SelfAttention(branch.normed, attention, batch, heads);
//   h.add_(branch.residual);                      // into the projection's own memory
//
// Parameters and activations may be bf16 or f16: that is how they are stored, between layers and for backward. Within
// a layer the arithmetic is f32, in its scratch, and what leaves it is rounded once - as on hardware whose 16-bit
// products have f32 sums. (The CPU's own 16-bit kernels are 20 to 70 times slower than this where the processor has no
// 16-bit instructions, and keep layer norm's statistics in 16 bits.) On CUDA the 16-bit operands themselves go through
// LibTorch's kernels: tensor cores, with f32 sums and statistics.
//
// They throw c10::Error as LibTorch does; models/stage_run.h and models/probe.h stop that.
#ifndef MILLRACE_MODELS_LAYERS_H_
#define MILLRACE_MODELS_LAYERS_H_

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>

namespace millrace::layers {

// bf16 and f16 in f32; any other tensor itself. For the first and the last stage, whose layers
// are f32 altogether.
at::Tensor Wide(const at::Tensor& t);
// What a layer computes with: on the host Wide(t), else t itself.
at::Tensor Inside(const at::Tensor& t);

// x [rows, in] * weight^T [in, out] + bias [out].
at::Tensor Linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

// Over the last dimension of contiguous rows; f32.
at::Tensor LayerNorm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                     double eps);

// The start of a residual branch: LayerNorm(x), and x again for the sum at the branch's end. Backward adds
// the two gradients of x in place. (Left to autograd, the sum is in place or not depending on who else
// holds the buffers, which on the meta device comes out differently than on the CPU.)
struct Branch {
  at::Tensor normed, residual;
};
Branch LayerNormBranch(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                       double eps);

struct AttentionParams {
  at::Tensor q_weight, q_bias, k_weight, k_bias, v_weight, v_bias, o_weight, o_bias;
};

// The three projections of one input. Backward sums the gradient of x inside the matrix products.
std::array<at::Tensor, 3> ProjectQkv(const at::Tensor& x, const AttentionParams& p);

// softmax(q k^T / sqrt(d)) v of [B, H, N, d], which may be views; never holds the scores. f32 on the CPU. The result is
// a transposed view of [B, N, H, d].
at::Tensor SoftmaxAttention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v);

// Softmax attention of each of `batch` equal runs of rows to itself; heads are views of the projections.
at::Tensor SelfAttention(const at::Tensor& x, const AttentionParams& p, int64_t batch,
                         int64_t heads);

// fc2(GELU(fc1(x))), the exact GELU.
at::Tensor Mlp(const at::Tensor& x, const at::Tensor& fc1_weight, const at::Tensor& fc1_bias,
               const at::Tensor& fc2_weight, const at::Tensor& fc2_bias);

// The convolution whose stride is its kernel: images [B, C, H, W], weight [out, C, p, p] -> rows
// [B * (H/p) * (W/p), out]. Written as one copy into patch order and one matrix product, because
// oneDNN's convolution takes scratch memory that no plan sees.
// All f32.
at::Tensor PatchEmbedding(const at::Tensor& images, const at::Tensor& weight,
                          const at::Tensor& bias);

// Mean over rows of the cross-entropy against (1 - smoothing) * one_hot + smoothing / classes.
at::Tensor CrossEntropy(const at::Tensor& logits, const at::Tensor& labels, double smoothing);

}  // namespace millrace::layers

#endif  // MILLRACE_MODELS_LAYERS_H_
