// Damage to what a plan's nodes compute: collectives, gradients, parameters. The plan around them gets the
// edges that a planner would have given the damaged graph, so that the damage is in the meaning alone.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "graph/verify/mutation_tools.h"
#include "graph/verify/oracle.h"

namespace millrace {
namespace mutation_internal {
namespace {

const Node& NodeAt(const Plan& plan, NodeId n) { return plan.graph.nodes()[n]; }
const Value& ValueAt(const Plan& plan, ValueId v) { return plan.graph.values()[v]; }
BufferKind KindOf(const Plan& plan, ValueId v) {
  return plan.graph.buffers()[ValueAt(plan, v).buffer].kind;
}

// The update, or its half that has the inputs.
bool IsUpdate(const Node& n) {
  return n.async != AsyncRole::kDone && (n.op == "adamw" || n.op == "adam" || n.op == "sgd");
}
// The same of a copy between tiers.
bool IsCopy(const Node& n) { return n.async != AsyncRole::kDone && n.op == "copy"; }
bool IsStage(const Node& n) { return n.op == "forward" || n.op == "backward"; }

// What lies in the bytes of `updated` when the step begins; -1: no value has just these bytes.
ValueId FoundIn(const Plan& plan, ValueId updated) {
  const Value& want = ValueAt(plan, updated);
  for (size_t i = 0; i < plan.graph.values().size(); ++i) {
    const auto v = static_cast<ValueId>(i);
    const Value& value = ValueAt(plan, v);
    if (plan.graph.producer(v) < 0 && value.buffer == want.buffer && value.offset == want.offset &&
        value.own_shard == want.own_shard && value.bytes() == want.bytes()) {
      return v;
    }
  }
  return -1;
}

// First halves (or wholes) of collectives among more than one rank.
std::vector<NodeId> Collectives(const Plan& plan) {
  if (plan.world_size < 2) return {};
  return NodesWhere(plan.graph,
                    [](const Node& n) { return n.is_collective && n.async != AsyncRole::kDone; });
}

// Changes the description of a collective in both halves.
std::string EditCollective(Plan* plan, Dice* dice, const std::string& what,
                           const std::function<void(GraphBuilder*, CollectiveSpec*)>& edit) {
  const std::vector<NodeId> all = Collectives(*plan);
  if (all.empty()) return "";
  const NodeId n = dice->Of(all), end = EndOf(plan->graph, n);
  const bool done = EditGraph(plan, [&](GraphBuilder* b) {
    edit(b, &b->node(n).collective);
    if (end != n) edit(b, &b->node(end).collective);
  });
  return done ? absl::StrCat(what, " of ", NodeAt(*plan, n).name, " changed") : "";
}

// Which of the two is which says nothing that a plan could prove: numbers that are only added up, and two tensors of one
// batch.
bool SameMeaning(const Plan& plan, ValueId a, ValueId b) {
  if (KindOf(plan, a) == BufferKind::kMetric) return true;
  return KindOf(plan, a) == BufferKind::kInput && plan.graph.producer(a) == plan.graph.producer(b);
}

// Nodes that put gradients together, in random order.
std::vector<NodeId> Sums(const Plan& plan, Dice* dice) {
  std::vector<NodeId> sums = NodesWhere(plan.graph, [](const Node& n) {
    return n.async != AsyncRole::kDone && (n.op == "accumulate" || n.op == "join" ||
                                           n.op == "all_reduce" || n.op == "reduce_scatter");
  });
  for (size_t i = sums.size(); i > 1; --i)
    std::swap(sums[i - 1], sums[dice->Below(static_cast<int>(i))]);
  return sums;
}

}  // namespace

std::string ChangeCount(Plan* plan, Dice* dice) {
  const int64_t more = 1 + dice->Below(64);
  return EditCollective(plan, dice, "count",
                        [&](GraphBuilder*, CollectiveSpec* spec) { spec->count += more; });
}

std::string ChangeDType(Plan* plan, Dice* dice) {
  return EditCollective(plan, dice, "dtype", [&](GraphBuilder*, CollectiveSpec* spec) {
    spec->dtype = spec->dtype == DType::kF32 ? DType::kI32 : DType::kF32;
  });
}

std::string ChangeGroup(Plan* plan, Dice* dice) {
  const bool unknown = dice->Below(2) == 0;
  return EditCollective(plan, dice, "group", [&](GraphBuilder* b, CollectiveSpec* spec) {
    spec->group = unknown ? "tensor" : "alone";
    if (!unknown) b->SetGroup("alone", 1);
  });
}

std::string SwapPartners(Plan* plan, Dice* dice) {
  const std::vector<NodeId> starts =
      NodesWhere(plan->graph, [](const Node& n) { return n.async == AsyncRole::kStart; });
  for (int i = 0; i < 40 && starts.size() > 1; ++i) {
    const NodeId a = dice->Of(starts), b = dice->Of(starts);
    const NodeId c = NodeAt(*plan, a).partner, d = NodeAt(*plan, b).partner;
    if (a == b || NodeAt(*plan, a).op != NodeAt(*plan, b).op) continue;
    const bool done = EditGraph(plan, [&](GraphBuilder* g) {
      g->node(a).partner = d;
      g->node(d).partner = a;
      g->node(b).partner = c;
      g->node(c).partner = b;
    });
    if (!done) continue;
    for (RankPlan& rp : plan->rank_plans) {
      rp.edges.push_back({a, d, EdgeKind::kAsync});
      rp.edges.push_back({b, c, EdgeKind::kAsync});
    }
    return absl::StrCat(NodeAt(*plan, a).name, " and ", NodeAt(*plan, b).name, " swap their dones");
  }
  return "";
}

std::string DropGradient(Plan* plan, Dice* dice) {
  for (NodeId n : Sums(*plan, dice)) {
    const Node& node = NodeAt(*plan, n);
    if (node.inputs.size() < 2) continue;
    const bool accumulate = node.op == "accumulate";
    const int drop = accumulate ? 1 : dice->Below(static_cast<int>(node.inputs.size()));
    const std::string name = ValueAt(*plan, node.inputs[drop]).name;
    const bool done = EditGraph(plan, [&](GraphBuilder* b) {
      b->node(n).inputs.erase(b->node(n).inputs.begin() + drop);
      if (accumulate) b->node(n).op = "join";
    });
    if (done) return absl::StrCat(NodeAt(*plan, n).name, " leaves out ", name);
  }
  return "";
}

std::string CountGradientTwice(Plan* plan, Dice* dice) {
  for (NodeId n : Sums(*plan, dice)) {
    const Node& node = NodeAt(*plan, n);
    const ValueId twice = node.inputs[0];
    if (node.op == "accumulate") return Rewire(plan, n, 1, twice);
    const bool replace = node.inputs.size() > 1 && dice->Below(2) == 0;
    if (replace) return Rewire(plan, n, 1, twice);
    if (EditGraph(plan, [&](GraphBuilder* b) { b->node(n).inputs.push_back(twice); })) {
      return absl::StrCat(NodeAt(*plan, n).name, " reads ", ValueAt(*plan, twice).name, " twice");
    }
  }
  return "";
}

std::string ChangeScale(Plan* plan, Dice* dice) {
  const char* const attr = dice->Below(2) == 0 ? "scale" : "statistic_scale";
  const std::vector<NodeId> scaled = NodesWhere(
      plan->graph, [&](const Node& n) { return n.op == "backward" && n.attrs.count(attr) > 0; });
  if (scaled.empty()) return "";
  const NodeId n = dice->Of(scaled);
  const double factor = dice->Below(2) == 0 ? 2.0 : 0.25;
  EditGraph(plan, [&](GraphBuilder* b) {
    b->node(n).attrs[attr] = FloatAttr(b->node(n), attr, 1) * factor;
  });
  return absl::StrCat(NodeAt(*plan, n).name, ": ", attr, " is ", factor, " times what it was");
}

std::string UpdateBeforeReduce(Plan* plan, Dice* dice) {
  if (plan->world_size < 2) return "";
  const std::vector<NodeId> updates = NodesWhere(plan->graph, IsUpdate);
  if (updates.empty()) return "";
  const NodeId n = dice->Of(updates);
  std::vector<ValueId> partial;
  for (size_t v = 0; v < plan->graph.values().size(); ++v) {
    const Value& value = plan->graph.values()[v];
    if (value.sharding == Sharding::kPartial &&
        KindOf(*plan, static_cast<ValueId>(v)) == BufferKind::kGradient &&
        value.bucket == IntAttr(NodeAt(*plan, n), "bucket", -1)) {
      partial.push_back(static_cast<ValueId>(v));
    }
  }
  if (!partial.empty()) return Rewire(plan, n, 1, dice->Of(partial));
  // A step without buckets: what goes into the reduction instead of what comes out.
  const ValueId reduced = NodeAt(*plan, n).inputs[1];
  const NodeId from = plan->graph.producer(reduced);
  if (from < 0 || !NodeAt(*plan, from).is_collective) return "";
  const ValueId own = NodeAt(*plan, BeginOf(plan->graph, from)).inputs[0];
  return ValueAt(*plan, own).numel() == ValueAt(*plan, reduced).numel() ? Rewire(plan, n, 1, own)
                                                                        : "";
}

std::string UseGradientOfStepBefore(Plan* plan, Dice* dice) {
  std::vector<NodeId> updates;
  for (NodeId n : NodesWhere(plan->graph, IsUpdate)) {
    const ValueId gradient = NodeAt(*plan, n).inputs[1];
    // One without a producer is of the step before already: a delayed update.
    if (plan->graph.buffers()[ValueAt(*plan, gradient).buffer].persistent &&
        plan->graph.producer(gradient) >= 0) {
      updates.push_back(n);
    }
  }
  if (updates.empty()) return "";
  const NodeId n = dice->Of(updates);
  const bool done = EditGraph(plan, [&](GraphBuilder* b) {
    Value old = b->value(b->node(n).inputs[1]);
    old.name += "/of_step_before";
    b->node(n).inputs[1] = b->AddValue(std::move(old));
  });
  return done ? absl::StrCat(NodeAt(*plan, n).name, " uses the gradient of the step before") : "";
}

std::string DeclareDelay(Plan* plan, Dice* dice) {
  const std::vector<NodeId> updates = NodesWhere(plan->graph, IsUpdate);
  if (updates.empty()) return "";
  const NodeId n = dice->Of(updates);
  const int64_t delay = IntAttr(NodeAt(*plan, n), "delay", 0) + 1 + dice->Below(3);
  EditGraph(plan, [&](GraphBuilder* b) { b->node(n).attrs["delay"] = delay; });
  return absl::StrCat(NodeAt(*plan, n).name, " declares a delay of ", delay);
}

std::string UpdateTwice(Plan* plan, Dice* dice) {
  const std::vector<NodeId> updates = NodesWhere(plan->graph, IsUpdate);
  if (updates.empty()) return "";
  const NodeId old = dice->Of(updates), end = EndOf(plan->graph, old);
  NodeId again = -1;
  const bool done = EditGraph(plan, [&](GraphBuilder* b) {
    Node node = b->node(old);
    node.name += "/again";
    node.control.clear();
    node.async = AsyncRole::kNone;
    node.partner = -1;
    node.outputs = b->node(end).outputs;
    // The new versions stand in for the old ones; the k-th state follows the gradient. A 16-bit copy is not read.
    for (size_t k = 0; k < node.outputs.size(); ++k) {
      const ValueId updated = b->node(end).outputs[k];
      const size_t port = k == 0 ? 0 : k + 1;
      if (port < node.inputs.size() &&
          b->value(node.inputs[port]).buffer == b->value(updated).buffer) {
        node.inputs[port] = updated;
      }
      Value value = b->value(updated);
      value.name += "'";
      node.outputs[k] = b->AddValue(value);
    }
    again = b->AddNode(std::move(node));
  });
  if (!done) return "";
  for (RankPlan& rp : plan->rank_plans) {
    for (Lane& lane : rp.lanes) {
      if (!lane.order.empty()) rp.edges.push_back({lane.order.back(), again, EdgeKind::kHazard});
    }
    rp.edges.push_back({rp.lanes[0].order.back(), again, EdgeKind::kLane});
    rp.lanes[0].order.push_back(again);
    if (!rp.seconds.empty()) rp.seconds.push_back(0);
    if (!rp.start_time.empty()) rp.start_time.push_back(0);
    if (!rp.reason.empty()) rp.reason.push_back("");
  }
  return absl::StrCat(NodeAt(*plan, again).name, " updates a second time");
}

std::string ReadShard(Plan* plan, Dice* dice) {
  std::vector<std::pair<NodeId, size_t>> places;
  for (NodeId n : NodesWhere(plan->graph, IsStage)) {
    for (size_t i = 0; i < NodeAt(*plan, n).inputs.size(); ++i) {
      if (KindOf(*plan, NodeAt(*plan, n).inputs[i]) == BufferKind::kGathered)
        places.push_back({n, i});
    }
  }
  if (places.empty()) return "";
  const auto [n, input] = dice->Of(places);
  const int32_t bucket = ValueAt(*plan, NodeAt(*plan, n).inputs[input]).bucket;
  for (size_t v = 0; v < plan->graph.values().size(); ++v) {
    const auto id = static_cast<ValueId>(v);
    if (plan->graph.producer(id) < 0 && ValueAt(*plan, id).bucket == bucket &&
        KindOf(*plan, id) == BufferKind::kParameter) {
      return Rewire(plan, n, input, id);
    }
  }
  return "";
}

std::string GatherStale(Plan* plan, Dice* dice) {
  std::vector<std::pair<NodeId, ValueId>> gathers;  // and the parameter before its update
  for (NodeId n : Collectives(*plan)) {
    if (NodeAt(*plan, n).op != "all_gather") continue;
    const NodeId update = plan->graph.producer(NodeAt(*plan, n).inputs[0]);
    if (update >= 0 && IsUpdate(NodeAt(*plan, BeginOf(plan->graph, update)))) {
      const ValueId stale = FoundIn(*plan, NodeAt(*plan, n).inputs[0]);
      if (stale >= 0) gathers.push_back({n, stale});
    }
  }
  if (gathers.empty()) return "";
  const auto [n, stale] = dice->Of(gathers);
  return Rewire(plan, n, 0, stale);
}

std::string ShiftSlice(Plan* plan, Dice* dice) {
  std::vector<ValueId> slices;
  for (NodeId n : NodesWhere(plan->graph, [](const Node& b) { return b.op == "backward"; })) {
    for (ValueId v : NodeAt(*plan, n).outputs) {
      if (ValueAt(*plan, v).bucket >= 0 && KindOf(*plan, v) == BufferKind::kGradient)
        slices.push_back(v);
    }
  }
  for (int i = 0; i < 20 && !slices.empty(); ++i) {
    const ValueId v = dice->Of(slices);
    const int64_t by = dice->Below(2) == 0 ? 64 : -64;
    if (EditGraph(plan, [&](GraphBuilder* b) { b->value(v).offset += by; })) {
      return absl::StrCat(ValueAt(*plan, v).name, " shifted by ", by, " bytes");
    }
  }
  return "";
}

std::string Unclip(Plan* plan, Dice* dice) {
  std::vector<NodeId> clipped = NodesWhere(plan->graph, [&](const Node& n) {
    if (!IsUpdate(n)) return false;
    NodeId from = plan->graph.producer(n.inputs.back());
    if (from >= 0 && NodeAt(*plan, from).op == "copy") {
      from = plan->graph.producer(NodeAt(*plan, BeginOf(plan->graph, from)).inputs[0]);
    }
    return from >= 0 && NodeAt(*plan, from).op == "clip_coefficient";
  });
  if (clipped.empty()) return "";
  const NodeId n = dice->Of(clipped);
  if (!EditGraph(plan, [&](GraphBuilder* b) { b->node(n).inputs.pop_back(); })) return "";
  return absl::StrCat(NodeAt(*plan, n).name, " is not clipped");
}

std::string KeepLossScale(Plan* plan, Dice* dice) {
  const std::vector<NodeId> clips = NodesWhere(
      plan->graph, [](const Node& n) { return n.op == "clip_coefficient" && n.inputs.size() > 1; });
  if (clips.empty()) return "";
  const NodeId n = dice->Of(clips);
  if (!EditGraph(plan, [&](GraphBuilder* b) { b->node(n).inputs.pop_back(); })) return "";
  return absl::StrCat(NodeAt(*plan, n).name, " does not read the loss scale");
}

std::string UnscaleOnceMore(Plan* plan, Dice* dice) {
  std::vector<std::pair<NodeId, size_t>> places;
  for (NodeId n : NodesWhere(plan->graph, [](const Node& b) { return b.op == "backward"; })) {
    for (size_t i = 0; i < NodeAt(*plan, n).inputs.size(); ++i) {
      const ValueId v = NodeAt(*plan, n).inputs[i];
      if (KindOf(*plan, v) == BufferKind::kOptimizerState) places.push_back({n, i});
    }
  }
  if (places.empty()) return "";
  const auto [n, input] = dice->Of(places);
  const auto at = static_cast<std::ptrdiff_t>(input);
  const bool done = EditGraph(plan, [&, node = n](GraphBuilder* b) {
    b->node(node).inputs.erase(b->node(node).inputs.begin() + at);
  });
  return done ? absl::StrCat(NodeAt(*plan, n).name, " does not read the loss scale") : "";
}

std::string DropCopy(Plan* plan, Dice* dice) {
  const std::vector<NodeId> copies = NodesWhere(plan->graph, IsCopy);
  for (int t = 0; t < 20 && !copies.empty(); ++t) {
    const NodeId n = dice->Of(copies), end = EndOf(plan->graph, n);
    const std::vector<ValueId> inputs = NodeAt(*plan, n).inputs;
    const int i = dice->Below(static_cast<int>(inputs.size()));
    const std::string name = ValueAt(*plan, inputs[i]).name;
    if (inputs.size() == 1) {  // instead, what was there when the step began
      const ValueId stale = FoundIn(*plan, inputs[0]);
      const std::string what = stale < 0 || stale == inputs[0] ? "" : Rewire(plan, n, 0, stale);
      if (!what.empty()) return what;
      continue;
    }
    const bool done = EditGraph(plan, [&](GraphBuilder* b) {
      b->node(n).inputs.erase(b->node(n).inputs.begin() + i);
      b->node(end).outputs.erase(b->node(end).outputs.begin() + i);
    });
    if (done) return absl::StrCat(NodeAt(*plan, n).name, " does not copy ", name);
  }
  return "";
}

std::string SwapCopies(Plan* plan, Dice* dice) {
  std::vector<std::pair<NodeId, size_t>> places;
  for (NodeId n : NodesWhere(plan->graph, IsCopy)) {
    for (size_t i = 0; i < NodeAt(*plan, n).inputs.size(); ++i) places.push_back({n, i});
  }
  for (int t = 0; t < 40 && places.size() > 1; ++t) {
    const auto [n, i] = dice->Of(places);
    const auto [m, k] = dice->Of(places);
    const ValueId a = NodeAt(*plan, n).inputs[i], b = NodeAt(*plan, m).inputs[k];
    const Value &one = ValueAt(*plan, a), &other = ValueAt(*plan, b);
    const bool alike =
        one.dtype == other.dtype && one.shape == other.shape && one.sharding == other.sharding &&
        one.buffer != other.buffer &&
        plan->graph.buffers()[one.buffer].tier == plan->graph.buffers()[other.buffer].tier;
    if (!alike || SameMeaning(*plan, a, b)) continue;
    const bool done = EditGraph(plan, [&, n = n, i = i, m = m, k = k](GraphBuilder* g) {
      g->node(n).inputs[i] = b;
      g->node(m).inputs[k] = a;
    });
    if (!done) continue;
    AddDataEdges(plan, n);
    AddDataEdges(plan, m);
    return absl::StrCat(NodeAt(*plan, n).name, " copies ", ValueAt(*plan, b).name, " and ",
                        NodeAt(*plan, m).name, " copies ", ValueAt(*plan, a).name);
  }
  return "";
}

std::string UpdateAcrossTiers(Plan* plan, Dice* dice) {
  std::vector<std::pair<NodeId, ValueId>> places;  // and the gradient on the device
  for (NodeId n : NodesWhere(plan->graph, IsUpdate)) {
    const NodeId from = plan->graph.producer(NodeAt(*plan, n).inputs[1]);
    if (from < 0) continue;
    const Node& copy = NodeAt(*plan, BeginOf(plan->graph, from));
    if (copy.op == "copy") places.push_back({n, copy.inputs[0]});
  }
  if (places.empty()) return "";
  const auto [n, gradient] = dice->Of(places);
  return Rewire(plan, n, 1, gradient);
}

std::string DropNorm(Plan* plan, Dice* dice) {
  const std::vector<NodeId> sums = NodesWhere(
      plan->graph, [](const Node& n) { return n.op == "norm_sum" && n.inputs.size() > 1; });
  if (sums.empty()) return "";
  const NodeId n = dice->Of(sums);
  const int i = dice->Below(static_cast<int>(NodeAt(*plan, n).inputs.size()));
  const std::string name = ValueAt(*plan, NodeAt(*plan, n).inputs[i]).name;
  const bool done = EditGraph(
      plan, [&](GraphBuilder* b) { b->node(n).inputs.erase(b->node(n).inputs.begin() + i); });
  return done ? absl::StrCat(NodeAt(*plan, n).name, " leaves out ", name) : "";
}

std::string SwapSaved(Plan* plan, Dice* dice) {
  std::vector<std::pair<NodeId, size_t>> places;
  std::vector<ValueId> saved;
  for (NodeId n : NodesWhere(plan->graph, [](const Node& b) { return b.op == "backward"; })) {
    for (size_t i = 0; i < NodeAt(*plan, n).inputs.size(); ++i) {
      if (KindOf(*plan, NodeAt(*plan, n).inputs[i]) != BufferKind::kSaved) continue;
      places.push_back({n, i});
      saved.push_back(NodeAt(*plan, n).inputs[i]);
    }
  }
  for (int t = 0; t < 20 && !places.empty(); ++t) {
    const auto [n, input] = dice->Of(places);
    const ValueId other = dice->Of(saved);
    if (other == NodeAt(*plan, n).inputs[input]) continue;
    const std::string what = Rewire(plan, n, input, other);
    if (!what.empty()) return what;
  }
  return "";
}

}  // namespace mutation_internal
}  // namespace millrace
