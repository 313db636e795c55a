// linear and linear_grad, for steps written by hand: y = x W^T + b, with x taken as [rows, in] whatever its
// trailing dimensions (a batch of images is flattened).
//
//   node { name: "fc1" op: "linear" input: "images" input: "w1" input: "b1" output: "h1" }
//   node { name: "fc1_grad" op: "linear_grad" input: "dh1" input: "images" input: "w1"
//          output: "dw1" output: "db1" output: "dimages" }              # the last output may be left out
#include <ATen/ops/addmm.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/sum.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "graph/base/status.h"
#include "graph/ir/op_contract.h"
#include "ops/kernel_registry.h"
#include "ops/torch_bridge.h"

namespace millrace {
namespace {

std::string Shape(const Value& v) { return absl::StrCat("[", absl::StrJoin(v.shape, ", "), "]"); }

// What both need of x and W; `rows` of x.
absl::Status CheckProduct(const Value& x, const Value& weight, int64_t* rows) {
  if (weight.shape.size() != 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("weight '", weight.name, "' is ", Shape(weight), ", expected [out, in]"));
  }
  if (x.shape.empty() || x.numel() != x.shape[0] * weight.shape[1]) {
    return absl::InvalidArgumentError(
        absl::StrCat("x '", x.name, "' is ", Shape(x), ", expected ", weight.shape[1],
                     " elements in each row for weight '", weight.name, "' ", Shape(weight)));
  }
  for (const Value* v : {&x, &weight}) {
    if (v->sharding == Sharding::kSharded) {
      return absl::InvalidArgumentError(absl::StrCat("'", v->name, "' is sharded over group '",
                                                     v->group, "': gather it first (all_gather)"));
    }
  }
  *rows = x.shape[0];
  return absl::OkStatus();
}

Value Like(std::vector<int64_t> shape, Sharding sharding, const std::string& group) {
  Value v;
  v.shape = std::move(shape);
  v.sharding = sharding;
  if (sharding != Sharding::kReplicated) v.group = group;
  return v;
}

absl::Status InferLinear(InferContext& c) {
  int64_t rows = 0;
  RETURN_IF_ERROR(CheckProduct(*c.inputs[0], *c.inputs[1], &rows));
  if (c.inputs.size() > 2 && c.inputs[2]->shape != std::vector<int64_t>{c.inputs[1]->shape[0]}) {
    return absl::InvalidArgumentError(absl::StrCat("bias '", c.inputs[2]->name, "' is ",
                                                   Shape(*c.inputs[2]), ", expected [",
                                                   c.inputs[1]->shape[0], "]"));
  }
  c.outputs = {Like({rows, c.inputs[1]->shape[0]}, c.inputs[0]->sharding, c.inputs[0]->group)};
  return absl::OkStatus();
}

// Gradients of weights are sums over this rank's rows only: partial over the data group.
absl::Status InferLinearGrad(InferContext& c) {
  int64_t rows = 0;
  const Value &dy = *c.inputs[0], &x = *c.inputs[1], &weight = *c.inputs[2];
  RETURN_IF_ERROR(CheckProduct(x, weight, &rows));
  if (dy.shape != std::vector<int64_t>{rows, weight.shape[0]}) {
    return absl::InvalidArgumentError(absl::StrCat(
        "dy '", dy.name, "' is ", Shape(dy), ", expected [", rows, ", ", weight.shape[0], "]"));
  }
  const bool parallel = c.graph->group_size("data") > 1;
  const Sharding sum = parallel ? Sharding::kPartial : Sharding::kReplicated;
  c.outputs = {Like(weight.shape, sum, "data"), Like({weight.shape[0]}, sum, "data")};
  if (c.node->outputs.size() > 2) c.outputs.push_back(Like(x.shape, x.sharding, x.group));
  return absl::OkStatus();
}

OpCost ProductCost(const Graph& graph, const Node& node, int64_t products) {
  OpCost cost;
  for (ValueId v : node.inputs) cost.memory_bytes += graph.values()[v].bytes();
  for (ValueId v : node.outputs) cost.memory_bytes += graph.values()[v].bytes();
  const Value& weight = graph.values()[node.inputs[node.op == "linear" ? 1 : 2]];
  const Value& x = graph.values()[node.inputs[node.op == "linear" ? 0 : 1]];
  cost.flops = products * 2 * x.shape[0] * weight.numel();
  return cost;
}

OpContract LinearContract() {
  OpContract contract("linear", "y = x W^T + b");
  contract.In("x", "[rows, ...] with `in` elements in each row")
      .In("weight", "[out, in]")
      .In("bias", "[out]");
  contract.inputs.back().optional = true;
  contract.Out("y", "[rows, out]").Infer(InferLinear).Cost([](const Graph& g, const Node& n) {
    return ProductCost(g, n, 1);
  });
  return contract;
}

OpContract LinearGradContract() {
  OpContract contract("linear_grad",
                      "gradients of linear; dweight and dbias are this rank's part of the sum");
  contract.In("dy", "[rows, out]").In("x", "as given to linear").In("weight", "[out, in]");
  contract.Out("dweight", "[out, in]").Out("dbias", "[out]").Out("dx", "as x; may be left out");
  contract.outputs.back().optional = true;
  contract.Infer(InferLinearGrad).Cost([](const Graph& g, const Node& n) {
    return ProductCost(g, n, static_cast<int64_t>(n.outputs.size()) - 1);
  });
  return contract;
}

REGISTER_OP_CONTRACT(linear, LinearContract());
REGISTER_OP_CONTRACT(linear_grad, LinearGradContract());

at::Tensor Rows(const KernelArgs& a, int i) {
  const Value& v = a.input(i);
  return AsTensor(a.In<void>(i), v.dtype, {v.shape[0], v.numel() / v.shape[0]});
}

class Linear final : public Kernel {
 public:
  explicit Linear(const KernelArgs& a)
      : x_(Rows(a, 0)),
        w_(AsTensor(a.In<void>(1), a.input(1)).t()),
        y_(AsTensor(a.Out<void>(0), a.output(0))) {
    if (a.inputs() > 2) b_ = AsTensor(a.In<void>(2), a.input(2));
  }
  bool capturable() const override { return true; }
  absl::Status Run(const StepContext&) override {
    return CatchTorch(
        [&] { b_.defined() ? at::addmm_out(y_, b_, x_, w_) : at::mm_out(y_, x_, w_); });
  }

 private:
  at::Tensor x_, w_, b_, y_;
};

class LinearGrad final : public Kernel {
 public:
  explicit LinearGrad(const KernelArgs& a)
      : dy_(Rows(a, 0)),
        x_(Rows(a, 1)),
        w_(AsTensor(a.In<void>(2), a.input(2))),
        dw_(AsTensor(a.Out<void>(0), a.output(0))),
        db_(AsTensor(a.Out<void>(1), a.output(1))) {
    if (a.outputs() > 2)
      dx_ = AsTensor(a.Out<void>(2), a.output(2).dtype, {x_.size(0), x_.size(1)});
  }
  bool capturable() const override { return true; }
  absl::Status Run(const StepContext&) override {
    return CatchTorch([&] {
      at::mm_out(dw_, dy_.t(), x_);
      at::sum_out(db_, dy_, at::IntArrayRef{0});
      if (dx_.defined()) at::mm_out(dx_, dy_, w_);
    });
  }

 private:
  at::Tensor dy_, x_, w_, dw_, db_, dx_;
};

REGISTER_KERNEL(linear, [](const KernelArgs& a) -> absl::StatusOr<std::unique_ptr<Kernel>> {
  return std::make_unique<Linear>(a);
});
REGISTER_KERNEL(linear_grad, [](const KernelArgs& a) -> absl::StatusOr<std::unique_ptr<Kernel>> {
  return std::make_unique<LinearGrad>(a);
});

}  // namespace
}  // namespace millrace
