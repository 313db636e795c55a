// What the forward and backward kernels of one rank share: the model's stages, parameter tensors whose bytes
// the schedule owns, and the tapes between a stage's forward and its backward.
//
// Parameters move: at stage 3 a parameter lies in one gathered buffer during forward and in another during
// backward, while autograd holds the tensor it saw in forward. So a parameter is one tensor for the whole run,
// and Bind gives its storage the address that is valid now; every view that autograd saved follows.
//
// Used by the rank's compute thread only.
#ifndef MILLRACE_OPS_MODEL_RUNTIME_H_
#define MILLRACE_OPS_MODEL_RUNTIME_H_

#include <c10/core/Device.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "graph/ir/model_spec.h"
#include "models/model.h"
#include "models/stage_run.h"

namespace millrace {

// A parameter whose gradient is not finite.
struct Overflow {
  std::string parameter;  // "": none
  int64_t micro_batch = 0;
  int stage = 0;
};

class ModelRuntime {
 public:
  // Both outlive the runtime.
  ModelRuntime(const ModelDef& model, const ModelSpec& spec) : model_(model), spec_(spec) {}

  const StageDef& stage(int s) const { return model_.stages[s]; }
  const StageSpec& spec(int s) const { return spec_.stages[s]; }
  bool is_last(int s) const { return s + 1 == static_cast<int>(spec_.stages.size()); }

  // Where parameters are; before the first Bind.
  void set_device(at::Device device) { device_ = device; }
  // The stage's parameters, now lying at `addresses` (one per parameter, in the stage's order).
  const Tensors& Bind(int s, const std::vector<void*>& addresses);

  void KeepTape(int s, int64_t micro_batch, StageTape tape) {
    tapes_[{s, micro_batch}] = std::move(tape);
  }
  // An empty tape (graph == nullptr) when there is none.
  StageTape TakeTape(int s, int64_t micro_batch);
  // Forgets all tapes: after a step that failed between forward and backward.
  void Reset() { tapes_.clear(); }

  // The first parameter, in the order of backward, whose gradient was not finite since ForgetOverflow.
  void NoteOverflow(Overflow overflow) {
    if (overflow_.parameter.empty()) overflow_ = std::move(overflow);
  }
  // On a device nobody can note it: its backward kernels leave flags behind, which are read when somebody asks, in the
  // order in which the readers came, until one has found something. Between steps.
  using OverflowReader = std::function<Overflow()>;
  void AddOverflowReader(OverflowReader reader) { readers_.push_back(std::move(reader)); }
  const Overflow& overflow() {
    for (size_t i = 0; i < readers_.size() && overflow_.parameter.empty(); ++i) {
      overflow_ = readers_[i]();
    }
    return overflow_;
  }
  void ForgetOverflow() { overflow_ = {}; }

  // Allocations that did not follow the plan, and the most bytes that they held at one time. Both are 0 when
  // the probe saw what runs; the bytes count as device memory in peak_bytes_measured.
  void CountUnplanned(int64_t mismatches, int64_t bytes) {
    mismatches_ += mismatches;
    if (bytes > unplanned_bytes_) unplanned_bytes_ = bytes;
  }
  int64_t mismatches() const { return mismatches_; }
  int64_t unplanned_bytes() const { return unplanned_bytes_; }

 private:
  const ModelDef& model_;
  const ModelSpec& spec_;
  std::map<int, Tensors> params_;
  std::map<std::pair<int, int64_t>, StageTape> tapes_;
  int64_t mismatches_ = 0, unplanned_bytes_ = 0;
  Overflow overflow_;
  std::vector<OverflowReader> readers_;
  at::Device device_ = at::kCPU;
};

}  // namespace millrace

#endif  // MILLRACE_OPS_MODEL_RUNTIME_H_
