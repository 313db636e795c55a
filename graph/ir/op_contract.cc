#include "graph/ir/op_contract.h"

namespace millrace {

OpContracts& OpContracts::Global() {
  static auto* contracts =
      new OpContracts;  // never destroyed: look-ups may outlive static destructors
  return *contracts;
}

bool OpContracts::Register(OpContract contract) {
  std::string name = contract.name;
  return contracts_.emplace(std::move(name), std::move(contract)).second;
}

const OpContract* OpContracts::Find(const std::string& name) const {
  const auto it = contracts_.find(name);
  return it == contracts_.end() ? nullptr : &it->second;
}

std::vector<std::string> OpContracts::Names() const {
  std::vector<std::string> names;
  names.reserve(contracts_.size());
  for (const auto& [name, contract] : contracts_) names.push_back(name);
  return names;
}

}  // namespace millrace
