#include "graph/lower/rewriter.h"

namespace millrace {

Rewriter::Rewriter(const Graph& graph)
    : name_(graph.name()),
      groups_(graph.groups()),
      buckets_(graph.buckets()),
      buffers_(graph.buffers()),
      values_(graph.values()),
      erased_buffer_(graph.buffers().size()) {
  prev_ = next_ = {-1};
  for (const Node& node : graph.nodes()) Append(node);
}

BufferId Rewriter::AddBuffer(Buffer buffer) {
  buffers_.push_back(std::move(buffer));
  erased_buffer_.push_back(false);
  return static_cast<BufferId>(buffers_.size()) - 1;
}

ValueId Rewriter::AddValue(Value value) {
  values_.push_back(std::move(value));
  return static_cast<ValueId>(values_.size()) - 1;
}

ValueId Rewriter::AddValueWithBuffer(Value value, BufferKind kind, bool persistent) {
  value.buffer = AddBuffer(
      {.name = value.name, .bytes = value.bytes(), .kind = kind, .persistent = persistent});
  return AddValue(std::move(value));
}

int32_t Rewriter::AddBucket(Bucket bucket) {
  buckets_.push_back(std::move(bucket));
  return static_cast<int32_t>(buckets_.size()) - 1;
}

NodeId Rewriter::Add(Node node) {
  nodes_.push_back(std::move(node));
  erased_node_.push_back(false);
  prev_.push_back(-1);
  next_.push_back(-1);
  return static_cast<NodeId>(nodes_.size()) - 1;
}

void Rewriter::Unlink(NodeId id) {
  const NodeId p = prev_[id + 1], n = next_[id + 1];
  next_[p + 1] = n;
  prev_[n + 1] = p;
}

void Rewriter::LinkAfter(NodeId id, NodeId anchor) {
  const NodeId n = next_[anchor + 1];
  prev_[id + 1] = anchor;
  next_[id + 1] = n;
  next_[anchor + 1] = id;
  prev_[n + 1] = id;
}

NodeId Rewriter::InsertAfter(NodeId anchor, Node node) {
  const NodeId id = Add(std::move(node));
  LinkAfter(id, anchor);
  return id;
}

NodeId Rewriter::InsertBefore(NodeId anchor, Node node) {
  return InsertAfter(prev_[anchor + 1], std::move(node));
}

void Rewriter::MoveAfter(NodeId id, NodeId anchor) {
  Unlink(id);
  LinkAfter(id, anchor);
}

void Rewriter::MoveBefore(NodeId id, NodeId anchor) {
  Unlink(id);
  LinkAfter(id, prev_[anchor + 1]);
}

void Rewriter::Erase(NodeId id) {
  Unlink(id);
  erased_node_[id] = true;
}

std::vector<NodeId> Rewriter::order() const {
  std::vector<NodeId> order;
  for (NodeId id = next_[0]; id != -1; id = next_[id + 1]) order.push_back(id);
  return order;
}

absl::StatusOr<Graph> Rewriter::Finish() && {
  const std::vector<NodeId> order = this->order();
  std::vector<NodeId> new_node(nodes_.size(), -1);
  std::vector<bool> value_used(values_.size()), buffer_used(buffers_.size());
  for (size_t i = 0; i < order.size(); ++i) {
    new_node[order[i]] = static_cast<NodeId>(i);
    for (ValueId v : nodes_[order[i]].inputs) value_used[v] = true;
    for (ValueId v : nodes_[order[i]].outputs) value_used[v] = true;
  }
  for (size_t v = 0; v < values_.size(); ++v) {
    if (value_used[v]) buffer_used[values_[v].buffer] = true;
  }

  GraphBuilder builder(name_);
  for (const auto& [group, size] : groups_) builder.SetGroup(group, size);
  for (Bucket& bucket : buckets_) builder.AddBucket(std::move(bucket));
  std::vector<BufferId> new_buffer(buffers_.size(), -1);
  for (size_t b = 0; b < buffers_.size(); ++b) {
    if (buffer_used[b] || (buffers_[b].persistent && !erased_buffer_[b])) {
      new_buffer[b] = builder.AddBuffer(std::move(buffers_[b]));
    }
  }
  std::vector<ValueId> new_value(values_.size(), -1);
  for (size_t v = 0; v < values_.size(); ++v) {
    if (!value_used[v]) continue;
    values_[v].buffer = new_buffer[values_[v].buffer];
    new_value[v] = builder.AddValue(std::move(values_[v]));
  }
  for (NodeId id : order) {
    Node node = std::move(nodes_[id]);
    for (ValueId& v : node.inputs) v = new_value[v];
    for (ValueId& v : node.outputs) v = new_value[v];
    std::vector<NodeId> control;
    for (NodeId c : node.control) {
      if (new_node[c] >= 0) control.push_back(new_node[c]);
    }
    node.control = std::move(control);
    if (node.partner >= 0) node.partner = new_node[node.partner];
    builder.AddNode(std::move(node));
  }
  return std::move(builder).Build();
}

}  // namespace millrace
