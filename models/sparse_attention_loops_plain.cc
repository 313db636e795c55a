// The loops in whatever vector instructions every processor of this kind has.
#include "models/sparse_attention_loops-inl.h"

namespace millrace {

SparseKernels PlainSparseKernels() { return {&Forward, &Backward}; }

}  // namespace millrace
