// The door between planned memory and LibTorch: arena bytes become tensors without a copy, and whatever LibTorch
// throws becomes a Status.
//
//   absl::Status Run(const StepContext&) override {
//     return CatchTorch([&] { at::relu_out(y_, x_); });
//   }
#ifndef MILLRACE_OPS_TORCH_BRIDGE_H_
#define MILLRACE_OPS_TORCH_BRIDGE_H_

#include <ATen/core/Tensor.h>

#include <exception>
#include <utility>

#include "absl/status/status.h"
#include "graph/ir/graph.h"

namespace millrace {

// A tensor over `data` that owns nothing; the memory, `device`'s, must outlive it.
at::Tensor AsTensor(void* data, DType dtype, const std::vector<int64_t>& shape,
                    at::Device device = at::kCPU);
inline at::Tensor AsTensor(void* data, const Value& value, at::Device device = at::kCPU) {
  return AsTensor(data, value.dtype, value.shape, device);
}

// The message of an exception without LibTorch's stack trace.
absl::Status StatusOf(const std::exception& e);

template <typename F>
absl::Status CatchTorch(F&& f) {
  try {
    std::forward<F>(f)();
    return absl::OkStatus();
  } catch (const std::exception& e) {
    return StatusOf(e);
  } catch (...) {
    return absl::InternalError("an exception of unknown type");
  }
}

}  // namespace millrace

#endif  // MILLRACE_OPS_TORCH_BRIDGE_H_
