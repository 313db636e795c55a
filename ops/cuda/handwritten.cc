// linear, linear_grad, softmax_cross_entropy, relu, relu_grad and scale on the device, for steps written by hand: LibTorch's
// operators on tensors over the arenas. They may allocate (softmax_cross_entropy does), from the spill arena; what they
// compute is that of ops/linear.cc, ops/softmax_cross_entropy.cc and ops/elementwise.cc within rounding, but for labels
// that are no class: the device does not say so by an error of the node, it is lost (an assertion of LibTorch's).
#include <ATen/ops/_log_softmax.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/full.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/nll_loss.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/threshold_backward.h>
#include <c10/core/GradMode.h>

#include <functional>
#include <memory>
#include <utility>

#include "graph/base/status.h"
#include "models/allocator.h"
#include "models/cuda/torch_cuda.h"
#include "ops/cuda/cuda_device.h"
#include "ops/kernel_registry.h"
#include "ops/torch_bridge.h"

namespace millrace {
namespace {

// Runs `body`'s operators in the node's stream.
class TorchKernel final : public Kernel {
 public:
  TorchKernel(CudaDevice* device, std::function<void()> body)
      : device_(*device), body_(std::move(body)) {}
  absl::Status Issue(const StepContext&, const DeviceStream& stream) override {
    RETURN_IF_ERROR(ShimStatus(device_.torch()->set_stream(device_.ordinal(), stream.native()),
                               "setting LibTorch's stream"));
    ReplayMemory memory;
    memory.device = c10::kCUDA;
    memory.spill = device_.spill();
    return CatchTorch([&] {
      const c10::AutoGradMode no_grad(false);
      const ReplayScope replay(nothing_, memory);
      body_();
    });
  }
  bool capturable() const override { return true; }

 private:
  CudaDevice& device_;
  const std::function<void()> body_;
  const AllocationPlan nothing_;
};

using Made = absl::StatusOr<std::unique_ptr<Kernel>>;

// The tensors of a node.
struct On {
  explicit On(const KernelArgs& args)
      : a(args),
        device(static_cast<CudaDevice*>(args.rank.device)),
        where(at::kCUDA, static_cast<at::DeviceIndex>(device->ordinal())) {}
  at::Tensor In(int i) const { return AsTensor(a.In<void>(i), a.input(i), where); }
  at::Tensor Out(int i) const { return AsTensor(a.Out<void>(i), a.output(i), where); }
  at::Tensor InRows(int i) const { return In(i).reshape({a.input(i).shape[0], -1}); }
  Made Kernel(std::function<void()> body) const {
    if (device->torch() == nullptr) {
      return absl::FailedPreconditionError("LibTorch's CUDA libraries are not loaded");
    }
    return std::make_unique<TorchKernel>(device, std::move(body));
  }

  const KernelArgs& a;
  CudaDevice* const device;
  const at::Device where;
};

Made Linear(const KernelArgs& args) {
  const On on(args);
  at::Tensor x = on.InRows(0), w = on.In(1).t(), y = on.Out(0);
  at::Tensor b = args.inputs() > 2 ? on.In(2) : at::Tensor();
  return on.Kernel(
      [=]() mutable { b.defined() ? at::addmm_out(y, b, x, w) : at::mm_out(y, x, w); });
}

Made LinearGrad(const KernelArgs& args) {
  const On on(args);
  at::Tensor dy = on.InRows(0), x = on.InRows(1), w = on.In(2), dw = on.Out(0), db = on.Out(1);
  at::Tensor dx = args.outputs() > 2 ? on.Out(2).reshape({x.size(0), x.size(1)}) : at::Tensor();
  return on.Kernel([=]() mutable {
    at::mm_out(dw, dy.t(), x);
    at::sum_out(db, dy, at::IntArrayRef{0});
    if (dx.defined()) at::mm_out(dx, dy, w);
  });
}

Made SoftmaxCrossEntropy(const KernelArgs& args) {
  const On on(args);
  at::Tensor logits = on.In(0), labels = on.In(1), loss = on.Out(0), dlogits = on.Out(1);
  const double ranks = args.plan.graph.group_size("data");
  return on.Kernel([=]() mutable {
    const at::Tensor log_p = at::_log_softmax(logits, 1, /*half_to_float=*/false);
    loss.copy_(at::nll_loss(log_p, labels).reshape(loss.sizes()));
    // The mean's gradient: (softmax - one at the label) / (rows * ranks).
    at::Tensor grad = log_p.exp();
    grad.scatter_add_(1, labels.reshape({-1, 1}),
                      at::full({logits.size(0), 1}, -1.0, logits.options()));
    at::mul_out(dlogits, grad, at::Scalar(1.0 / (static_cast<double>(logits.size(0)) * ranks)));
  });
}

Made Relu(const KernelArgs& args) {
  const On on(args);
  at::Tensor x = on.In(0), y = on.Out(0);
  return on.Kernel([=]() mutable { at::relu_out(y, x); });
}

Made ReluGrad(const KernelArgs& args) {
  const On on(args);
  at::Tensor dy = on.In(0), y = on.In(1), dx = on.Out(0);
  return on.Kernel([=]() mutable { at::threshold_backward_out(dx, dy, y, 0); });
}

Made Scale(const KernelArgs& args) {
  const On on(args);
  at::Tensor x = on.In(0), y = on.Out(0);
  const auto factor = static_cast<float>(FloatAttr(args.node(), "factor", 1));
  return on.Kernel([=]() mutable { at::mul_out(y, x, at::Scalar(factor)); });
}

REGISTER_DEVICE_KERNEL(cuda, linear, Linear);
REGISTER_DEVICE_KERNEL(cuda, linear_grad, LinearGrad);
REGISTER_DEVICE_KERNEL(cuda, softmax_cross_entropy, SoftmaxCrossEntropy);
REGISTER_DEVICE_KERNEL(cuda, relu, Relu);
REGISTER_DEVICE_KERNEL(cuda, relu_grad, ReluGrad);
REGISTER_DEVICE_KERNEL(cuda, scale, Scale);

}  // namespace
}  // namespace millrace
