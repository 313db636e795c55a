// The parameters and optimizer states of a run as named tensors, wherever the plan keeps them: whole on every
// rank or cut into shards. Initialisation, checkpoints and the fingerprint of the weights all go through
// here, so none of them knows about ZeRO stages.
//
//   ModelState state = ModelState::OfModel(plan, spec, buffers);      // buffers: all ranks of this process
//   state.Initialise(seed);
//   std::vector<char> w(state.params()[i].bytes());
//   state.Read(state.params()[i], w.data());                          // joined from the shards
//
// Of parameters in 16 bits the f32 masters are states like the optimizer's; so is the loss scale.
//
// Not to be used while a step runs.
#ifndef MILLRACE_PIPELINES_RUNNER_MODEL_STATE_H_
#define MILLRACE_PIPELINES_RUNNER_MODEL_STATE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "graph/ir/graph.pb.h"
#include "graph/ir/model_spec.h"
#include "graph/plan/plan.h"
#include "graph/runtime/buffers.h"

namespace millrace {

class ModelState {
 public:
  struct Tensor {
    std::string name;  // of a state: "exp_avg.<parameter>"
    DType dtype = DType::kF32;
    std::vector<int64_t> shape;
    int64_t numel = 0;
    ValueId value = -1;  // what holds it, whole or as one shard per rank
    int64_t offset = 0;  // elements from the start of the whole
    int64_t whole = 0;   // elements of the whole
    InitSpec init;
    ValueId master =
        -1;  // of a parameter: what holds it in f32, laid out in the same way; -1: itself
    int64_t bytes() const { return numel * SizeOf(dtype); }
  };

  // `buffers` by rank. The plan and the buffers outlive the state.
  static ModelState OfModel(const Plan& plan, const ModelSpec& spec,
                            std::vector<const RankBuffers*> buffers);
  // Of a step written by hand: its persistent parameters and optimizer states.
  static ModelState OfGraph(const Plan& plan, const GraphDef& text,
                            std::vector<const RankBuffers*> buffers);

  const std::vector<Tensor>& params() const { return params_; }  // in the model's order
  const std::vector<Tensor>& states() const { return states_; }

  // In its own element type.
  void Read(const Tensor& tensor, void* out) const;
  void Write(const Tensor& tensor, const void* in) const;  // into all copies and shards
  // A parameter from f32, rounded to its element type, and its master.
  void WriteParameter(const Tensor& parameter, const float* in) const;

  // Every parameter from (seed, name, index); states and padding are zeroed, the loss scale starts.
  void Initialise(uint64_t seed) const;

  // Hex SHA-256 over all parameters in name order, little-endian bytes of their storage type.
  std::string WeightsSha256() const;

 private:
  ModelState(const Plan& plan, std::vector<const RankBuffers*> buffers)
      : plan_(&plan), buffers_(std::move(buffers)) {}
  template <typename F>  // f(char* place, int64_t first element of the tensor, int64_t count)
  void ForEachPart(const Tensor& tensor, bool all_copies, F f) const;

  const Plan* plan_;
  std::vector<const RankBuffers*> buffers_;
  std::vector<Tensor> params_, states_;
};

}  // namespace millrace

#endif  // MILLRACE_PIPELINES_RUNNER_MODEL_STATE_H_
