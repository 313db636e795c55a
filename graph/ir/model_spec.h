// What graph/ knows about a model, without torch: stages in order, parameters, boundary tensors,
// FLOPs, and where every byte that a stage allocates will lie. models/probe.h fills it by running
// each stage on the meta device; tests and hand-made specs fill it directly.
//
// A model is a chain of stages. Stage i reads the outputs of stage i-1 (stage 0 reads the batch's
// images), the last stage also reads the batch's labels and its output 0 is the mean loss of the
// micro-batch. All shapes are those of ONE micro-batch on ONE rank; all sizes are bytes.
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
  enum class Kind { kZeros, kOnes, kConstant, kNormal, kTruncatedNormal, kUniform };
  Kind kind = Kind::kZeros;
  double scale = 0;  // standard deviation (normals; truncated at 2 sigma), half width (uniform),
                     // value (constant)
};

struct ParamSpec {
  std::string name;  // as in the public checkpoint
  std::vector<int64_t> shape;
  DType dtype = DType::kF32;
  InitSpec init;
  bool weight_decay = true;  // false for biases and norms where the model asks for that
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

struct StageSpec {
  std::string name;       // "embeddings", "layers.3", "head"
  std::string class_key;  // stages of equal key are identical but for parameter names
  std::vector<ParamSpec> params;
  std::vector<TensorSpec> inputs;  // without the batch's labels
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
  bool input_needs_grad = true;  // false for the first stage
  int64_t parameter_count() const {
    int64_t n = 0;
    for (const ParamSpec& p : params) n += p.numel();
    return n;
  }
};

struct ModelSpec {
  std::string name;
  TensorSpec images;  // [micro_batch, channels, height, width] f32
  TensorSpec labels;  // [micro_batch] i64
  std::vector<StageSpec> stages;
  int64_t parameter_count() const {
    int64_t n = 0;
    for (const StageSpec& s : stages) n += s.parameter_count();
    return n;
  }
};

}  // namespace millrace

#endif  // MILLRACE_GRAPH_IR_MODEL_SPEC_H_
