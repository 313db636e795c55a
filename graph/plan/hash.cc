// A plan as a stream of 64-bit words, each list behind its length, so that no two different plans
// give one stream; and two mixings of that stream. A step of either mixing is a bijection of its
// state for a given word and of the word for a given state, so a single changed word always shows.
#include "graph/plan/hash.h"

#include <cstring>

#include "absl/strings/str_cat.h"

namespace millrace {
namespace {

class Digest {
 public:
  void Word(uint64_t w) {
    a_ = (a_ ^ w) * 0x9e3779b97f4a7c15u;
    a_ ^= a_ >> 32;
    b_ = Rotate(b_ + w * 0xc2b2ae3d27d4eb4fu, 29) * 0x165667b19e3779f9u;
  }

  template <typename T>
  void Number(T n) {  // integers, enums, bools
    Word(static_cast<uint64_t>(static_cast<int64_t>(n)));
  }

  void Text(absl::string_view s) {
    Word(s.size());
    size_t i = 0;
    for (; i + 8 <= s.size(); i += 8) Word(Load8(s.data() + i));
    if (i == s.size()) return;
    char rest[8] = {};
    std::memcpy(rest, s.data() + i, s.size() - i);
    Word(Load8(rest));
  }

  template <typename List>
  void Numbers(const List& list) {
    Word(list.size());
    for (const auto& n : list) Number(n);
  }

  std::string Hex() const {
    const uint64_t a = Finish(a_ ^ Rotate(b_, 17));
    const uint64_t b = Finish(b_ + Rotate(a_, 41));
    return absl::StrCat(absl::Hex(a, absl::kZeroPad16), absl::Hex(b, absl::kZeroPad16));
  }

 private:
  static uint64_t Rotate(uint64_t x, int bits) { return x << bits | x >> (64 - bits); }

  static uint64_t Finish(uint64_t x) {  // every bit of x reaches every bit of the result
    x = (x ^ x >> 33) * 0xff51afd7ed558ccdu;
    x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53u;
    return x ^ x >> 33;
  }

  static uint64_t Load8(const char* p) {  // little-endian everywhere; compilers make it one load
    auto byte = [p](int i) { return uint64_t{static_cast<unsigned char>(p[i])} << (8 * i); };
    return byte(0) | byte(1) | byte(2) | byte(3) | byte(4) | byte(5) | byte(6) | byte(7);
  }

  uint64_t a_ = 0x243f6a8885a308d3u;
  uint64_t b_ = 0x13198a2e03707344u;
};

void Add(const Attrs& attrs, Digest& d) {
  d.Number(attrs.size());
  for (const auto& [name, value] : attrs) {
    d.Text(name);
    d.Number(value.index());
    if (const auto* i = std::get_if<int64_t>(&value)) {
      d.Number(*i);
    } else if (const auto* f = std::get_if<double>(&value)) {
      uint64_t bits;
      std::memcpy(&bits, f, sizeof(bits));
      d.Word(bits);
    } else if (const auto* s = std::get_if<std::string>(&value)) {
      d.Text(*s);
    } else if (const auto* b = std::get_if<bool>(&value)) {
      d.Number(*b);
    }
  }
}

void Add(const Node& node, Digest& d) {
  d.Text(node.name);
  d.Text(node.op);
  d.Numbers(node.inputs);
  d.Numbers(node.outputs);
  d.Numbers(node.control);
  Add(node.attrs, d);
  d.Number(node.async);
  d.Number(node.partner);
  d.Number(node.is_collective);
  d.Number(node.collective.op);
  d.Text(node.collective.group);
  d.Number(node.collective.dtype);
  d.Number(node.collective.count);
}

void Add(const Value& value, Digest& d) {
  d.Text(value.name);
  d.Number(value.dtype);
  d.Numbers(value.shape);
  d.Number(value.sharding);
  d.Number(value.buffer);
  d.Number(value.offset);
  d.Number(value.own_shard);
  d.Text(value.group);
  d.Number(value.bucket);
}

void Add(const Buffer& buffer, Digest& d) {
  d.Text(buffer.name);
  d.Number(buffer.bytes);
  d.Number(buffer.tier);
  d.Number(buffer.kind);
  d.Number(buffer.persistent);
}

void Add(const Bucket& bucket, Digest& d) {
  d.Text(bucket.name);
  d.Number(bucket.numel);
  d.Number(bucket.slots.size());
  for (const ParamSlot& slot : bucket.slots) {
    d.Number(slot.stage);
    d.Number(slot.param);
    d.Number(slot.offset);
    d.Number(slot.numel);
  }
}

void Add(const Lane& lane, Digest& d) {
  d.Text(lane.name);
  d.Number(lane.kind);
  d.Numbers(lane.order);
}

void Add(const Edge& edge, Digest& d) {
  d.Number(edge.from);
  d.Number(edge.to);
  d.Number(edge.kind);
}

void Add(const Credit& credit, Digest& d) {
  d.Text(credit.name);
  d.Number(credit.limit);
  d.Text(credit.unit);
  d.Number(credit.holders.size());
  for (const Credit::Holder& holder : credit.holders) {
    d.Number(holder.take);
    d.Number(holder.give);
    d.Number(holder.amount);
  }
}

template <typename T>
void AddAll(const std::vector<T>& list, Digest& d) {
  d.Number(list.size());
  for (const T& item : list) Add(item, d);
}

void Add(const Graph& graph, Digest& d) {
  d.Text(graph.name());
  AddAll(graph.nodes(), d);
  AddAll(graph.values(), d);
  AddAll(graph.buffers(), d);
  AddAll(graph.buckets(), d);
  d.Number(graph.groups().size());
  for (const auto& [group, size] : graph.groups()) {
    d.Text(group);
    d.Number(size);
  }
}

void Add(const RankPlan& plan, Digest& d) {
  d.Numbers(plan.ranks);
  AddAll(plan.lanes, d);
  AddAll(plan.edges, d);
  d.Numbers(plan.offset);
  d.Numbers(plan.arena_bytes);
  d.Numbers(plan.persistent_bytes);
  AddAll(plan.credits, d);
}

}  // namespace

std::string PlanHash(const Plan& plan) {
  Digest d;
  d.Text("millrace plan 1");  // counts up when the stream changes its meaning
  d.Text(plan.name);
  d.Text(plan.machine);
  d.Number(plan.world_size);
  Add(plan.graph, d);
  AddAll(plan.rank_plans, d);
  d.Numbers(plan.budget_bytes);
  if (plan.separate_memory) d.Text("separate memory");
  return d.Hex();
}

}  // namespace millrace
