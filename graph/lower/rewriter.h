// Edits a graph's text: nodes are inserted, moved and erased at places in the order, values and buffers
// added or changed, and Finish() renumbers everything. Ids stay valid until then, so a pass can keep the
// tables of the graph it started from.
//
//   Rewriter r(graph);
//   NodeId gather = r.InsertBefore(forward, {.name = "all_gather/bucket_0/forward/0", .op = "all_gather", ...});
//   r.node(forward).inputs[1] = gathered;
//   return std::move(r).Finish();
//
// Finish() drops values that nobody reads or writes and transient buffers without values.
#ifndef MILLRACE_GRAPH_LOWER_REWRITER_H_
#define MILLRACE_GRAPH_LOWER_REWRITER_H_

#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "graph/ir/graph.h"

namespace millrace {

class Rewriter {
 public:
  explicit Rewriter(const Graph& graph);

  Node& node(NodeId id) { return nodes_[id]; }
  Value& value(ValueId id) { return values_[id]; }
  Buffer& buffer(BufferId id) { return buffers_[id]; }
  const std::vector<Bucket>& buckets() const { return buckets_; }

  BufferId AddBuffer(Buffer buffer);
  ValueId AddValue(Value value);
  // A value on a buffer of its own and of its own name.
  ValueId AddValueWithBuffer(Value value, BufferKind kind, bool persistent = false);
  int32_t AddBucket(Bucket bucket);
  void SetGroup(const std::string& group, int size) { groups_[group] = size; }

  NodeId Append(Node node) { return InsertAfter(last(), std::move(node)); }
  NodeId InsertBefore(NodeId anchor, Node node);
  NodeId InsertAfter(NodeId anchor, Node node);
  void MoveAfter(NodeId id, NodeId anchor);   // anchor -1: to the front
  void MoveBefore(NodeId id, NodeId anchor);  // anchor -1: to the end
  void Erase(NodeId id);                      // control edges on it go too
  void EraseBuffer(BufferId id) { erased_buffer_[id] = true; }

  // Node ids in the order of the text as it stands.
  std::vector<NodeId> order() const;
  NodeId last() const { return prev_[kEnd]; }

  absl::StatusOr<Graph> Finish() &&;

 private:
  static constexpr NodeId kEnd =
      0;  // prev_ / next_ are shifted by one: a ring through the sentinel
  NodeId Add(Node node);
  void Unlink(NodeId id);
  void LinkAfter(NodeId id, NodeId anchor);

  std::string name_;
  std::map<std::string, int> groups_;
  std::vector<Bucket> buckets_;
  std::vector<Buffer> buffers_;
  std::vector<Value> values_;
  std::vector<Node> nodes_;
  std::vector<bool> erased_buffer_;
  std::vector<bool> erased_node_;
  std::vector<NodeId> prev_,
      next_;  // neighbour of node i at [i + 1]; values are node ids, -1 the ends
};

}  // namespace millrace

#endif  // MILLRACE_GRAPH_LOWER_REWRITER_H_
