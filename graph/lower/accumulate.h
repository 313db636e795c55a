// Makes one gradient of each bucket out of the slices of its stages and the micro-batches of the step. The
// operation `join` does nothing: it says that the slices, once all are written, are one value.
//
// before   backward/b/0(...) -> dact/a/0, grad/bucket_0/b/0
//          backward/a/0(...) -> grad/bucket_0/a/0
//          (micro-batch 1 likewise)
// after    backward/b/0(...) -> dact/a/0, grad/bucket_0/b/0
//          backward/a/0(...) -> grad/bucket_0/a/0
//          join/bucket_0/0(grad/bucket_0/a/0, grad/bucket_0/b/0) -> grad/bucket_0/0
//          ...
//          join/bucket_0/1(grad/bucket_0/a/1, grad/bucket_0/b/1) -> grad/bucket_0/1
//          accumulate/bucket_0/1(grad/bucket_0/0, grad/bucket_0/1) -> grad/bucket_0
//
// Micro-batch 0 writes the persistent gradient "grad/bucket_0", the others write one of their own each, which
// is free again after it was added. The last sum is named "grad/bucket_0"; those before, "grad/bucket_0/sum_1".
//
// Gradients of 16 bits that are to be summed in f32 (LowerOptions::reduce_dtype) are cast as soon as they are whole:
//
//          join/bucket_0/0(grad/bucket_0/a/0, grad/bucket_0/b/0) -> grad/bucket_0/bf16/0
//          cast/bucket_0/0(grad/bucket_0/bf16/0) -> grad/bucket_0/0
#ifndef MILLRACE_GRAPH_LOWER_ACCUMULATE_H_
#define MILLRACE_GRAPH_LOWER_ACCUMULATE_H_

#include <memory>

#include "graph/lower/pass.h"

namespace millrace {

std::unique_ptr<Pass> Accumulate();

}  // namespace millrace

#endif  // MILLRACE_GRAPH_LOWER_ACCUMULATE_H_
