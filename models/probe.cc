#include "models/probe.h"

#include <map>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "graph/base/status.h"
#include "models/allocator.h"
#include "models/generic.h"
#include "models/meta_kernels.h"
#include "models/op_counter.h"
#include "models/placement.h"
#include "models/stage_run.h"
#include "models/tensors.h"

namespace millrace {
namespace {

using Events = std::vector<AllocationEvent>;

struct StageArguments {
  Tensors inputs, params, grad_outputs;
};

// On a real device some number that every layer takes, as a label, too.
template <typename Spec>
at::Tensor Argument(const Spec& spec, c10::Device device) {
  at::Tensor t = EmptyTensor(spec, device);
  if (!device.is_meta()) t.fill_(at::isFloatingType(t.scalar_type()) ? 0.125 : 0.0);
  return t;
}

StageArguments Arguments(const StageDef& stage, const ModelDef& model, c10::Device device) {
  const bool last = &stage == &model.stages.back();
  StageArguments a;
  for (const TensorSpec& t : stage.inputs) a.inputs.push_back(Argument(t, device));
  for (int b : stage.batch) a.inputs.push_back(Argument(model.batch.at(b), device));
  for (const ParamSpec& p : stage.params) a.params.push_back(Argument(p, device));
  if (!last) {
    for (const TensorSpec& t : stage.outputs) a.grad_outputs.push_back(Argument(t, device));
  }
  return a;
}

// For CUDA the CPU's allocations do not count: tensors of a number, which LibTorch makes on the host.
std::optional<c10::DeviceType> Counted(const ProbeOptions& o) {
  if (!o.target.is_cuda()) return std::nullopt;
  return o.run ? c10::kCUDA : c10::kMeta;
}

absl::Status CheckOutputs(const StageDef& stage, const Tensors& outputs) {
  if (outputs.size() != stage.outputs.size()) {
    return absl::InternalError(absl::StrCat("stage '", stage.name, "' gives ", outputs.size(),
                                            " outputs, declares ", stage.outputs.size()));
  }
  for (size_t i = 0; i < outputs.size(); ++i) {
    const TensorSpec& spec = stage.outputs[i];
    if (outputs[i].sizes() != at::IntArrayRef(spec.shape) ||
        outputs[i].scalar_type() != ToScalarType(spec.dtype)) {
      return absl::InternalError(absl::StrCat("stage '", stage.name, "', output '", spec.name,
                                              "': not the declared shape and type"));
    }
  }
  return absl::OkStatus();
}

// Which allocations are these tensors themselves: dense tensors that fill a storage of their own.
// The runtime copies the others to where the graph wants them.
void AddBoundary(const Recording& recording, const Tensors& tensors, Placement::Region region,
                 BoundaryAllocations& boundary) {
  for (size_t i = 0; i < tensors.size(); ++i) {
    const at::Tensor& t = tensors[i];
    if (!t.defined() || !t.is_contiguous() || t.nbytes() != t.storage().nbytes()) continue;
    const int32_t id = recording.IdOf(t.storage().data_ptr());
    if (id < 0) continue;
    boundary.try_emplace(
        id, Placement{region, static_cast<int32_t>(i), 0, static_cast<int64_t>(t.nbytes())});
  }
}

Events Slice(const Events& events, size_t begin, size_t end) {
  return Events(events.begin() + static_cast<std::ptrdiff_t>(begin),
                events.begin() + static_cast<std::ptrdiff_t>(end));
}

absl::Status ProbeTraining(const StageDef& stage, const StageArguments& a,
                           const StageOptions& options, std::optional<c10::DeviceType> counted,
                           StageSpec& spec) {
  Recording recording(counted);
  const Events& events = recording.events();
  ASSIGN_OR_RETURN(StageTape tape, StageForward(stage, a.inputs, a.params, options));
  RETURN_IF_ERROR(CheckOutputs(stage, tape.outputs));
  StageTrace trace;
  BoundaryAllocations outputs;
  AddBoundary(recording, tape.outputs, Placement::Region::kOutput, outputs);
  const size_t forward_end = events.size();
  trace.forward = Slice(events, 0, forward_end);
  // An output that lives on when nobody holds it is one that autograd reads in backward. It stays in the
  // saved block and the runtime copies it.
  tape.outputs.clear();
  const size_t backward_begin = events.size();
  for (size_t i = forward_end; i < backward_begin; ++i) {
    const auto it = outputs.find(events[i].id);
    if (it != outputs.end()) trace.boundary.insert(*it);
  }
  ASSIGN_OR_RETURN(StageGradients grads, StageBackward(std::move(tape), a.grad_outputs, 1.0));
  trace.backward = Slice(events, backward_begin, events.size());
  BoundaryAllocations gradients;
  AddBoundary(recording, grads.inputs, Placement::Region::kInputGrad, gradients);
  AddBoundary(recording, grads.params, Placement::Region::kParamGrad, gradients);
  const int32_t backward_first = [&] {
    int32_t n = 0;
    for (const AllocationEvent& e : trace.forward) n += e.is_free ? 0 : 1;
    return n;
  }();
  for (const auto& [id, placement] : gradients) {
    if (id >= backward_first) trace.boundary.emplace(id, placement);
  }
  StagePlacement placement = PlaceTraining(trace);
  spec.saved_bytes = placement.saved_bytes;
  spec.forward = std::move(placement.forward);
  spec.backward = std::move(placement.backward);
  return absl::OkStatus();
}

absl::Status ProbeEvaluation(const StageDef& stage, const StageArguments& a,
                             std::optional<c10::DeviceType> counted, StageSpec& spec) {
  Recording recording(counted);
  ASSIGN_OR_RETURN(StageTape tape, StageForward(stage, a.inputs, a.params, {.train = false}));
  BoundaryAllocations outputs;
  AddBoundary(recording, tape.outputs, Placement::Region::kOutput, outputs);
  spec.evaluate = PlaceAlone(recording.events(), outputs);
  return absl::OkStatus();
}

absl::Status CountWork(const StageDef& stage, const StageArguments& a, const StageOptions& options,
                       StageSpec& spec) {
  OpCounter counter;
  ASSIGN_OR_RETURN(StageTape tape, StageForward(stage, a.inputs, a.params, options));
  spec.forward_flops = counter.flops();
  spec.forward_bytes = counter.bytes();
  spec.forward_operators = counter.operators();
  ASSIGN_OR_RETURN(StageGradients grads, StageBackward(std::move(tape), a.grad_outputs, 1.0));
  spec.backward_flops = counter.flops() - spec.forward_flops;
  spec.backward_bytes = counter.bytes() - spec.forward_bytes;
  spec.backward_operators = counter.operators() - spec.forward_operators;
  return absl::OkStatus();
}

// What the device's libraries make at first use and keep.
absl::Status WarmUp(const StageDef& stage, const StageArguments& a, const StageOptions& options) {
  RETURN_IF_ERROR(StageForward(stage, a.inputs, a.params, {.train = false}));
  ASSIGN_OR_RETURN(StageTape tape, StageForward(stage, a.inputs, a.params, options));
  RETURN_IF_ERROR(StageBackward(std::move(tape), a.grad_outputs, 1.0));
  return absl::OkStatus();
}

absl::StatusOr<StageSpec> ProbeStage(const StageDef& stage, const ModelDef& model,
                                     const ProbeOptions& probe) {
  StageSpec spec;
  spec.class_key = stage.class_key;
  spec.inputs = stage.inputs;
  spec.outputs = stage.outputs;
  spec.batch = stage.batch;
  const StageOptions options{.train = true};
  {
    const StageArguments a = Arguments(stage, model, probe.run ? probe.target : at::kMeta);
    const ForceGeneric generic(probe.target.is_cuda());
    if (probe.run) RETURN_IF_ERROR(WarmUp(stage, a, options));
    RETURN_IF_ERROR(ProbeTraining(stage, a, options, Counted(probe), spec));
    RETURN_IF_ERROR(ProbeEvaluation(stage, a, Counted(probe), spec));
  }
  // The model's work is the same wherever it is done.
  RETURN_IF_ERROR(CountWork(stage, Arguments(stage, model, at::kMeta), options, spec));
  return spec;
}

}  // namespace

absl::StatusOr<ModelSpec> Probe(const ModelDef& model, const ProbeOptions& options) {
  if (options.threads < 1) return absl::InvalidArgumentError("probing needs at least one thread");
  if (!options.target.is_cpu() && !options.target.is_cuda()) {
    return absl::InvalidArgumentError(
        absl::StrCat("models are planned for the CPU or for CUDA, not for ", options.target.str()));
  }
  if (options.target.is_cuda() && !model.host_only.empty()) {
    return absl::FailedPreconditionError(absl::StrCat("model '", model.name,
                                                      "' does not run on CUDA: ", model.host_only,
                                                      "; use a machine whose device is CPU"));
  }
  InstallAllocators();
  const MetaThreads threads(options.threads);
  ModelSpec result;
  result.name = model.name;
  result.batch = model.batch;
  std::map<std::pair<std::string, std::vector<int>>, StageSpec> classes;
  for (size_t i = 0; i < model.stages.size(); ++i) {
    const StageDef& stage = model.stages[i];
    const std::pair<std::string, std::vector<int>> key{stage.class_key, stage.batch};
    auto it = classes.find(key);
    if (it == classes.end()) {
      absl::StatusOr<StageSpec> spec = ProbeStage(stage, model, options);
      if (!spec.ok()) return Annotate(spec.status(), "probing model '", model.name, "'");
      it = classes.emplace(key, *std::move(spec)).first;
    }
    StageSpec spec = it->second;
    spec.name = stage.name;
    spec.params = stage.params;
    spec.sources = stage.sources;
    result.stages.push_back(std::move(spec));
  }
  return result;
}

}  // namespace millrace
