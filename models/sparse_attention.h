// Sparse spatial grouping attention: each place of a coarse grid attends to the neighbourhood of its own
// place in a fine grid, and a fine place's attention is divided by what all coarse places gave it.
//
//   A = softmax over visible keys of q k^T;   y = (A / (sum of A over queries + eps)) v
//
// Time and memory are linear in tokens: nothing of size queries x keys exists. Backward recomputes the
// weights from q, k and two statistics. Equal to dense attention with -inf for what a query does not see.
//
//   const Neighborhood n{.query_grid = {43, 43}, .key_grid = {128, 128}, .stride = {3, 3}, .window = {7, 7}};
//   at::Tensor y = SparseGroupingAttention(q, k, v, n, HeadLayout::kCorrect, 1.1920929e-7);
//
// bf16 and f16 are f32 inside and rounded once. Bits do not depend on the number of threads. Keys that no query
// sees (a window narrower than the stride) have no influence and no gradient. Off the host (models/generic.h) the
// kernels of models/cuda run, once SetSparseAttentionKernels has named them. Throws c10::Error as LibTorch does.
#ifndef MILLRACE_MODELS_SPARSE_ATTENTION_H_
#define MILLRACE_MODELS_SPARSE_ATTENTION_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "models/cuda/sparse_attention.h"

namespace millrace {

// One entry per axis, one to three of them. Along an axis, query i sees keys st .. st + w - 1 with
// w = min(window, size) and st = clamp(i * stride - w / 2, 0, size - w).
struct Neighborhood {
  std::vector<int64_t> query_grid, key_grid, stride, window;
};

// Which memory is head h's share of v and y. kReference: as published weights need it, v is read as
// [B, H, Nk, d] and what is [B, H, Nq, d] is read as [B, Nq, H * d], without the transpositions that were meant.
enum class HeadLayout { kCorrect, kReference };

// q [B, Nq, H, d] and k [B, Nk, H, d], rotated and scaled already; v [B, Nk, H * d] -> [B, Nq, H * d].
at::Tensor SparseGroupingAttention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                   const Neighborhood& neighborhood, HeadLayout layout, double eps);

// models/cuda/sparse_attention.h, or what stands for it in a test. They get the calling
// thread's current stream.
struct SparseAttentionKernels {
  decltype(&cuda::SparseAttentionForward) forward = nullptr;
  decltype(&cuda::SparseAttentionBackward) backward = nullptr;
};
// Before the first use, once per process. Without it, this attention throws for tensors off the host.
void SetSparseAttentionKernels(const SparseAttentionKernels& kernels);

}  // namespace millrace

#endif  // MILLRACE_MODELS_SPARSE_ATTENTION_H_
