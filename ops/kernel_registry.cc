#include "ops/kernel_registry.h"

#include "absl/strings/str_cat.h"

namespace millrace {

KernelRegistry& KernelRegistry::Global() {
  static KernelRegistry* const registry = new KernelRegistry;
  return *registry;
}

bool KernelRegistry::Register(const std::string& op, KernelMaker maker) {
  return makers_.emplace(op, std::move(maker)).second;
}

const KernelMaker* KernelRegistry::Find(const std::string& op) const {
  const auto it = makers_.find(op);
  return it == makers_.end() ? nullptr : &it->second;
}

std::vector<std::string> KernelRegistry::Names() const {
  std::vector<std::string> names;
  for (const auto& [name, maker] : makers_) names.push_back(name);
  return names;
}

KernelFactory RegistryFactory(RankContext* rank) {
  return [rank](const Plan& plan, int, NodeId node,
                const RankBuffers& buffers) -> absl::StatusOr<std::unique_ptr<Kernel>> {
    const std::string& op = plan.graph.nodes()[node].op;
    const KernelMaker* maker = KernelRegistry::Global().Find(op);
    if (maker == nullptr) {
      return absl::UnimplementedError(absl::StrCat("no kernel is linked for operation '", op, "'"));
    }
    return (*maker)(KernelArgs{plan, node, buffers, *rank});
  };
}

}  // namespace millrace
