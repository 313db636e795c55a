// The loops in AVX2 with fused multiply-adds. Compiled with -mavx2 -mfma -ffp-contract=fast.
#if defined(__AVX2__) && defined(__FMA__)
#include "models/sparse_attention_loops-inl.h"

namespace millrace {

SparseKernels Avx2SparseKernels() { return {&Forward, &Backward}; }

}  // namespace millrace

#else
#include "models/sparse_attention_loops.h"

namespace millrace {

SparseKernels Avx2SparseKernels() { return {nullptr, nullptr}; }

}  // namespace millrace
#endif
