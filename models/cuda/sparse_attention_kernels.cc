// Linked in, the sparse attention's kernels serve tensors on CUDA.
#include "models/cuda/sparse_attention.h"
#include "models/sparse_attention.h"

namespace millrace {
namespace {

[[maybe_unused]] const bool registered = [] {
  SetSparseAttentionKernels({&cuda::SparseAttentionForward, &cuda::SparseAttentionBackward});
  return true;
}();

}  // namespace
}  // namespace millrace
