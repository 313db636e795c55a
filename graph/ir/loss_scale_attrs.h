// The settings of a loss scale as the attributes of its node, `update_loss_scale`.
//
//   node.attrs = LossScaleAttrs(options);
//   LossScaleOptions same = LossScaleOptionsOf(node);
#ifndef MILLRACE_GRAPH_IR_LOSS_SCALE_ATTRS_H_
#define MILLRACE_GRAPH_IR_LOSS_SCALE_ATTRS_H_

#include "graph/base/loss_scale.h"
#include "graph/ir/graph.h"

namespace millrace {

Attrs LossScaleAttrs(const LossScaleOptions& options);
LossScaleOptions LossScaleOptionsOf(const Node& node);  // defaults where attributes are left out

}  // namespace millrace

#endif  // MILLRACE_GRAPH_IR_LOSS_SCALE_ATTRS_H_
