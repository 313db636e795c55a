// Sparse grouping attention of models/sparse_attention.h on the device, forward and backward. Time and memory are
// linear in tokens: weights are computed again wherever they are needed, from q, k and two statistics. Every sum has one
// order, so the same inputs give the same bits.
//
//   SparseAttentionShape shape{.axes = 2, .query = {43, 43}, .key = {128, 128}, .stride = {3, 3}, .window = {7, 7},
//                              .batch = 8, .heads = 16, .width = 16};
//   const char* error = SparseAttentionForward(shape, DType::kBF16, {q, k, v, y, logsumexp, sums}, stream);
//   error = SparseAttentionBackward(shape, DType::kBF16, {q, k, v, dy, logsumexp, sums, dq, dk, dv, scratch}, stream);
//
// Tensors are f32, bf16 or f16, are f32 inside and rounded once; statistics are f32. Null: issued; otherwise why not.
#ifndef MILLRACE_MODELS_CUDA_SPARSE_ATTENTION_H_
#define MILLRACE_MODELS_CUDA_SPARSE_ATTENTION_H_

#include <cstdint>

#include "graph/base/dtype.h"

namespace millrace {
namespace cuda {

struct SparseAttentionShape {
  int axes = 1;  // one to three; of each array below, the first `axes` entries
  int32_t query[3] = {1, 1, 1}, key[3] = {1, 1, 1}, stride[3] = {1, 1, 1}, window[3] = {1, 1, 1};
  int64_t batch = 1, heads = 1;
  int32_t width = 1;              // channels of a head, at most 512
  bool reference_layout = false;  // HeadLayout::kReference
  float eps = 1.1920929e-7f;

  int64_t queries() const { return int64_t{query[0]} * query[1] * query[2]; }
  int64_t keys() const { return int64_t{key[0]} * key[1] * key[2]; }
  // Floats that the forward keeps for the backward.
  int64_t logsumexp_floats() const { return batch * heads * queries(); }
  int64_t sums_floats() const { return batch * heads * keys(); }
  // Floats of the backward's scratch.
  int64_t scratch_floats() const { return logsumexp_floats() + sums_floats(); }
};

// q [B, Nq, H, d], k [B, Nk, H, d], v [B, Nk, H * d], y and dy [B, Nq, H * d], contiguous.
struct SparseAttentionForwardArgs {
  const void *q, *k, *v;
  void* y;
  float *logsumexp, *sums;
};
const char* SparseAttentionForward(const SparseAttentionShape& shape, DType type,
                                   const SparseAttentionForwardArgs& args, void* stream);

struct SparseAttentionBackwardArgs {
  const void *q, *k, *v, *dy;
  const float *logsumexp, *sums;
  void *dq, *dk, *dv;
  float* scratch;
};
const char* SparseAttentionBackward(const SparseAttentionShape& shape, DType type,
                                    const SparseAttentionBackwardArgs& args, void* stream);

}  // namespace cuda
}  // namespace millrace

#endif  // MILLRACE_MODELS_CUDA_SPARSE_ATTENTION_H_
