// Kernels by operation name: how a planned node becomes something that runs. A kernel's file registers itself
// (link it and it is known); its contract (ports, shapes) stands in graph/ir/builtin_contracts.cc for the
// operations that lowering emits, or beside the kernel for operations of hand-written steps.
//
//   class Scale final : public Kernel { ... };
//   REGISTER_KERNEL(scale, [](const KernelArgs& a) -> absl::StatusOr<std::unique_ptr<Kernel>> {
//     return std::make_unique<Scale>(a.In<float>(0), a.Out<float>(0), a.Numel(0));
//   });
//
// A kernel object belongs to one node of one rank; its pointers are resolved once, when it is made. Kernels of
// one rank run on that rank's compute thread, so they share RankContext without locks.
#ifndef MILLRACE_OPS_KERNEL_REGISTRY_H_
#define MILLRACE_OPS_KERNEL_REGISTRY_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "dist/communicator.h"
#include "graph/ir/graph.h"
#include "graph/ir/model_spec.h"
#include "graph/plan/plan.h"
#include "graph/runtime/buffers.h"
#include "graph/runtime/kernel.h"

namespace millrace {

class StorageFile;   // data/storage/storage_file.h: the bytes of the rank's storage tier
class ModelRuntime;  // ops/model_runtime.h: stages, parameter tensors and tapes of one rank

// Where a rank's batches come from. Called on compute threads, one call per (rank, micro-batch) and step.
class BatchSource {
 public:
  virtual ~BatchSource() = default;
  // Fills the outputs of the step's load_batch node, in its order: images, labels, ... (models/model.h has the names).
  virtual absl::Status Next(int rank, int64_t micro_batch, absl::Span<void* const> tensors) = 0;
};

// What the optimizer kernels need beyond the graph.
struct OptimizerSettings {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0.01;
  double momentum = 0.9;
  bool nesterov = false;
};

// What changes from step to step; StepContext::user points to it.
struct StepScalars {
  double lr = 0;
  int64_t update = 1;  // 1 for the first optimizer step (bias correction); skipped steps are none
};

// What all kernels of one rank share.
struct RankContext {
  int rank = 0;
  std::map<std::string, Communicator*> groups;
  BatchSource* batches = nullptr;
  ModelRuntime* model = nullptr;
  const ModelSpec* spec = nullptr;  // null for hand-written steps
  OptimizerSettings optimizer;
  int threads = 1;                 // that an update may use
  StorageFile* storage = nullptr;  // null: the plan has no storage tier
  Device* device = nullptr;        // null: the CPU back end
};

struct KernelArgs {
  const Plan& plan;
  NodeId node_id;
  const RankBuffers& buffers;
  RankContext& rank;

  const Node& node() const { return plan.graph.nodes()[node_id]; }
  const Value& input(int i) const { return plan.graph.values()[node().inputs[i]]; }
  // The values that the operation writes: of a start half, what its done half lists.
  const std::vector<ValueId>& output_ids() const {
    const Node& n = node();
    return n.async == AsyncRole::kStart ? plan.graph.nodes()[n.partner].outputs : n.outputs;
  }
  const Value& output(int i) const { return plan.graph.values()[output_ids()[i]]; }
  int inputs() const { return static_cast<int>(node().inputs.size()); }
  int outputs() const { return static_cast<int>(output_ids().size()); }
  template <typename T>
  T* In(int i) const {
    return static_cast<T*>(buffers.data(node().inputs[i]));
  }
  template <typename T>
  T* Out(int i) const {
    return static_cast<T*>(buffers.data(output_ids()[i]));
  }
};

using KernelMaker = std::function<absl::StatusOr<std::unique_ptr<Kernel>>(const KernelArgs&)>;

class KernelRegistry {
 public:
  static KernelRegistry& Global();
  bool Register(const std::string& op, KernelMaker maker, const std::string& device = "");
  // nullptr when no kernel is linked. `device`: Device::kernels().
  const KernelMaker* Find(const std::string& op, absl::string_view device = "") const;
  std::vector<std::string> Names() const;

 private:
  std::map<std::pair<std::string, std::string>, KernelMaker> makers_;  // by device, operation
};

// For MakeKernels (graph/runtime/kernel.h): makes each node's kernel from the registry. `rank` must outlive the
// kernels. Nodes of a device's streams (graph/ir/lane_kind.h) get the device's kernels, all others the CPU's. Unknown
// operations are errors that name the operation.
KernelFactory RegistryFactory(RankContext* rank);

#define REGISTER_KERNEL(id, maker) \
  static const bool millrace_kernel_##id = ::millrace::KernelRegistry::Global().Register(#id, maker)
// REGISTER_DEVICE_KERNEL(cuda, adamw, Make)
#define REGISTER_DEVICE_KERNEL(device, id, maker)     \
  static const bool millrace_kernel_##device##_##id = \
      ::millrace::KernelRegistry::Global().Register(#id, maker, #device)

}  // namespace millrace

#endif  // MILLRACE_OPS_KERNEL_REGISTRY_H_
