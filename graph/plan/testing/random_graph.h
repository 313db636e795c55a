// Random steps for property tests: nodes read and write whole buffers, parts of them and own shards, in place
// and into new ones, some as asynchronous collectives; the text never reads what was overwritten. Operations
// are made up, so types are not checked.
#ifndef MILLRACE_GRAPH_PLAN_TESTING_RANDOM_GRAPH_H_
#define MILLRACE_GRAPH_PLAN_TESTING_RANDOM_GRAPH_H_

#include <algorithm>
#include <string>
#include <vector>

#include "graph/base/random.h"
#include "graph/ir/graph.h"

namespace millrace {

class RandomGraph {
 public:
  explicit RandomGraph(uint64_t seed) : rng_(seed), builder_("random") {}

  absl::StatusOr<Graph> Make(int operations) {
    builder_.SetGroup("data", 2);
    for (int i = 0; i < 3; ++i) AddBuffer(true);
    for (int i = 0; i < operations; ++i) Operation(i);
    return std::move(builder_).Build();
  }

 private:
  int64_t Draw(int64_t n) { return static_cast<int64_t>(rng_.Below(count_++, n)); }

  ValueId AddValue(BufferId buffer, int64_t offset, int64_t bytes, bool own) {
    Value v{.name = "v" + std::to_string(values_++), .dtype = DType::kU8, .shape = {bytes}};
    v.buffer = buffer;
    v.offset = offset;
    v.own_shard = own;
    if (own) {
      v.group = "data";
      v.sharding = Sharding::kSharded;
    }
    return builder_.AddValue(v);
  }

  void AddBuffer(bool persistent) {
    const int64_t bytes = 64 * (1 + Draw(32));
    const BufferId b = builder_.AddBuffer(
        {.name = "b" + std::to_string(buffers_++),
         .bytes = bytes,
         .kind = Draw(9) == 0 && !persistent ? BufferKind::kMetric : BufferKind::kActivation,
         .persistent = persistent});
    if (persistent) readable_.push_back(AddValue(b, 0, bytes, false));
    open_.push_back(b);
  }

  // What overlaps the new value on its buffer can no longer be read.
  void Overwrite(ValueId written) {
    const Value& w = builder_.peek().values()[written];
    const int64_t high = w.offset + w.bytes() * (w.own_shard ? 2 : 1);
    std::vector<ValueId> left;
    for (ValueId r : readable_) {
      const Value& v = builder_.peek().values()[r];
      const int64_t end = v.offset + v.bytes() * (v.own_shard ? 2 : 1);
      if (v.buffer != w.buffer || end <= w.offset || high <= v.offset) left.push_back(r);
    }
    left.push_back(written);
    readable_ = std::move(left);
  }

  void Operation(int index) {
    Node node{.name = "n" + std::to_string(index), .op = "work"};
    const int reads = static_cast<int>(Draw(3));
    for (int i = 0; i < reads && !readable_.empty(); ++i) {
      const ValueId v = readable_[Draw(static_cast<int64_t>(readable_.size()))];
      if (std::find(node.inputs.begin(), node.inputs.end(), v) == node.inputs.end()) {
        node.inputs.push_back(v);
      }
    }
    if (index > 3 && Draw(5) == 0) node.control.push_back(last_end_[Draw(index - 1)]);
    const int writes = 1 + static_cast<int>(Draw(2));
    BufferId first = -1;
    for (int i = 0; i < writes; ++i) {
      if (Draw(2) == 0) AddBuffer(false);
      const BufferId b =
          Draw(2) == 0 ? open_.back() : open_[Draw(static_cast<int64_t>(open_.size()))];
      if (b == first) continue;
      first = b;
      const int64_t bytes = builder_.peek().buffers()[b].bytes;
      const int64_t part = Draw(4);
      const ValueId v = part == 0 && bytes >= 128 ? AddValue(b, 0, bytes / 2, false)
                        : part == 1               ? AddValue(b, 0, bytes / 2, true)
                        : part == 2 && bytes >= 128
                            ? AddValue(b, bytes / 2, bytes - bytes / 2, false)
                            : AddValue(b, 0, bytes, false);
      node.outputs.push_back(v);
    }
    node.flops = 1000 * Draw(1000000);
    const bool collective = Draw(4) == 0;
    if (collective) {
      node.is_collective = true;
      node.collective = {
          .op = CollectiveOp::kAllReduce, .group = "data", .count = 1 + Draw(100000)};
    }
    const std::vector<ValueId> outputs = node.outputs;
    NodeId end;
    if (collective && Draw(3) > 0) {
      Node done = node;
      done.name += ".done";
      done.inputs.clear();
      done.control.clear();
      done.async = AsyncRole::kDone;
      node.name += ".start";
      node.outputs.clear();
      node.async = AsyncRole::kStart;
      const NodeId start = builder_.AddNode(node);
      done.partner = start;
      end = builder_.AddNode(done);
      builder_.node(start).partner = end;
    } else {
      end = builder_.AddNode(node);
    }
    last_end_.push_back(end);
    for (ValueId v : outputs) Overwrite(v);
  }

  CounterRng rng_;
  uint64_t count_ = 0;
  GraphBuilder builder_;
  int values_ = 0, buffers_ = 0;
  std::vector<ValueId> readable_;
  std::vector<BufferId> open_;
  std::vector<NodeId> last_end_;
};

}  // namespace millrace

#endif  // MILLRACE_GRAPH_PLAN_TESTING_RANDOM_GRAPH_H_
