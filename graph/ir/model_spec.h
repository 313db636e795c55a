// What graph/ knows about a model, without torch: stages in order, parameters, boundary tensors,
// FLOPs, and where every byte that a stage allocates will lie. models/probe.h fills it by running
// each stage on the meta device; tests and hand-made specs fill it directly.
//
// A model is a list of stages. A stage reads outputs of earlier stages (of the one before, unless `sources`
// says otherwise; each output has one reader at most) and tensors of the batch: the first the images,
// the last the labels. Output 0 of the last stage is the mean loss of the micro-batch. All shapes are those of ONE micro-batch on ONE rank; all sizes are bytes.
#ifndef MILLRACE_GRAPH_IR_MODEL_SPEC_H_
#define MILLRACE_GRAPH_IR_MODEL_SPEC_H_

#include <cstdint>
#include <string>
#include <vector>

#include "graph/base/dtype.h"

namespace millrace {

// How a parameter gets its first value; a pure function of (seed, parameter name, element index),
// so that any shard on any rank can be filled without the rest.
struct InitSpec {
  enum class Kind { kZeros, kOnes, kConstant, kNormal, kTruncatedNormal, kUniform, kGeometric };
  Kind kind = Kind::kZeros;
  double scale = 0;  // standard deviation (normals; truncated at 2 sigma), half width (uniform),
      // value (constant); geometric: rows of the last axis fall from 1 towards exp(-scale), evenly in
      // the logarithm, the same on all of it
  double offset = 0;  // uniform: the middle
  double jitter = 0;  // geometric: standard deviation of noise in the logarithm
};

struct ParamSpec {
  std::string name;  // as in the public checkpoint
  std::vector<int64_t> shape;
  DType dtype = DType::kF32;
  InitSpec init;
  bool weight_decay = true;  // false for biases and norms where the model asks for that
  // A running statistic, as of batch norm: what backward gives as its gradient is (running - this micro-batch's
  // value), and every update, whatever the optimizer, is running -= momentum * gradient. So it is the mean over ranks
  // and micro-batches, moves once per step, and is sharded, saved and gathered like any parameter. No part of
  // parameter counts, clipping, weight decay or loss scale.
  bool statistic = false;
  double momentum = 0;
  int64_t numel() const {
    int64_t n = 1;
    for (int64_t d : shape) n *= d;
    return n;
  }
};

struct TensorSpec {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  int64_t numel() const {
    int64_t n = 1;
    for (int64_t d : shape) n *= d;
    return n;
  }
  int64_t bytes() const { return numel() * SizeOf(dtype); }
};

// Where one allocation made inside a stage's forward or backward lies. The regions are:
//   kWorkspace  the node's scratch, gone when the node ends
//   kSaved      the block that lives from the stage's forward to its backward (of one micro-batch)
//   kOutput     output `index` of the stage (forward)
//   kInputGrad  gradient of input `index` (backward)
//   kParamGrad  gradient of parameter `index` of the stage (backward), in its gradient bucket
struct Placement {
  enum class Region : uint8_t { kWorkspace, kSaved, kOutput, kInputGrad, kParamGrad };
  Region region = Region::kWorkspace;
  int32_t index = 0;
  int64_t offset =
      0;  // from the start of the workspace or of the saved block; 0 for the other regions
  int64_t bytes = 0;  // as asked of the allocator
};

// The allocations of one node in the order in which the stage makes them.
struct AllocationPlan {
  std::vector<Placement> allocations;
  int64_t workspace_bytes = 0;  // size of the kWorkspace region; multiple of 64
};

// An output of an earlier stage.
struct StageSource {
  int stage = 0;
  int output = 0;
};

struct StageSpec {
  std::string name;       // "embeddings", "layers.3", "head"
  std::string class_key;  // stages of equal key are identical but for parameter names
  std::vector<ParamSpec> params;
  std::vector<TensorSpec> inputs;    // outputs of earlier stages
  std::vector<StageSource> sources;  // one per input
  std::vector<int> batch;            // of the batch's tensors, those read after `inputs`
  std::vector<TensorSpec>
      outputs;              // of the last stage: loss first, then what evaluation reads (logits)
  int64_t saved_bytes = 0;  // size of the kSaved region; multiple of 64
  AllocationPlan forward;   // training forward (saves for backward)
  AllocationPlan backward;
  AllocationPlan evaluate;    // forward without saving
  int64_t forward_flops = 0;  // 2 x multiply-adds
  int64_t backward_flops = 0;
  int64_t forward_bytes =
      0;  // memory traffic: bytes of operator inputs and outputs, for the roofline
  int64_t backward_bytes = 0;
  int64_t forward_operators =
      0;  // library calls that one run of the stage makes, each at a fixed cost
  int64_t backward_operators = 0;
  int64_t parameter_count() const { return Count(/*statistics=*/false); }
  int64_t element_count() const { return parameter_count() + Count(/*statistics=*/true); }

 private:
  int64_t Count(bool statistics) const {
    int64_t n = 0;
    for (const ParamSpec& p : params) n += p.statistic == statistics ? p.numel() : 0;
    return n;
  }
};

struct ModelSpec {
  std::string name;
  std::vector<TensorSpec> batch;  // what one micro-batch brings: images, labels, ...
  std::vector<StageSpec> stages;
  int64_t parameter_count() const {
    int64_t n = 0;
    for (const StageSpec& s : stages) n += s.parameter_count();
    return n;
  }
};

}  // namespace millrace

#endif  // MILLRACE_GRAPH_IR_MODEL_SPEC_H_
