#include "ops/optimizer_node.h"

namespace millrace {
namespace {

// `coefficient`: the input that is it; -1: none.
void ReadCommon(const KernelArgs& args, int coefficient, OptimizerNode* node) {
  node->runs = BucketRuns(args, args.input(0));
  node->numel = args.input(0).numel();
  node->p = args.In<float>(0);
  node->g = args.In<char>(1);
  node->grad = args.input(1).dtype;
  node->delay = IntAttr(args.node(), "delay", 0);
  if (coefficient >= 0) {
    node->coefficient = args.In<float>(coefficient);
    node->may_skip = args.input(coefficient).numel() > 2;
  }
  const Value& last = args.output(args.outputs() - 1);
  if (last.dtype == DType::kF32) return;
  node->copy = args.Out<char>(args.outputs() - 1);
  node->copy_type = last.dtype;
}

}  // namespace

AdamNode ReadAdam(const KernelArgs& args, bool decoupled) {
  AdamNode node;
  ReadCommon(args, args.inputs() > 4 ? 4 : -1, &node);
  node.m = args.In<float>(2);
  node.v = args.In<float>(3);
  const OptimizerSettings& o = args.rank.optimizer;
  node.scalars.beta1 = FloatAttr(args.node(), "beta1", o.beta1);
  node.scalars.beta2 = FloatAttr(args.node(), "beta2", o.beta2);
  node.scalars.eps = FloatAttr(args.node(), "eps", o.eps);
  node.scalars.weight_decay = FloatAttr(args.node(), "weight_decay", o.weight_decay);
  node.scalars.decoupled = decoupled;
  return node;
}

SgdNode ReadSgd(const KernelArgs& args) {
  SgdNode node;
  // Inputs after the gradient: the momentum buffer, the clip coefficient; each may be absent. A momentum is written,
  // too, in the parameter's type, which a copy is not.
  const bool momentum = args.outputs() > 1 && args.output(1).dtype == DType::kF32;
  const int port = momentum ? 3 : 2;
  ReadCommon(args, port < args.inputs() ? port : -1, &node);
  if (momentum) node.buffer = args.In<float>(2);
  const OptimizerSettings& o = args.rank.optimizer;
  node.scalars.momentum = FloatAttr(args.node(), "momentum", o.momentum);
  node.scalars.weight_decay = FloatAttr(args.node(), "weight_decay", o.weight_decay);
  node.scalars.nesterov = o.nesterov;
  return node;
}

}  // namespace millrace
