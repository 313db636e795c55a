// RecordFunction has one more member in builds without NDEBUG; LibTorch's own is with it, always.
#ifndef NDEBUG
#define NDEBUG
#endif

#include "models/op_counter.h"

#include <ATen/core/Tensor.h>
#include <ATen/record_function.h>

#include <memory>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace millrace {
namespace {

thread_local OpCounter* counter = nullptr;

// Operators that move no bytes themselves: views, allocations, and those made of others, which are
// counted instead.
bool IsTransparent(absl::string_view op) {
  static const auto* names = new absl::flat_hash_set<absl::string_view>{
      "alias",
      "as_strided",
      "contiguous",
      "cross_entropy_loss",
      "detach",
      "empty",
      "empty_like",
      "empty_strided",
      "expand",
      "expand_as",
      "flatten",
      "full",
      "layer_norm",
      "linear",
      "matmul",
      "narrow",
      "new_empty",
      "nll_loss",
      "permute",
      "reshape",
      "resize_",
      "result_type",
      "select",
      "select_backward",
      "slice",
      "split",
      "squeeze",
      "sum_to_size",
      "t",
      "to",
      "transpose",
      "type_as",
      "unsqueeze",
      "view",
      "view_as",
      "zeros",
      "zeros_like",
      "chunk",
      "conv2d",
      "dropout",
      "clone",
      "_unsafe_view",
      "unflatten",
      "unbind",
      "_reshape_alias",
      "new_zeros",
      "ones_like",
      "ones",
      "scalar_tensor",
      "movedim",
      "set_data",
      "is_same_size",
      "_to_copy",
      "requires_grad_",
      "detach_",
  };
  return names->contains(op);
}

template <typename Values>
int64_t TensorBytes(const Values& values) {
  int64_t bytes = 0;
  for (const c10::IValue& v : values) {
    if (v.isTensor() && v.toTensor().defined()) {
      bytes += static_cast<int64_t>(v.toTensor().nbytes());
    } else if (v.isTensorList()) {
      for (const at::Tensor& t : v.toTensorVector()) bytes += static_cast<int64_t>(t.nbytes());
    }
  }
  return bytes;
}

int64_t Flops(absl::string_view op, c10::ArrayRef<const c10::IValue> in) {
  absl::ConsumeSuffix(&op, "_");
  const auto product = [&](size_t a, size_t b) {  // [..., m, k] x [..., k, n]
    return 2 * in[a].toTensor().numel() * in[b].toTensor().size(-1);
  };
  if (op == "mm" || op == "bmm") return product(0, 1);
  if (op == "addmm" || op == "baddbmm") return product(1, 2);
  const auto attention = [&](size_t q, size_t k) {  // scores, then their product with the values
    const at::Tensor& query = in[q].toTensor();
    return 4 * query.numel() * in[k].toTensor().size(-2);
  };
  if (op == "_scaled_dot_product_flash_attention_for_cpu") return attention(0, 1);
  if (op == "_scaled_dot_product_flash_attention_for_cpu_backward") return 2 * attention(1, 2);
  return 0;
}

// A change of element type, copy_(to, from): one pass over memory and nothing else. It counts by its bytes, not as an
// operator, whose fixed cost is that of attention, norms and products.
bool Converts(absl::string_view op, c10::ArrayRef<const c10::IValue> in) {
  return op == "copy_" && in.size() > 1 && in[0].isTensor() && in[1].isTensor() &&
         in[0].toTensor().scalar_type() != in[1].toTensor().scalar_type();
}

struct Counted : at::ObserverContext {};

}  // namespace

struct OpCounterHooks {
  static std::unique_ptr<at::ObserverContext> Start(const at::RecordFunction& fn) {
    absl::string_view op = fn.name();
    if (counter == nullptr || !absl::ConsumePrefix(&op, "aten::") || IsTransparent(op)) {
      return nullptr;
    }
    if (counter->depth_++ == 0 && Converts(op, fn.inputs())) {
      counter->bytes_ += static_cast<int64_t>(fn.inputs()[1].toTensor().nbytes());
    } else if (counter->depth_ == 1) {
      ++counter->operators_;
      counter->flops_ += Flops(op, fn.inputs());
      counter->bytes_ += TensorBytes(fn.inputs());
    }
    return std::make_unique<Counted>();
  }
  static void End(const at::RecordFunction& fn, at::ObserverContext* context) {
    if (context == nullptr || counter == nullptr) return;
    if (--counter->depth_ == 0) counter->bytes_ += TensorBytes(fn.outputs());
  }
};

OpCounter::OpCounter() : outer_(counter) {
  handle_ = at::addThreadLocalCallback(
      at::RecordFunctionCallback(&OpCounterHooks::Start, &OpCounterHooks::End)
          .needsInputs(true)
          .needsOutputs(true)
          .scopes({at::RecordScope::FUNCTION}));
  counter = this;
}

OpCounter::~OpCounter() {
  counter = outer_;
  at::removeCallback(handle_);
}

void ReportWork(int64_t flops, int64_t bytes) {
  if (counter == nullptr || counter->depth_ > 0) return;
  ++counter->operators_;
  counter->flops_ += flops;
  counter->bytes_ += bytes;
}

}  // namespace millrace
