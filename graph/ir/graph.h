// The immutable graph of one training step, as one rank of a group of identical ranks sees it
// (SPMD).
//
//   Buffer   a piece of memory in one tier, allocated as a whole; persistent ones keep their bytes
//   between steps Value    an SSA name for a byte range of a buffer: written by exactly one node
//   (or present at the start
//            of the step), read by any number. An update in place is a new value on the same bytes.
//   Node     one operation: reads values, writes values. Order follows from values, from control
//   edges,
//            and - between values on overlapping bytes - from the order of the nodes in the graph's
//            text: a reader of the old value comes before the writer of the new one.
//
// Sharding over a group of N ranks: a value with `own_shard` lies at offset + r * bytes() for the
// rank with index r in the group, so that one text describes all ranks.
//
//   GraphBuilder b("step");
//   BufferId p = b.AddBuffer({.name = "param/bucket_0", .bytes = 4096, .kind =
//   BufferKind::kParameter, .persistent = true}); ValueId v = b.AddValue({.name = "param/bucket_0",
//   .shape = {1024}, .buffer = p}); b.AddNode({.name = "forward/0/layers.0", .op = "forward",
//   .inputs = {x, v}, .outputs = {y}}); ASSIGN_OR_RETURN(Graph g, std::move(b).Build());      //
//   all mistakes at once
//
// Ids are indices into the vectors. Thread-compatible; const access is safe from many threads.
#ifndef MILLRACE_GRAPH_IR_GRAPH_H_
#define MILLRACE_GRAPH_IR_GRAPH_H_

#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "graph/base/dtype.h"
#include "graph/base/findings.h"

namespace millrace {

using NodeId = int32_t;
using ValueId = int32_t;
using BufferId = int32_t;

enum class Tier : uint8_t { kDevice, kPinned, kHost, kStorage };
constexpr int kTiers = 4;
absl::string_view Name(Tier t);  // "device", "pinned", "host", "storage"
// Bytes that every buffer of a tier is aligned to: a cache line; pages where direct I/O reads and writes.
constexpr int64_t AlignmentOf(Tier t) { return t == Tier::kDevice ? 64 : 4096; }

enum class BufferKind : uint8_t {
  kInput,           // a batch's images and labels
  kParameter,       // persistent: the weights, whole or this rank's shard
  kGathered,        // a gathered copy of sharded parameters
  kGradient,        // gradients, whole or shard, or one micro-batch's before accumulation
  kOptimizerState,  // momentum, exp_avg, ...
  kActivation,      // boundary tensors between stages and their gradients
  kSaved,           // what a forward keeps for its backward
  kWorkspace,       // scratch of one node
  kMetric           // losses, norms, coefficients
};
absl::string_view Name(BufferKind k);

enum class Sharding : uint8_t {
  kReplicated,  // every rank of the group holds the same bytes
  kSharded,     // rank r holds part r of the flat tensor
  kPartial      // the true value is the sum over the group
};
absl::string_view Name(Sharding s);

using AttrValue = std::variant<int64_t, double, std::string, bool>;
using Attrs = std::map<std::string, AttrValue>;

struct SourceLocation {  // where the user wrote it; line 0 = made by a pass
  std::string file;
  int line = 0;
  int column = 0;
};

struct Buffer {
  std::string name;
  int64_t bytes = 0;
  Tier tier = Tier::kDevice;
  BufferKind kind = BufferKind::kActivation;
  bool persistent = false;  // keeps its bytes from step to step; placed first in its tier's arena
};

struct Value {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  Sharding sharding = Sharding::kReplicated;
  BufferId buffer = -1;
  int64_t offset = 0;      // bytes from the start of the buffer
  bool own_shard = false;  // lies at offset + (index in group) * bytes()
  std::string group;       // the group of `sharding` and `own_shard`; "" when replicated
  int32_t bucket =
      -1;  // flat bucket (Graph::buckets) that this value is, or is part of; -1 when none
  SourceLocation source;
  int64_t numel() const {
    int64_t n = 1;
    for (int64_t d : shape) n *= d;
    return n;
  }
  int64_t bytes() const { return numel() * SizeOf(dtype); }
  // dtype, shape, sharding and group of `other`; name and place stay.
  void CopyTypeFrom(const Value& other) {
    dtype = other.dtype;
    shape = other.shape;
    sharding = other.sharding;
    group = other.group;
  }
};

enum class CollectiveOp : uint8_t {
  kAllGather,
  kReduceScatter,
  kAllReduce,
  kBroadcast,
  kAllToAll,
  kBarrier
};
absl::string_view Name(CollectiveOp op);  // "all_gather", ...

// Present on nodes that talk to other ranks.
struct CollectiveSpec {
  CollectiveOp op = CollectiveOp::kAllReduce;
  std::string group;  // "data"
  DType dtype = DType::kF32;
  int64_t count = 0;  // elements per rank: all_gather of what is sent, reduce_scatter of what is
                      // received, else all
};

// An asynchronous operation is two nodes. From start to done it may read its inputs and write its
// outputs at any time; `start` carries the inputs, `done` the outputs, `partner` joins them.
enum class AsyncRole : uint8_t { kNone, kStart, kDone };

struct Node {
  std::string name;
  std::string op;  // an OpContract's name; start and done keep the op of the node they came from
  std::vector<ValueId> inputs;
  std::vector<ValueId> outputs;
  std::vector<NodeId> control;  // nodes that must be finished before this one starts, without data
  Attrs attrs;
  AsyncRole async = AsyncRole::kNone;
  NodeId partner = -1;
  bool is_collective = false;
  CollectiveSpec collective;
  int64_t flops = 0;         // for the cost model
  int64_t memory_bytes = 0;  // traffic for the roofline
  int64_t operators = 0;     // a sequence of so many library calls; 0: one kernel of our own
  SourceLocation source;
};

// One parameter inside a flat bucket.
struct ParamSlot {
  int32_t stage = 0;   // index into ModelSpec::stages
  int32_t param = 0;   // index into StageSpec::params
  int64_t offset = 0;  // elements from the start of the bucket; multiple of 16 (64 bytes)
  int64_t numel = 0;
};

// A flat run of parameters that is reduced, gathered and updated as one. Gradients, optimizer
// states and gathered copies use the same layout. `numel` is padded to a multiple of 16 x group
// size, so shards are equal and every 16-element chunk lies in one shard.
struct Bucket {
  std::string name;  // "bucket_3"
  std::vector<ParamSlot> slots;
  int64_t numel = 0;
};

class Graph {
 public:
  const std::string& name() const { return name_; }
  const std::vector<Node>& nodes() const { return nodes_; }
  const std::vector<Value>& values() const { return values_; }
  const std::vector<Buffer>& buffers() const { return buffers_; }
  const std::vector<Bucket>& buckets() const { return buckets_; }
  // Sizes of the groups that nodes and values name ("data" -> 2).
  const std::map<std::string, int>& groups() const { return groups_; }
  int group_size(const std::string& group) const;  // 1 for "" and unknown groups

  NodeId producer(ValueId v) const { return producer_[v]; }  // -1: present at the start of the step
  const std::vector<NodeId>& consumers(ValueId v) const { return consumers_[v]; }
  NodeId FindNode(absl::string_view name) const;    // -1 when absent
  ValueId FindValue(absl::string_view name) const;  // -1 when absent
  // Node ids in an order that respects values and control edges and otherwise keeps the text's
  // order.
  const std::vector<NodeId>& topological_order() const { return order_; }

 private:
  friend class GraphBuilder;
  std::string name_;
  std::vector<Node> nodes_;
  std::vector<Value> values_;
  std::vector<Buffer> buffers_;
  std::vector<Bucket> buckets_;
  std::map<std::string, int> groups_;
  std::vector<NodeId> producer_;
  std::vector<std::vector<NodeId>> consumers_;
  std::vector<NodeId> order_;
  absl::flat_hash_map<std::string, NodeId> node_index_;
  absl::flat_hash_map<std::string, ValueId> value_index_;
};

class GraphBuilder {
 public:
  explicit GraphBuilder(std::string name) { graph_.name_ = std::move(name); }
  // Starts from an existing graph: the way a pass edits. Ids stay valid.
  explicit GraphBuilder(const Graph& graph) : graph_(graph) {}

  BufferId AddBuffer(Buffer buffer);
  ValueId AddValue(Value value);
  NodeId AddNode(Node node);
  int32_t AddBucket(Bucket bucket);
  void SetGroup(const std::string& group, int size) { graph_.groups_[group] = size; }

  // A value on a buffer of its own.
  ValueId AddValueWithBuffer(Value value, BufferKind kind, bool persistent = false,
                             Tier tier = Tier::kDevice);

  Node& node(NodeId id) { return graph_.nodes_[id]; }
  Value& value(ValueId id) { return graph_.values_[id]; }
  Buffer& buffer(BufferId id) { return graph_.buffers_[id]; }
  const Graph& peek() const { return graph_; }  // without producer / consumer / order tables
  // Replaces all nodes (ids are renumbered by the caller).
  void SetNodes(std::vector<Node> nodes) { graph_.nodes_ = std::move(nodes); }

  // Checks structure and builds the tables. Findings: duplicate names, ids out of range, two nodes
  // writing one value, values outside their buffer, cycles (named node by node), async partners
  // that do not match.
  absl::StatusOr<Graph> Build() &&;
  // As Build, but gives the findings one by one.
  absl::StatusOr<Graph> Build(Findings& findings) &&;

 private:
  Graph graph_;
};

// Typed attribute access; the default when absent or of another type.
int64_t IntAttr(const Node& node, const std::string& name, int64_t fallback);
double FloatAttr(const Node& node, const std::string& name, double fallback);
std::string StringAttr(const Node& node, const std::string& name, const std::string& fallback);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_IR_GRAPH_H_
