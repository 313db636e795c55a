// Names of the enums, look-ups and the adding half of GraphBuilder; what Build checks is in
// graph_build.cc.
#include "graph/ir/graph.h"

#include <utility>

namespace millrace {

absl::string_view Name(Tier t) {
  switch (t) {
    case Tier::kDevice:
      return "device";
    case Tier::kPinned:
      return "pinned";
    case Tier::kHost:
      return "host";
    case Tier::kStorage:
      return "storage";
  }
  return "?";
}

absl::string_view Name(BufferKind k) {
  switch (k) {
    case BufferKind::kInput:
      return "input";
    case BufferKind::kParameter:
      return "parameter";
    case BufferKind::kGathered:
      return "gathered";
    case BufferKind::kGradient:
      return "gradient";
    case BufferKind::kOptimizerState:
      return "optimizer_state";
    case BufferKind::kActivation:
      return "activation";
    case BufferKind::kSaved:
      return "saved";
    case BufferKind::kWorkspace:
      return "workspace";
    case BufferKind::kMetric:
      return "metric";
  }
  return "?";
}

absl::string_view Name(Sharding s) {
  switch (s) {
    case Sharding::kReplicated:
      return "replicated";
    case Sharding::kSharded:
      return "sharded";
    case Sharding::kPartial:
      return "partial";
  }
  return "?";
}

absl::string_view Name(CollectiveOp op) {
  switch (op) {
    case CollectiveOp::kAllGather:
      return "all_gather";
    case CollectiveOp::kReduceScatter:
      return "reduce_scatter";
    case CollectiveOp::kAllReduce:
      return "all_reduce";
    case CollectiveOp::kBroadcast:
      return "broadcast";
    case CollectiveOp::kAllToAll:
      return "all_to_all";
    case CollectiveOp::kBarrier:
      return "barrier";
  }
  return "?";
}

int Graph::group_size(const std::string& group) const {
  const auto it = groups_.find(group);
  return it == groups_.end() ? 1 : it->second;
}

NodeId Graph::FindNode(absl::string_view name) const {
  const auto it = node_index_.find(name);
  return it == node_index_.end() ? -1 : it->second;
}

ValueId Graph::FindValue(absl::string_view name) const {
  const auto it = value_index_.find(name);
  return it == value_index_.end() ? -1 : it->second;
}

BufferId GraphBuilder::AddBuffer(Buffer buffer) {
  graph_.buffers_.push_back(std::move(buffer));
  return static_cast<BufferId>(graph_.buffers_.size()) - 1;
}

ValueId GraphBuilder::AddValue(Value value) {
  graph_.values_.push_back(std::move(value));
  return static_cast<ValueId>(graph_.values_.size()) - 1;
}

NodeId GraphBuilder::AddNode(Node node) {
  graph_.nodes_.push_back(std::move(node));
  return static_cast<NodeId>(graph_.nodes_.size()) - 1;
}

int32_t GraphBuilder::AddBucket(Bucket bucket) {
  graph_.buckets_.push_back(std::move(bucket));
  return static_cast<int32_t>(graph_.buckets_.size()) - 1;
}

ValueId GraphBuilder::AddValueWithBuffer(Value value, BufferKind kind, bool persistent, Tier tier) {
  Buffer buffer;
  buffer.name = value.name;
  buffer.bytes = value.bytes() * (value.own_shard ? graph_.group_size(value.group) : 1);
  buffer.tier = tier;
  buffer.kind = kind;
  buffer.persistent = persistent;
  value.buffer = AddBuffer(std::move(buffer));
  value.offset = 0;
  return AddValue(std::move(value));
}

int64_t IntAttr(const Node& node, const std::string& name, int64_t fallback) {
  const auto it = node.attrs.find(name);
  const int64_t* v = it == node.attrs.end() ? nullptr : std::get_if<int64_t>(&it->second);
  return v == nullptr ? fallback : *v;
}

double FloatAttr(const Node& node, const std::string& name, double fallback) {
  const auto it = node.attrs.find(name);
  const double* v = it == node.attrs.end() ? nullptr : std::get_if<double>(&it->second);
  return v == nullptr ? fallback : *v;
}

std::string StringAttr(const Node& node, const std::string& name, const std::string& fallback) {
  const auto it = node.attrs.find(name);
  const std::string* v = it == node.attrs.end() ? nullptr : std::get_if<std::string>(&it->second);
  return v == nullptr ? fallback : *v;
}

}  // namespace millrace
