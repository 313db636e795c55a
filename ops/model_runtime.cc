#include "ops/model_runtime.h"

#include <c10/core/StorageImpl.h>

#include "ops/torch_bridge.h"

namespace millrace {

const Tensors& ModelRuntime::Bind(int s, const std::vector<void*>& addresses) {
  Tensors& tensors = params_[s];
  if (tensors.empty()) {
    for (size_t i = 0; i < addresses.size(); ++i) {
      tensors.push_back(
          AsTensor(addresses[i], spec(s).params[i].dtype, spec(s).params[i].shape, device_));
    }
    return tensors;
  }
  for (size_t i = 0; i < addresses.size(); ++i) {
    c10::StorageImpl* storage = tensors[i].storage().unsafeGetStorageImpl();
    if (storage->data() != addresses[i]) {
      storage->set_data_ptr_noswap(at::DataPtr(addresses[i], device_));
    }
  }
  return tensors;
}

StageTape ModelRuntime::TakeTape(int s, int64_t micro_batch) {
  const auto it = tapes_.find({s, micro_batch});
  if (it == tapes_.end()) return {};
  StageTape tape = std::move(it->second);
  tapes_.erase(it);
  return tape;
}

}  // namespace millrace
