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
// Safe to call from several threads at a time.
#ifndef MILLRACE_MODELS_PROBE_H_
#define MILLRACE_MODELS_PROBE_H_

#include "absl/status/statusor.h"
#include "graph/ir/model_spec.h"
#include "models/model.h"

namespace millrace {

struct ProbeOptions {
  int threads = 1;  // compute threads of a rank: some kernels keep scratch for each
};

absl::StatusOr<ModelSpec> Probe(const ModelDef& model, const ProbeOptions& options = {});

}  // namespace millrace

#endif  // MILLRACE_MODELS_PROBE_H_
