#include "ops/torch_bridge.h"

#include <ATen/ops/from_blob.h>
#include <c10/util/Exception.h>

#include "models/tensors.h"

namespace millrace {

at::Tensor AsTensor(void* data, DType dtype, const std::vector<int64_t>& shape, at::Device device) {
  // Told which device, LibTorch does not ask the driver whose memory it is.
  return at::for_blob(data, shape)
      .options(at::TensorOptions().dtype(ToScalarType(dtype)).device(device))
      .target_device(device)
      .make_tensor();
}

absl::Status StatusOf(const std::exception& e) {
  if (const auto* error = dynamic_cast<const c10::Error*>(&e)) {
    return absl::InternalError(error->what_without_backtrace());
  }
  return absl::InternalError(e.what());
}

}  // namespace millrace
