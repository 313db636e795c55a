#include "tests/random_graph.h"

#include <algorithm>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "graph/base/random.h"
#include "graph/ir/op_contract.h"
#include "gtest/gtest.h"

namespace millrace {
namespace {

class Artist {
 public:
  explicit Artist(uint64_t seed) : rng_(seed, HashString("random_graph")), b_("random") {}

  RandomGraph Draw() {
    drawn_.world_size = 1 + Below(4);
    b_.SetGroup("data", drawn_.world_size);
    groups_ = {"data"};
    if (drawn_.world_size == 4 && Below(2) == 0) {
      b_.SetGroup("pair", 2);
      groups_.push_back("pair");
    }
    for (int i = 1 + Below(5); i > 0; --i) Persist();
    for (int i = 5 + Below(60); i > 0; --i) {
      const int what = Below(14);
      if (what < 5) Blend();
      if (what >= 5 && what < 8) Renew();
      if (what == 8 || what == 9) Gather();
      if (what >= 10 && what < 13) Reduce();
      if (what == 13) Join();
      if (!pending_.empty() && Below(3) == 0) Finish(Below(static_cast<int>(pending_.size())));
    }
    while (!pending_.empty()) Finish(0);
    auto graph = std::move(b_).Build();
    EXPECT_TRUE(graph.ok()) << graph.status();
    if (graph.ok()) drawn_.graph = *std::move(graph);
    return std::move(drawn_);
  }

 private:
  int Below(int n) { return static_cast<int>(rng_.Below(index_++, static_cast<uint64_t>(n))); }
  template <typename T>
  const T& Of(const std::vector<T>& list) {
    return list[Below(static_cast<int>(list.size()))];
  }
  const Value& At(ValueId v) const { return b_.peek().values()[v]; }
  BufferKind KindOf(ValueId v) const { return b_.peek().buffers()[At(v).buffer].kind; }
  int SizeOfGroup(const std::string& group) const { return b_.peek().group_size(group); }

  Value Typed(Sharding sharding, const std::string& group, int64_t numel) {
    Value v;
    v.name = absl::StrCat("v", ++names_);
    v.dtype = Below(3) == 0 ? DType::kI64 : DType::kF32;
    v.shape = {numel};
    v.sharding = sharding;
    if (sharding != Sharding::kReplicated) v.group = group;
    return v;
  }

  // Bytes [low, high) of the value's buffer, on all ranks.
  std::pair<int64_t, int64_t> Range(ValueId v) const {
    const int64_t parts = At(v).own_shard ? SizeOfGroup(At(v).group) : 1;
    return {At(v).offset, At(v).offset + At(v).bytes() * parts};
  }
  bool Overlap(ValueId a, ValueId b) const {
    const auto x = Range(a), y = Range(b);
    return At(a).buffer == At(b).buffer && x.first < y.second && y.first < x.second;
  }
  // What `v` overwrites can no longer be read.
  void Overwrite(ValueId v) {
    live_.erase(
        std::remove_if(live_.begin(), live_.end(), [&](ValueId o) { return Overlap(o, v); }),
        live_.end());
  }

  void Persist() {
    const std::string& group = Of(groups_);
    const int n = SizeOfGroup(group);
    Value v = Typed(Sharding::kReplicated, group, n * (1 + Below(100)));
    const int form = Below(4);
    if (form == 0) {  // this rank's part of a whole
      const BufferId buffer = b_.AddBuffer(
          {.name = v.name, .bytes = v.bytes(), .kind = BufferKind::kParameter, .persistent = true});
      v.buffer = buffer;
      v.shape = {v.shape[0] / n};
      v.sharding = Sharding::kSharded;
      v.group = group;
      v.own_shard = true;
      live_.push_back(b_.AddValue(v));
      return;
    }
    if (form == 1) {
      v.sharding = Sharding::kSharded;
      v.group = group;
    }
    live_.push_back(b_.AddValueWithBuffer(
        v, form < 3 ? BufferKind::kParameter : BufferKind::kMetric, /*persistent=*/true));
  }

  // Up to `most` values that a node other than a collective may read, none overlapping `but`.
  std::vector<ValueId> Readable(int most, ValueId but = -1) {
    std::vector<ValueId> chosen;
    for (int i = Below(most + 1); i > 0 && !live_.empty(); --i) {
      const ValueId v = Of(live_);
      const bool parameter =
          KindOf(v) == BufferKind::kParameter || KindOf(v) == BufferKind::kGathered;
      if (parameter && At(v).sharding == Sharding::kSharded) continue;
      if (but >= 0 && Overlap(v, but)) continue;
      if (std::find(chosen.begin(), chosen.end(), v) == chosen.end()) chosen.push_back(v);
    }
    return chosen;
  }

  NodeId Add(Node node) {
    node.name = absl::StrCat(node.op, "/", ++names_);
    node.flops = int64_t{1} << Below(24);
    node.memory_bytes = 1 << Below(16);
    if (last_ >= 0 && Below(8) == 0) node.control = {static_cast<NodeId>(Below(last_ + 1))};
    return last_ = b_.AddNode(std::move(node));
  }

  void Blend() {
    Node node;
    node.op = "blend";
    node.inputs = Readable(4);
    const std::string& group = Of(groups_);
    const int n = SizeOfGroup(group);
    const BufferKind kinds[] = {BufferKind::kActivation, BufferKind::kSaved, BufferKind::kGradient,
                                BufferKind::kMetric, BufferKind::kWorkspace};
    if (Below(4) == 0) {  // neighbouring slices of one buffer
      std::vector<Value> slices;
      const int count = 2 + Below(2);
      const DType dtype = Below(2) == 0 ? DType::kI64 : DType::kF32;
      int64_t at = 0;
      for (int i = 0; i < count; ++i) {
        slices.push_back(Typed(Sharding::kPartial, group, n * (1 + Below(60))));
        slices.back().dtype = dtype;
        slices.back().offset = at;
        at += slices.back().bytes();
      }
      const BufferId buffer =
          b_.AddBuffer({.name = slices[0].name, .bytes = at, .kind = BufferKind::kGradient});
      for (Value& v : slices) {
        v.buffer = buffer;
        node.outputs.push_back(b_.AddValue(v));
      }
      runs_.push_back(node.outputs);
    } else {
      for (int i = 1 + Below(3); i > 0; --i) {
        const int form = Below(5);
        const Sharding sharding = form == 0   ? Sharding::kSharded
                                  : form <= 2 ? Sharding::kPartial
                                              : Sharding::kReplicated;
        node.outputs.push_back(
            b_.AddValueWithBuffer(Typed(sharding, group, n * (1 + Below(150))), kinds[Below(5)]));
      }
    }
    for (ValueId v : node.outputs) live_.push_back(v);
    Add(std::move(node));
  }

  // A value on the same bytes as `v`.
  Value Again(ValueId v) {
    Value again = At(v);
    again.name = absl::StrCat("v", ++names_);
    ++drawn_.in_place;
    return again;
  }

  void Renew() {
    if (live_.empty()) return;
    const ValueId state = Of(live_);
    Node node;
    node.op = "renew";
    node.inputs = {state};
    // Replicas of parameters must stay the same on all ranks, so nothing goes into them.
    if (KindOf(state) != BufferKind::kParameter) {
      for (ValueId v : Readable(2, state)) node.inputs.push_back(v);
    }
    const ValueId next = b_.AddValue(Again(state));
    Overwrite(next);
    node.outputs = {next};
    live_.push_back(next);
    Add(std::move(node));
  }

  // A collective, at once or in two halves.
  void Communicate(Node node, CollectiveOp op, const std::string& group, int64_t count,
                   ValueId out) {
    node.op = std::string(Name(op));
    node.is_collective = true;
    node.collective = {op, group, At(out).dtype, count};
    Overwrite(out);
    if (Below(3) == 0) {
      node.outputs = {out};
      live_.push_back(out);
      Add(std::move(node));
      return;
    }
    node.async = AsyncRole::kStart;
    pending_.push_back({Add(std::move(node)), out});
  }

  void Finish(int i) {
    const auto [start, out] = pending_[i];
    pending_.erase(pending_.begin() + i);
    Node done = b_.node(start);
    done.name += ".done";
    done.inputs.clear();
    done.control.clear();
    done.outputs = {out};
    done.async = AsyncRole::kDone;
    done.partner = start;
    const NodeId id = last_ = b_.AddNode(std::move(done));
    b_.node(start).partner = id;
    live_.push_back(out);
  }

  void Gather() {
    const std::string& group = Of(groups_);
    std::vector<ValueId> shards;
    for (ValueId v : live_) {
      const bool shard = At(v).sharding == Sharding::kSharded && At(v).group == group;
      if (shard || (KindOf(v) == BufferKind::kMetric && At(v).sharding == Sharding::kReplicated)) {
        shards.push_back(v);
      }
    }
    if (shards.empty()) return;
    const ValueId shard = Of(shards);
    Node node;
    node.inputs = {shard};
    const int64_t count = At(shard).numel();
    Value whole = Typed(Sharding::kReplicated, group, count * SizeOfGroup(group));
    whole.dtype = At(shard).dtype;
    if (At(shard).own_shard && Below(2) == 0) {
      whole.buffer = At(shard).buffer;
      whole.offset = At(shard).offset;
      ++drawn_.in_place;
      Communicate(std::move(node), CollectiveOp::kAllGather, group, count, b_.AddValue(whole));
    } else {
      Communicate(std::move(node), CollectiveOp::kAllGather, group, count,
                  b_.AddValueWithBuffer(whole, BufferKind::kGathered));
    }
  }

  // Partial sums over one group: a value, or a run of slices that nothing has overwritten.
  std::vector<ValueId> Partial(std::string* group) {
    std::vector<std::vector<ValueId>> found;
    for (ValueId v : live_) {
      if (At(v).sharding == Sharding::kPartial) found.push_back({v});
    }
    for (const std::vector<ValueId>& run : runs_) {
      const bool all = std::all_of(run.begin(), run.end(), [&](ValueId v) {
        return std::find(live_.begin(), live_.end(), v) != live_.end();
      });
      if (all) found.push_back(run);
    }
    if (found.empty()) return {};
    const std::vector<ValueId> chosen = Of(found);
    *group = At(chosen[0]).group;
    return chosen;
  }

  void Reduce() {
    std::string group;
    Node node;
    node.inputs = Partial(&group);
    if (node.inputs.empty()) return;
    const Value first = At(node.inputs[0]);
    int64_t numel = 0;
    for (ValueId v : node.inputs) numel += At(v).numel();
    const bool scatter = Below(2) == 0;
    const int64_t count = scatter ? numel / SizeOfGroup(group) : numel;
    Value sum = Typed(scatter ? Sharding::kSharded : Sharding::kReplicated, group, count);
    sum.dtype = first.dtype;
    const CollectiveOp op = scatter ? CollectiveOp::kReduceScatter : CollectiveOp::kAllReduce;
    if (Below(2) == 0) {
      sum.buffer = first.buffer;
      sum.offset = first.offset;
      sum.own_shard = scatter;
      ++drawn_.in_place;
      Communicate(std::move(node), op, group, count, b_.AddValue(sum));
    } else {
      Communicate(std::move(node), op, group, count,
                  b_.AddValueWithBuffer(sum, BufferKind::kGradient));
    }
  }

  void Join() {
    std::string group;
    Node node;
    node.op = "join";
    node.inputs = Partial(&group);
    if (node.inputs.size() < 2) return;
    Value whole = Again(node.inputs[0]);
    whole.shape = {0};
    for (ValueId v : node.inputs) whole.shape[0] += At(v).numel();
    const ValueId out = b_.AddValue(whole);
    Overwrite(out);
    node.outputs = {out};
    live_.push_back(out);
    Add(std::move(node));
  }

  const CounterRng rng_;
  uint64_t index_ = 0;
  GraphBuilder b_;
  RandomGraph drawn_;
  std::vector<std::string> groups_;
  std::vector<ValueId> live_;                        // may be read
  std::vector<std::vector<ValueId>> runs_;           // slices that make up one buffer
  std::vector<std::pair<NodeId, ValueId>> pending_;  // starts, and what their dones will write
  NodeId last_ = -1;
  int names_ = 0;
};

REGISTER_OP_CONTRACT(blend, OpContract("blend", "numbers from numbers")
                                .InVariadic("inputs", "any")
                                .OutVariadic("outputs", "any"));
REGISTER_OP_CONTRACT(renew, OpContract("renew", "numbers from numbers, in place")
                                .In("state", "any")
                                .InVariadic("inputs", "any")
                                .OutInPlace("state", 0)
                                .Infer([](InferContext& c) {
                                  c.outputs[0].CopyTypeFrom(*c.inputs[0]);
                                  return absl::OkStatus();
                                }));

}  // namespace

RandomGraph DrawGraph(uint64_t seed) { return Artist(seed).Draw(); }

}  // namespace millrace
