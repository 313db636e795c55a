// What a user may decide about the lowering of a model into a step: the knobs of parallel.zero, precision,
// memory, train.accumulation, optimizer and runtime.overlap, without protobuf, so that tests set them directly.
//
//   LowerOptions options = FromPipeline(pipeline, machine);
//   options.zero_stage = 3;
//   ASSIGN_OR_RETURN(Graph step, Lower(spec, options));
#ifndef MILLRACE_GRAPH_LOWER_OPTIONS_H_
#define MILLRACE_GRAPH_LOWER_OPTIONS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "graph/base/dtype.h"
#include "graph/base/loss_scale.h"
#include "graph/ir/graph.h"

namespace millrace {

class Machine;   // graph/ir/machine.proto
class Pipeline;  // graph/ir/pipeline.proto
class StorageFiles;

enum class StepKind : uint8_t {
  kTrain,
  kEvaluate  // forward only; the persistent buffers are those of the training step, in the same order
};

// What happens to the gradients of several micro-batches; see Zero.accumulation in pipeline.proto.
enum class AccumulationPolicy : uint8_t { kReduceEach, kReduceLast, kKeepGathered };

enum class OptimizerKind : uint8_t { kAdamW, kAdam, kSgd };

// Stages that run forward a second time instead of keeping what their backward needs; at most one of the
// three is set. See Recompute in pipeline.proto; its `auto` is settled before lowering, as a list of stages
// (pipelines/runner/recompute_choice.h).
struct RecomputeOptions {
  bool all = false;
  int every = 0;
  std::vector<std::string> stages;
  bool offload_inputs = false;
  bool any() const { return all || every != 0 || !stages.empty(); }
};

// Tier of what is offloaded; kDevice: it stays. See Offload in pipeline.proto.
struct OffloadOptions {
  Tier optimizer = Tier::kDevice;
  double ratio = 1;
  bool delayed = false;
  Tier parameters = Tier::kDevice;
  int staging_buckets = 3;
  int64_t ring_bytes = 16 << 20;  // storage: host memory that requests pass through
  bool any() const { return optimizer != Tier::kDevice; }
  bool storage() const { return optimizer == Tier::kStorage || parameters == Tier::kStorage; }
};

struct LowerOptions {
  StepKind kind = StepKind::kTrain;
  bool alone = false;  // kEvaluate: there is no training step beside it, only parameters persist
  std::string group = "data";
  int world_size = 1;
  int zero_stage = 0;  // 0-3; with one rank all four are the same step
  int64_t reduce_bucket_bytes = 26214400;
  int prefetch_depth = 1;      // stage 3: buckets gathered ahead of the one in use
  int64_t prefetch_bytes = 0;  // stage 3: their bytes at most; 0: only prefetch_depth limits
  int accumulation = 1;        // micro-batches per step
  AccumulationPolicy policy = AccumulationPolicy::kReduceEach;
  // The device has memory of its own (machine's device.kind CUDA): what the host makes or reads is copied through pinned
  // memory, and no operation but a copy touches both.
  bool separate_memory = false;
  bool overlap = true;  // collectives beside compute; false: all synchronous
  OptimizerKind optimizer = OptimizerKind::kAdamW;
  bool momentum = true;  // SGD: keeps a momentum buffer
  double clip_norm = 0;  // 0: no clipping
  RecomputeOptions recompute;
  OffloadOptions offload;
  // Of a model whose parameters are 16 bits wide: element type in which gradients are summed and kept, f32 or theirs.
  DType reduce_dtype = DType::kF32;
  std::optional<LossScaleOptions> loss_scale;  // absent: the loss is not scaled
  // Stage 3: a bucket whose last forward use is followed at once by its first backward use (the head's)
  // is kept instead of released and gathered again. Saves one gather of that bucket per micro-batch on the
  // critical path and costs no memory, because both uses are neighbours.
  bool keep_at_turn = true;
};

// All mistakes at once (kInvalidArgument).
absl::Status Check(const LowerOptions& options);

LowerOptions FromPipeline(const Pipeline& pipeline);
// The same for a machine: whether its devices have memory of their own.
LowerOptions FromPipeline(const Pipeline& pipeline, const Machine& machine);
bool SeparateMemoryOf(const Machine& machine);
DType ModelDType(const Pipeline& pipeline);  // of precision.mode: the parameters' element type

// The ring of host memory through which requests to storage pass: one block for each request in flight.
struct StorageRing {
  static constexpr int64_t kBytes = 16 << 20;  // unless the pipeline says otherwise
  int64_t block_bytes = 1 << 20;
  int queue_depth = 16;
  bool open = true;  // a probe of the drive may choose another pair of the same product
};
StorageRing RingOf(const StorageFiles& files);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_LOWER_OPTIONS_H_
