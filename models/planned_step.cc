#include "models/planned_step.h"

#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "graph/base/random.h"
#include "graph/base/status.h"
#include "models/init.h"
#include "models/model_run.h"
#include "models/stage_run.h"
#include "models/tensors.h"

namespace millrace {
namespace {

constexpr int64_t kGuard = 64;
constexpr char kPattern = 0x5a;

std::vector<void*> Pointers(std::vector<GuardedBlock>& blocks) {
  std::vector<void*> list;
  for (GuardedBlock& b : blocks) list.push_back(b.data());
  return list;
}

template <typename Spec>
at::Tensor View(GuardedBlock& block, const Spec& spec) {
  return at::from_blob(block.data(), spec.shape,
                       at::TensorOptions().dtype(ToScalarType(spec.dtype)));
}

// What the runtime does with a result that is not in its planned place.
void CopyHome(const at::Tensor& result, at::Tensor home, int64_t& copies) {
  if (!result.defined()) {
    home.zero_();
  } else if (result.data_ptr() != home.data_ptr()) {
    home.copy_(result);
    ++copies;
  }
}

// What a batch may hold, told by the tensor's name (models/model.h).
at::Tensor SampleTensor(const ModelDef& model, const TensorSpec& spec) {
  at::Tensor t = EmptyTensor(spec, at::kCPU);
  const CounterRng rng(1, HashString(spec.name));
  if (spec.dtype == DType::kF32) {
    for (int64_t i = 0; i < t.numel(); ++i) {
      const double value = spec.name == "boxes"     ? 0.3 + 0.4 * rng.Uniform(i)
                           : spec.name == "spacing" ? 1 + 0.5 * rng.Uniform(i)
                                                    : rng.Normal(i);
      t.data_ptr<float>()[i] = static_cast<float>(value);
    }
  } else if (spec.dtype == DType::kI64) {
    const int64_t classes = model.stages.back().outputs.at(1).shape.back();
    for (int64_t i = 0; i < t.numel(); ++i) t.data_ptr<int64_t>()[i] = (7 * i + 3) % classes;
  } else {
    for (int64_t i = 0; i < t.numel(); ++i) t.data_ptr<uint8_t>()[i] = rng.Uniform(i) < 0.4;
  }
  return t;
}

void Finish(const ReplayScope& replay, const AllocationPlan& plan, StepResult& r) {
  r.mismatches += replay.mismatches();
  r.mismatches += std::abs(static_cast<int64_t>(plan.allocations.size()) - replay.served());
}

}  // namespace

GuardedBlock::GuardedBlock(int64_t bytes) : memory_(nullptr, &std::free), bytes_(bytes) {
  const int64_t total = kGuard + (bytes + 63) / 64 * 64 + kGuard;
  char* p = static_cast<char*>(std::aligned_alloc(64, static_cast<size_t>(total)));
  memory_.reset(p);
  data_ = p + kGuard;
  std::memset(p, kPattern, kGuard);
  std::memset(data_ + bytes, kPattern, static_cast<size_t>(total - kGuard - bytes));
}

bool GuardedBlock::intact() const {
  const auto pattern = [](char c) { return c == kPattern; };
  return std::all_of(data_ - kGuard, data_, pattern) &&
         std::all_of(data_ + bytes_, data_ + (bytes_ + 63) / 64 * 64 + kGuard, pattern);
}

absl::StatusOr<std::unique_ptr<PlannedStep>> PlannedStep::Create(absl::string_view model,
                                                                 const Attrs& args,
                                                                 int64_t micro_batch, int threads,
                                                                 DType dtype) {
  InstallAllocators();
  std::unique_ptr<PlannedStep> step(new PlannedStep);
  ASSIGN_OR_RETURN(step->model_, BuildModel(model, args, {.micro_batch = micro_batch}));
  SetDType(dtype, &step->model_);
  ASSIGN_OR_RETURN(step->spec_, Probe(step->model_, {.threads = threads}));
  step->Allocate();
  return step;
}

void PlannedStep::Allocate() {
  for (const TensorSpec& t : model_.batch) batch_.push_back(SampleTensor(model_, t));
  int64_t workspace = 0;
  for (const StageSpec& s : spec_.stages) {
    Tensors params;
    StageBlocks b;
    for (const ParamSpec& p : s.params) {
      at::Tensor value = at::empty(p.shape, at::kFloat);
      FillParam(p, /*seed=*/1, 0, p.numel(), value.data_ptr<float>());
      params.push_back(value.to(ToScalarType(p.dtype)));
      b.param_grads.emplace_back(p.numel() * SizeOf(p.dtype));
      b.param_grad_tensors.push_back(View(b.param_grads.back(), p));
    }
    for (const TensorSpec& t : s.outputs) {
      b.outputs.emplace_back(t.bytes());
      b.output_grads.emplace_back(t.bytes());
      b.output_tensors.push_back(View(b.outputs.back(), t));
      b.output_grad_tensors.push_back(View(b.output_grads.back(), t));
    }
    b.saved = std::make_unique<GuardedBlock>(s.saved_bytes);
    for (const AllocationPlan* plan : {&s.forward, &s.backward, &s.evaluate}) {
      workspace = std::max(workspace, plan->workspace_bytes);
    }
    params_.push_back(std::move(params));
    blocks_.push_back(std::move(b));
  }
  workspace_ = std::make_unique<GuardedBlock>(workspace);
}

absl::StatusOr<StepResult> PlannedStep::RunPlain() {
  StepResult r;
  ASSIGN_OR_RETURN(ModelRun run, RunModel(model_, params_, batch_, {.train = true}));
  r.outputs = run.outputs.back();
  ASSIGN_OR_RETURN(ModelGradients g, BackwardModel(model_, std::move(run), {}));
  r.param_grads = std::move(g.params);
  return r;
}

absl::StatusOr<StepResult> PlannedStep::RunPlanned() {
  StepResult r;
  const size_t n = model_.stages.size();
  std::vector<StageTape> tapes(n);
  const std::vector<Tensors> all_outputs = OutputTensors();
  for (size_t i = 0; i < n; ++i) {
    StageBlocks& b = blocks_[i];
    const std::vector<void*> outputs = Pointers(b.outputs);
    ReplayMemory memory;
    memory.workspace = workspace_->data();
    memory.saved = b.saved->data();
    memory.outputs = outputs;
    const Tensors inputs = StageInputs(model_.stages[i], all_outputs, batch_);
    ReplayScope replay(spec_.stages[i].forward, memory);
    ASSIGN_OR_RETURN(tapes[i], StageForward(model_.stages[i], inputs, params_[i], {.train = true}));
    Finish(replay, spec_.stages[i].forward, r);
    for (size_t k = 0; k < outputs.size(); ++k) {
      CopyHome(tapes[i].outputs[k], b.output_tensors[k], r.copies);
    }
    tapes[i].outputs.clear();
  }
  r.outputs = blocks_.back().output_tensors;
  for (size_t i = n; i-- > 0;) {
    StageBlocks& b = blocks_[i];
    const std::vector<void*> param_grads = Pointers(b.param_grads);
    std::vector<void*> input_grads;
    for (const StageSource& from : model_.stages[i].sources) {
      input_grads.push_back(blocks_[from.stage].output_grads[from.output].data());
    }
    ReplayMemory memory;
    memory.workspace = workspace_->data();
    memory.saved = b.saved->data();
    memory.input_grads = input_grads;
    memory.param_grads = param_grads;
    const Tensors grads = i + 1 == n ? Tensors() : b.output_grad_tensors;
    ReplayScope replay(spec_.stages[i].backward, memory);
    ASSIGN_OR_RETURN(StageGradients g, StageBackward(std::move(tapes[i]), grads, 1.0));
    Finish(replay, spec_.stages[i].backward, r);
    for (size_t k = 0; k < param_grads.size(); ++k) {
      CopyHome(g.params[k], b.param_grad_tensors[k], r.copies);
    }
    for (size_t k = 0; k < input_grads.size(); ++k) {
      const StageSource& from = model_.stages[i].sources[k];
      CopyHome(g.inputs[k], blocks_[from.stage].output_grad_tensors[from.output], r.copies);
    }
  }
  for (const StageBlocks& b : blocks_) r.param_grads.push_back(b.param_grad_tensors);
  r.guards_intact = GuardsIntact();
  return r;
}

absl::StatusOr<StepResult> PlannedStep::EvaluatePlain() {
  StepResult r;
  ASSIGN_OR_RETURN(ModelRun run, RunModel(model_, params_, batch_, {.train = false}));
  r.outputs = std::move(run.outputs.back());
  return r;
}

absl::StatusOr<StepResult> PlannedStep::EvaluatePlanned() {
  StepResult r;
  const std::vector<Tensors> all_outputs = OutputTensors();
  for (size_t i = 0; i < model_.stages.size(); ++i) {
    StageBlocks& b = blocks_[i];
    const std::vector<void*> outputs = Pointers(b.outputs);
    ReplayMemory memory;
    memory.workspace = workspace_->data();
    memory.outputs = outputs;
    const Tensors inputs = StageInputs(model_.stages[i], all_outputs, batch_);
    ReplayScope replay(spec_.stages[i].evaluate, memory);
    ASSIGN_OR_RETURN(StageTape tape,
                     StageForward(model_.stages[i], inputs, params_[i], {.train = false}));
    Finish(replay, spec_.stages[i].evaluate, r);
    for (size_t k = 0; k < outputs.size(); ++k) {
      CopyHome(tape.outputs[k], b.output_tensors[k], r.copies);
    }
  }
  r.outputs = all_outputs.back();
  r.guards_intact = GuardsIntact();
  return r;
}

std::vector<Tensors> PlannedStep::OutputTensors() const {
  std::vector<Tensors> outputs;
  for (const StageBlocks& b : blocks_) outputs.push_back(b.output_tensors);
  return outputs;
}

bool PlannedStep::GuardsIntact() const {
  bool intact = workspace_->intact();
  for (const StageBlocks& b : blocks_) {
    intact = intact && b.saved->intact();
    for (const auto* list : {&b.outputs, &b.output_grads, &b.param_grads}) {
      for (const GuardedBlock& block : *list) intact = intact && block.intact();
    }
  }
  return intact;
}

}  // namespace millrace
