// Which of two versions of a layer runs.
//
// On the CPU, layers have kernels of their own: tuned, with memory that a plan sees to the byte. For tensors on any
// other device there is a generic version, composed of LibTorch's operators and differentiated by autograd. It is the
// same mathematics, and the CPU can run it too, which is how it is tested:
//
//   ForceGeneric generic;                       // this thread's layers, until the end of the block
//   StepResult r = *step->RunPlain();           // as on CUDA, but for the rounding of its kernels
//
// On the meta device a layer is probed for the CPU, or under ForceGeneric for CUDA. The scope must be the same in a
// layer's backward as in its forward.
#ifndef MILLRACE_MODELS_GENERIC_H_
#define MILLRACE_MODELS_GENERIC_H_

#include <ATen/core/Tensor.h>

namespace millrace {

class ForceGeneric {
 public:
  explicit ForceGeneric(bool force = true) : outer_(forced_) { forced_ = outer_ || force; }
  ~ForceGeneric() { forced_ = outer_; }
  ForceGeneric(const ForceGeneric&) = delete;
  ForceGeneric& operator=(const ForceGeneric&) = delete;

  static bool forced() { return forced_; }

 private:
  inline static thread_local bool forced_ = false;
  const bool outer_;
};

// Whether a layer of this input runs the CPU's own kernels (or probes for them).
inline bool OnHost(const at::Tensor& t) {
  return !ForceGeneric::forced() && (t.is_cpu() || t.is_meta());
}

}  // namespace millrace

#endif  // MILLRACE_MODELS_GENERIC_H_
