#include "ops/torch_bridge.h"

#include <ATen/ops/from_blob.h>
#include <c10/util/Exception.h>

namespace millrace {
namespace {

at::ScalarType ScalarTypeOf(DType t) {
  switch (t) {
    case DType::kF32:
      return at::kFloat;
    case DType::kF64:
      return at::kDouble;
    case DType::kBF16:
      return at::kBFloat16;
    case DType::kF16:
      return at::kHalf;
    case DType::kI64:
      return at::kLong;
    case DType::kI32:
      return at::kInt;
    case DType::kI8:
      return at::kChar;
    case DType::kU8:
      return at::kByte;
    case DType::kBool:
      return at::kBool;
  }
  return at::kFloat;
}

}  // namespace

at::Tensor AsTensor(void* data, DType dtype, const std::vector<int64_t>& shape) {
  return at::from_blob(data, shape, at::TensorOptions().dtype(ScalarTypeOf(dtype)));
}

absl::Status StatusOf(const std::exception& e) {
  if (const auto* error = dynamic_cast<const c10::Error*>(&e)) {
    return absl::InternalError(error->what_without_backtrace());
  }
  return absl::InternalError(e.what());
}

}  // namespace millrace
