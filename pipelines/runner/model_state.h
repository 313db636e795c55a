// The parameters and optimizer states of a run as named tensors, wherever the plan keeps them: whole on every
// rank or cut into shards. Initialisation, checkpoints and the fingerprint of the weights all go through
// here, so none of them knows about ZeRO stages.
//
//   ModelState state = ModelState::OfModel(plan, spec, buffers);      // buffers: all ranks of this process
//   RETURN_IF_ERROR(state.Initialise(seed));
//   std::vector<char> w(state.params()[i].bytes());
//   RETURN_IF_ERROR(state.Read(state.params()[i], w.data()));                          // joined from the shards
//
// Of parameters in 16 bits the f32 masters are states like the optimizer's; so is the loss scale.
//
// Not to be used while a step runs.
#ifndef MILLRACE_PIPELINES_RUNNER_MODEL_STATE_H_
#define MILLRACE_PIPELINES_RUNNER_MODEL_STATE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "graph/ir/graph.pb.h"
#include "graph/ir/model_spec.h"
#include "graph/plan/plan.h"
#include "graph/runtime/buffers.h"
#include "pipelines/runner/state_memory.h"

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
        -1;  // of a parameter: the f32 copy that is updated, in 16 bits or offloaded; -1: itself
    int64_t bytes() const { return numel * SizeOf(dtype); }
  };

  // `buffers`, and `files` where the plan has a storage tier, by rank. The plan and these outlive the state.
  static ModelState OfModel(const Plan& plan, const ModelSpec& spec,
                            std::vector<const RankBuffers*> buffers,
                            std::vector<StorageFile*> files = {});
  // Of a step written by hand: its persistent parameters and optimizer states.
  static ModelState OfGraph(const Plan& plan, const GraphDef& text,
                            std::vector<const RankBuffers*> buffers);

  const std::vector<Tensor>& params() const { return params_; }  // in the model's order
  const std::vector<Tensor>& states() const { return states_; }

  // In its own element type. Errors come from storage and devices alone, here and below. Writing a parameter in f32 that has a
  // master (its states are offloaded) writes both.
  absl::Status Read(const Tensor& tensor, void* out) const;
  absl::Status Write(const Tensor& tensor, const void* in) const;  // into all copies and shards
  // A parameter from f32, rounded to its element type, and its master.
  absl::Status WriteParameter(const Tensor& parameter, const float* in) const;
  // After the last Write before a step: what is on storage is written back.
  absl::Status Close() const { return memory_->Close(); }

  // Every parameter from (seed, name, index); states and padding are zeroed, the loss scale starts.
  absl::Status Initialise(uint64_t seed) const;

  // Hex SHA-256 over all parameters in name order, little-endian bytes of their storage type.
  absl::StatusOr<std::string> WeightsSha256() const;

 private:
  ModelState(const Plan& plan, std::vector<const RankBuffers*> buffers,
             std::vector<StorageFile*> files)
      : plan_(&plan),
        memory_(std::make_unique<StateMemory>(plan, std::move(buffers), std::move(files))) {}
  absl::Status WriteTo(const Tensor& tensor, ValueId value, const void* in) const;
  absl::Status InitialiseTensor(const Tensor& tensor, uint64_t seed,
                                std::vector<float>* whole) const;
  template <typename F>  // f(char* place, int64_t first element of the tensor, int64_t count)
  absl::Status ForEachPart(const Tensor& tensor, ValueId value, bool change, F f) const;

  const Plan* plan_;
  std::unique_ptr<StateMemory> memory_;
  std::vector<Tensor> params_, states_;
};

}  // namespace millrace

#endif  // MILLRACE_PIPELINES_RUNNER_MODEL_STATE_H_
