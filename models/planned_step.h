// One training step of a whole model on one thread, twice: with LibTorch's memory coming from malloc, and
// with every allocation at its probed place. Tests compare the two, the benchmark times them. The runtime
// does the same through the executor; this is the shortest program that does.
//
//   ASSIGN_OR_RETURN(auto step, PlannedStep::Create("vit_tiny", {}, /*micro_batch=*/8, /*threads=*/1));
//   StepResult plain = *step->RunPlain();
//   StepResult planned = *step->RunPlanned();     // bit-identical; planned.mismatches == 0
//
// Not thread-safe. Parameters and inputs are random, from fixed seeds; integers are class numbers.
#ifndef MILLRACE_MODELS_PLANNED_STEP_H_
#define MILLRACE_MODELS_PLANNED_STEP_H_

#include <cstddef>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "models/allocator.h"
#include "models/model.h"
#include "models/probe.h"

namespace millrace {

// 64-byte aligned bytes with a guard on either side.
class GuardedBlock {
 public:
  explicit GuardedBlock(int64_t bytes);
  char* data() { return data_; }
  bool intact() const;  // whether nobody wrote beyond either end

 private:
  std::unique_ptr<char, void (*)(void*)> memory_;
  char* data_;
  int64_t bytes_;
};

struct StepResult {
  Tensors outputs;                   // of the last stage: loss, logits
  std::vector<Tensors> param_grads;  // by stage; of RunPlanned views of its blocks
  int64_t mismatches = 0;            // allocations that were not as planned
  int64_t copies = 0;                // outputs and gradients that were not where the plan has them
  bool guards_intact = true;
};

class PlannedStep {
 public:
  static absl::StatusOr<std::unique_ptr<PlannedStep>> Create(absl::string_view model,
                                                             const Attrs& args, int64_t micro_batch,
                                                             int threads,
                                                             DType dtype = DType::kF32);
  absl::StatusOr<StepResult> RunPlain();
  absl::StatusOr<StepResult> RunPlanned();
  // Forward only, without saving: {loss, logits}.
  absl::StatusOr<StepResult> EvaluatePlain();
  absl::StatusOr<StepResult> EvaluatePlanned();

  const ModelDef& model() const { return model_; }
  const ModelSpec& spec() const { return spec_; }
  const std::vector<Tensors>& params() const { return params_; }
  const Tensors& batch() const { return batch_; }

 private:
  struct StageBlocks {
    std::vector<GuardedBlock> outputs, output_grads, param_grads;
    std::unique_ptr<GuardedBlock> saved;
    Tensors output_tensors, output_grad_tensors, param_grad_tensors;
  };
  PlannedStep() = default;
  void Allocate();
  std::vector<Tensors> OutputTensors() const;
  bool GuardsIntact() const;

  ModelDef model_;
  ModelSpec spec_;
  std::vector<Tensors> params_;
  Tensors batch_;
  std::vector<StageBlocks> blocks_;
  std::unique_ptr<GuardedBlock> workspace_;
};

}  // namespace millrace

#endif  // MILLRACE_MODELS_PLANNED_STEP_H_
