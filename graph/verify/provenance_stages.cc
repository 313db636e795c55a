// Forward, recompute and backward: the right micro-batch, the right saved block, whole and old parameters, gradient
// slices where the bucket's layout has them.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "graph/verify/provenance.h"

namespace millrace {
namespace verify_internal {

void Provenance::Stage(const Node& node, const std::vector<ValueId>& outputs) {
  const int64_t stage = IntAttr(node, "stage", 0);
  const bool is_backward = node.op == "backward";
  Factor factor = {FloatAttr(node, "scale", 1)};
  bool has_upstream = false;
  std::set<int> read;
  for (ValueId v : node.inputs) {
    const NodeId producer = g_.producer(v);
    const Value& value = c_.value(v);
    if (is_backward && loss_scales_.count(v) > 0) factor.loss_scale = v;
    if (value.bucket >= 0 && parameters_.count(v) > 0) {
      read.insert(value.bucket);
      ReadParameter(node, v);
      continue;
    }
    if (Kind(v) == BufferKind::kInput && g_.producer(Uncast(v)) < 0) {
      Say(node, absl::StrCat("reads ", value.name, ", into which no batch was loaded"));
    }
    if (producer < 0) continue;
    const Node& from = c_.node(producer);
    const NodeId source = g_.producer(Uncast(v));  // of what was copied here
    const Node& first = source < 0 ? from : c_.node(source);
    const bool of_batch = first.op == "load_batch" || first.op == "forward" ||
                          first.op == "recompute" || first.op == "backward";
    if (of_batch && Micro(first) != Micro(node)) {
      Say(node, absl::StrCat("works on micro_batch ", Micro(node), " but reads ", value.name,
                             " of micro_batch ", Micro(first)));
    }
    if (is_backward && Kind(v) == BufferKind::kSaved &&
        ((from.op != "forward" && from.op != "recompute") || IntAttr(from, "stage", 0) != stage)) {
      Say(node, absl::StrCat("uses what ", from.name, " saved, not its own forward"));
    }
    if (const auto it = upstream_.find(v); is_backward && it != upstream_.end()) {
      if (factor.loss_scale >= 0) Say(node, "applies the loss scale to a gradient that has one");
      has_upstream = true;
      factor = it->second;
    }
  }
  for (size_t k = 0; k < g_.buckets().size(); ++k) {
    for (const ParamSlot& slot : g_.buckets()[k].slots) {
      if (slot.stage != stage || read.count(static_cast<int>(k)) > 0) continue;
      Say(node, absl::StrCat("does not read ", g_.buckets()[k].name,
                             ", which holds parameters of its stage"));
      break;
    }
  }
  if (is_backward && node.attrs.count("statistic_scale") > 0) {
    statistic_scales_[{static_cast<int>(stage), static_cast<int>(Micro(node))}] =
        FloatAttr(node, "statistic_scale", 1);
  }
  if (node.op == "forward") forwards_[{stage, Micro(node)}] = &node;
  if (node.op == "recompute") CheckRecompute(node, stage);
  if (!is_backward) return;
  const auto forward = forwards_.find({stage, Micro(node)});
  if (forward != forwards_.end() && IntAttr(*forward->second, "evaluate", 0) == 1 &&
      recomputed_.count({stage, Micro(node)}) == 0) {
    Say(node,
        absl::StrCat(forward->second->name, " kept nothing for it, and no node recomputes it"));
  }
  if (!has_upstream && stage < last_stage_) {
    Say(node, "reads no gradient of its outputs although it is not the last stage");
  }
  for (ValueId v : outputs) {
    const Value& value = c_.value(v);
    if (value.bucket >= 0 && Kind(v) == BufferKind::kGradient) {
      Gradient& gradient = gradients_[v];
      gradient.bucket = value.bucket;
      gradient.terms[{static_cast<int>(stage), static_cast<int>(Micro(node))}] = {1, factor};
      CheckSlice(node, value, stage);
    } else {
      upstream_[v] = factor;
    }
  }
}

// It reads, parameters apart, the very values that its forward read, in the same order.
void Provenance::CheckRecompute(const Node& node, int64_t stage) {
  recomputed_.insert({stage, Micro(node)});
  const auto forward = forwards_.find({stage, Micro(node)});
  if (forward == forwards_.end()) {
    Say(node, "recomputes a stage whose forward has not run");
    return;
  }
  const auto boundary = [this](const Node& n) {
    std::vector<ValueId> values;
    for (ValueId v : n.inputs) {
      if (c_.value(v).bucket < 0)
        values.push_back(Uncast(v));  // also where it was copied away and back
    }
    return values;
  };
  if (boundary(node) != boundary(*forward->second)) {
    Say(node, absl::StrCat("does not read what ", forward->second->name, " read"),
        "give it the same inputs");
  }
}

// The slice covers the stage's slots of the bucket and lies where the bucket's layout says.
void Provenance::CheckSlice(const Node& node, const Value& slice, int64_t stage) {
  if (slice.bucket >= static_cast<int>(g_.buckets().size())) return;
  const Bucket& bucket = g_.buckets()[slice.bucket];
  int64_t low = bucket.numel, high = 0;
  for (const ParamSlot& slot : bucket.slots) {
    if (slot.stage != stage) continue;
    low = std::min(low, slot.offset);
    high = std::max(high, slot.offset + slot.numel);
  }
  if (low >= high) {
    Say(node,
        absl::StrCat("writes a gradient of ", bucket.name, ", which has none of its parameters"));
    return;
  }
  const int64_t size = SizeOf(slice.dtype);
  const bool whole_buffer = c_.buffer(slice.buffer).bytes >= bucket.numel * size;
  const int64_t first = whole_buffer ? slice.offset / size : low;
  if (first > low || first + slice.numel() < high) {
    Say(node,
        absl::StrCat(slice.name, " covers elements [", first, ", ", first + slice.numel(), ") of ",
                     bucket.name, ", but the stage's parameters lie in [", low, ", ", high, ")"));
  }
}

void Provenance::ReadParameter(const Node& node, ValueId v) {
  const Value& value = c_.value(v);
  const ParameterVersion& version = parameters_[v];
  if (version.updates > 0 && version.delay == 0) {
    Say(node, absl::StrCat("reads ", value.name, ", which this step has already updated"));
  } else if (const auto [it, first] = version_read_.emplace(value.bucket, version.updates);
             !first && it->second != version.updates) {
    Say(node, absl::StrCat("reads ", value.name, version.updates > 0 ? " after" : " before",
                           " its update, other stages of this step read it ",
                           version.updates > 0 ? "before" : "after"));
  }
  const int64_t want = value.bucket < static_cast<int>(g_.buckets().size())
                           ? g_.buckets()[value.bucket].numel
                           : value.numel();
  const bool sharded = value.sharding == Sharding::kSharded && g_.group_size(value.group) > 1;
  if (sharded || value.numel() != want) {
    Say(node,
        absl::StrCat("reads ", value.name, " with ", value.numel(), " elements, a shard of ",
                     BucketName(value.bucket), " of ", want),
        "gather it first");
  }
}

}  // namespace verify_internal
}  // namespace millrace
