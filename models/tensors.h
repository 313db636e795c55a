// Torch tensors for the shapes that specs name. For probing, the runtime's bridge and tests.
#ifndef MILLRACE_MODELS_TENSORS_H_
#define MILLRACE_MODELS_TENSORS_H_

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include "graph/base/dtype.h"
#include "graph/ir/model_spec.h"

namespace millrace {

inline at::ScalarType ToScalarType(DType t) {
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

// An uninitialised tensor for a TensorSpec or a ParamSpec.
template <typename Spec>
at::Tensor EmptyTensor(const Spec& spec, at::Device device) {
  return at::empty(spec.shape, at::TensorOptions().dtype(ToScalarType(spec.dtype)).device(device));
}

}  // namespace millrace

#endif  // MILLRACE_MODELS_TENSORS_H_
