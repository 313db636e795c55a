#include "graph/ir/loss_scale_attrs.h"

namespace millrace {
namespace {

bool BoolAttr(const Node& node, const std::string& name, bool fallback) {
  const auto it = node.attrs.find(name);
  const bool* set = it == node.attrs.end() ? nullptr : std::get_if<bool>(&it->second);
  return set == nullptr ? fallback : *set;
}

}  // namespace

Attrs LossScaleAttrs(const LossScaleOptions& o) {
  return {{"dynamic", o.dynamic},     {"initial", o.initial},
          {"window", o.window},       {"hysteresis", o.hysteresis},
          {"min_scale", o.min_scale}, {"consecutive_hysteresis", o.consecutive_hysteresis},
          {"max_skips", o.max_skips}};
}

LossScaleOptions LossScaleOptionsOf(const Node& node) {
  const LossScaleOptions standard;
  LossScaleOptions o;
  o.dynamic = BoolAttr(node, "dynamic", standard.dynamic);
  o.initial = FloatAttr(node, "initial", standard.initial);
  o.window = IntAttr(node, "window", standard.window);
  o.hysteresis = IntAttr(node, "hysteresis", standard.hysteresis);
  o.min_scale = FloatAttr(node, "min_scale", standard.min_scale);
  o.consecutive_hysteresis =
      BoolAttr(node, "consecutive_hysteresis", standard.consecutive_hysteresis);
  o.max_skips = IntAttr(node, "max_skips", standard.max_skips);
  return o;
}

}  // namespace millrace
