// Carries what is no tensor from the forward to the backward of a custom autograd function, whose context holds
// LibTorch's own types only.
//
//   ctx->saved_data["plan"] = Hold(plan);                       // std::shared_ptr<const Plan>
//   const Plan& plan = *Held<Plan>(ctx->saved_data["plan"]);
#ifndef MILLRACE_MODELS_RAT_HELD_H_
#define MILLRACE_MODELS_RAT_HELD_H_

#include <ATen/core/ivalue.h>

#include <memory>
#include <utility>

namespace millrace::rat {

template <typename T>
struct Holder : torch::CustomClassHolder {
  explicit Holder(std::shared_ptr<const T> v) : value(std::move(v)) {}
  std::shared_ptr<const T> value;
};

template <typename T>
c10::IValue Hold(std::shared_ptr<const T> value) {
  return c10::IValue::make_capsule(c10::make_intrusive<Holder<T>>(std::move(value)));
}

template <typename T>
std::shared_ptr<const T> Held(const c10::IValue& held) {
  return static_cast<const Holder<T>*>(held.toCapsule().get())->value;
}

}  // namespace millrace::rat

#endif  // MILLRACE_MODELS_RAT_HELD_H_
