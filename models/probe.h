// Learns what a model needs without allocating any of it: runs one stage of each class on torch's meta
// device - forward, backward, and forward without saving - and writes down every allocation, every
// multiply-add and every byte that operators read and write.
//
//   ASSIGN_OR_RETURN(ModelDef model, BuildModel("vit_huge", {}, /*micro_batch=*/8));
//   ASSIGN_OR_RETURN(ModelSpec spec, Probe(model));     // 34 stages, 631 M parameters: about 20 ms
//
// The plans hold on the CPU back end to the byte: run by models/stage_run.h under a ReplayScope, with the
// same number of threads, each allocation comes in the planned order with the planned size.
//
// For CUDA there are two ways:
//
//   Probe(model, {.target = at::Device(at::kCUDA, 0), .run = true})    on the device: once for real, in small pieces
//   Probe(model, {.target = at::kCUDA})                                on the meta device, without a GPU
//
// The first is what a run plans by. It runs each class of stages twice with made-up numbers, and only the second time
// counts: at the first, LibTorch makes what it keeps (cuBLAS's workspaces, cuDNN's handles). Sizes and order of
// allocations are then those of the same operators, shapes, device and libraries. It needs LibTorch's CUDA libraries,
// the hooks of models/allocator.h installed, and the calling thread's stream set.
//
// The second is an estimate, for planning and simulating another machine. Exact are parameters, boundary tensors, what
// layers keep for backward, and operations and bytes counted, which are the model's, not the device's. Estimated is
// the scratch inside kernels that LibTorch chooses by shape and device (models/meta_kernels.h), convolutions' above all.
//
// Safe to call from several threads at a time; with `run`, one at a time for each device.
#ifndef MILLRACE_MODELS_PROBE_H_
#define MILLRACE_MODELS_PROBE_H_

#include <c10/core/Device.h>

#include "absl/status/statusor.h"
#include "graph/ir/model_spec.h"
#include "models/model.h"

namespace millrace {

struct ProbeOptions {
  int threads = 1;  // compute threads of a rank: some kernels keep scratch for each
  // Whose operators are planned for: the CPU's, or CUDA's (refused for models that are the CPU's alone).
  c10::Device target = c10::kCPU;
  // Run on the target instead of the meta device. On the CPU, with as many threads as LibTorch is set to.
  bool run = false;
};

absl::StatusOr<ModelSpec> Probe(const ModelDef& model, const ProbeOptions& options = {});

}  // namespace millrace

#endif  // MILLRACE_MODELS_PROBE_H_
