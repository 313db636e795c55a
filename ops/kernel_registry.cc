#include "ops/kernel_registry.h"

#include "absl/strings/str_cat.h"

namespace millrace {

KernelRegistry& KernelRegistry::Global() {
  static KernelRegistry* const registry = new KernelRegistry;
  return *registry;
}

bool KernelRegistry::Register(const std::string& op, KernelMaker maker, const std::string& device) {
  return makers_.emplace(std::make_pair(device, op), std::move(maker)).second;
}

const KernelMaker* KernelRegistry::Find(const std::string& op, absl::string_view device) const {
  const auto it = makers_.find({std::string(device), op});
  return it == makers_.end() ? nullptr : &it->second;
}

std::vector<std::string> KernelRegistry::Names() const {
  std::vector<std::string> names;
  for (const auto& [key, maker] : makers_) {
    if (key.first.empty()) names.push_back(key.second);
  }
  return names;
}

KernelFactory RegistryFactory(RankContext* rank) {
  return [rank](const Plan& plan, int, NodeId node,
                const RankBuffers& buffers) -> absl::StatusOr<std::unique_ptr<Kernel>> {
    const std::string& op = plan.graph.nodes()[node].op;
    const bool streamed = rank->device != nullptr && InStream(LaneKindOf(plan.graph, node));
    const absl::string_view flavor = streamed ? rank->device->kernels() : "";
    const KernelMaker* maker = KernelRegistry::Global().Find(op, flavor);
    if (maker == nullptr) {
      return absl::UnimplementedError(absl::StrCat("no kernel is linked for operation '", op, "'",
                                                   flavor.empty() ? "" : " of device ", flavor));
    }
    return (*maker)(KernelArgs{plan, node, buffers, *rank});
  };
}

}  // namespace millrace
