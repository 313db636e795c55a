// Puts parameters and gradients into flat buckets (bucket_layout.h): what a stage reads are the buckets that
// hold its parameters, what its backward writes are its slices of their gradients.
//
// before   forward/b/0(act/a/0, labels/0, param/b) -> loss/0, logits/0, saved/b/0
//          backward/b/0(act/a/0, labels/0, saved/b/0, param/b) -> dact/a/0, grad/b/0
// after    forward/b/0(act/a/0, labels/0, param/bucket_0) -> loss/0, logits/0, saved/b/0
//          backward/b/0(act/a/0, labels/0, saved/b/0, param/bucket_0) -> dact/a/0, grad/bucket_0/b/0
//
// One gradient buffer "grad/bucket_0/0" for each bucket and micro-batch; the slices of its stages tile it.
#ifndef MILLRACE_GRAPH_LOWER_BUCKET_H_
#define MILLRACE_GRAPH_LOWER_BUCKET_H_

#include <memory>

#include "graph/lower/pass.h"

namespace millrace {

std::unique_ptr<Pass> BucketParameters();

}  // namespace millrace

#endif  // MILLRACE_GRAPH_LOWER_BUCKET_H_
