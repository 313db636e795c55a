// relu, relu_grad, scale and cast, for steps written by hand. Shapes of inputs and outputs are equal. (The contracts
// of scale and cast stand in graph/ir/builtin_contracts.cc: the verifier follows gradients through them.)
//
//   node { name: "relu" op: "relu" input: "h" output: "a" }                              # a = max(h, 0)
//   node { name: "relu_grad" op: "relu_grad" input: "da" input: "a" output: "dh" }       # dh = da where a > 0, else 0
//   node { name: "unscale" op: "scale" input: "dw" output: "dw1" attr { name: "factor" f: 0.125 } }
//   node { name: "to_bf16" op: "cast" input: "dw1" output: "dw16" attr { name: "to" s: "bf16" } }
#include <algorithm>
#include <cstdint>

#include "dist/kernels.h"
#include "graph/base/status.h"
#include "graph/ir/op_contract.h"
#include "ops/kernel_registry.h"

namespace millrace {
namespace {

absl::Status SameShape(InferContext& c) {
  for (const Value* v : c.inputs) {
    if (v->shape != c.inputs[0]->shape || v->dtype != DType::kF32) {
      return absl::InvalidArgumentError(absl::StrCat(
          "'", v->name, "' must be f32 and have the shape of '", c.inputs[0]->name, "'"));
    }
  }
  Value out;
  out.shape = c.inputs[0]->shape;
  out.sharding = c.inputs[0]->sharding;
  out.group = c.inputs[0]->group;
  c.outputs = {out};
  return absl::OkStatus();
}

OpCost ElementwiseCost(const Graph& graph, const Node& node) {
  const int64_t n = graph.values()[node.inputs[0]].numel();
  return {n, n * 4 * static_cast<int64_t>(node.inputs.size() + 1)};
}

REGISTER_OP_CONTRACT(
    relu,
    OpContract("relu", "y = max(x, 0)").In("x").Out("y").Infer(SameShape).Cost(ElementwiseCost));
REGISTER_OP_CONTRACT(relu_grad, OpContract("relu_grad", "dx = dy where y > 0, else 0")
                                    .In("dy")
                                    .In("y", "relu's output")
                                    .Out("dx")
                                    .Infer(SameShape)
                                    .Cost(ElementwiseCost));

class Relu final : public Kernel {
 public:
  explicit Relu(const KernelArgs& a)
      : x_(a.In<float>(0)), y_(a.Out<float>(0)), n_(a.input(0).numel()) {}
  bool capturable() const override { return true; }
  absl::Status Run(const StepContext&) override {
    for (int64_t i = 0; i < n_; ++i) y_[i] = x_[i] > 0 ? x_[i] : 0.0f;
    return absl::OkStatus();
  }

 private:
  const float* const x_;
  float* const y_;
  const int64_t n_;
};

class ReluGrad final : public Kernel {
 public:
  explicit ReluGrad(const KernelArgs& a)
      : dy_(a.In<float>(0)), y_(a.In<float>(1)), dx_(a.Out<float>(0)), n_(a.input(0).numel()) {}
  bool capturable() const override { return true; }
  absl::Status Run(const StepContext&) override {
    for (int64_t i = 0; i < n_; ++i) dx_[i] = y_[i] > 0 ? dy_[i] : 0.0f;
    return absl::OkStatus();
  }

 private:
  const float *const dy_, *const y_;
  float* const dx_;
  const int64_t n_;
};

class Scale final : public Kernel {
 public:
  explicit Scale(const KernelArgs& a)
      : x_(a.In<float>(0)),
        y_(a.Out<float>(0)),
        n_(a.input(0).numel()),
        factor_(static_cast<float>(FloatAttr(a.node(), "factor", 1))) {}
  bool capturable() const override { return true; }
  absl::Status Run(const StepContext&) override {
    for (int64_t i = 0; i < n_; ++i) y_[i] = factor_ * x_[i];
    return absl::OkStatus();
  }

 private:
  const float* const x_;
  float* const y_;
  const int64_t n_;
  const float factor_;
};

class Cast final : public Kernel {
 public:
  explicit Cast(const KernelArgs& a)
      : x_(a.In<char>(0)),
        y_(a.Out<char>(0)),
        n_(a.input(0).numel()),
        from_(a.input(0).dtype),
        to_(a.output(0).dtype) {}
  bool capturable() const override { return true; }
  absl::Status Run(const StepContext&) override {
    float block[kBlock];
    for (int64_t i = 0; i < n_; i += kBlock) {
      const int64_t n = std::min(kBlock, n_ - i);
      const float* wide = from_ == DType::kF32 ? reinterpret_cast<const float*>(x_) + i : block;
      float* out = to_ == DType::kF32 ? reinterpret_cast<float*>(y_) + i : block;
      if (from_ == DType::kF32 && to_ == DType::kF32) {
        std::copy(wide, wide + n, out);
      } else if (from_ == DType::kF32) {
        Narrow(to_, wide, reinterpret_cast<uint16_t*>(y_) + i, n);
      } else {
        Widen(from_, reinterpret_cast<const uint16_t*>(x_) + i, out, n);
        if (to_ != DType::kF32) Narrow(to_, out, reinterpret_cast<uint16_t*>(y_) + i, n);
      }
    }
    return absl::OkStatus();
  }

 private:
  static constexpr int64_t kBlock = 1024;
  const char* const x_;
  char* const y_;
  const int64_t n_;
  const DType from_, to_;
};

REGISTER_KERNEL(scale, [](const KernelArgs& a) -> absl::StatusOr<std::unique_ptr<Kernel>> {
  return std::make_unique<Scale>(a);
});
REGISTER_KERNEL(cast, [](const KernelArgs& a) -> absl::StatusOr<std::unique_ptr<Kernel>> {
  return std::make_unique<Cast>(a);
});
REGISTER_KERNEL(relu, [](const KernelArgs& a) -> absl::StatusOr<std::unique_ptr<Kernel>> {
  return std::make_unique<Relu>(a);
});
REGISTER_KERNEL(relu_grad, [](const KernelArgs& a) -> absl::StatusOr<std::unique_ptr<Kernel>> {
  return std::make_unique<ReluGrad>(a);
});

}  // namespace
}  // namespace millrace
