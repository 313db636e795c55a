// Origins: from how many steps ago the batches in a value come, and over how many ranks it is the same.
//
//   load_batch            this step's batch (age 0), another one on every rank
//   any operation         the ages of its inputs together; the same where all inputs are
//   a collective          the same on all members, at least
//   read before written   what the step before left in these bytes, one step older
//
// Parameters and optimizer states hold all batches since the first: they are left out of the ages, and taken to be
// the same on all ranks - which is checked where they are written.
#include <algorithm>
#include <numeric>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "graph/verify/provenance.h"

namespace millrace {
namespace verify_internal {
namespace {

bool OfAllSteps(BufferKind kind) {
  return kind == BufferKind::kParameter || kind == BufferKind::kGathered ||
         kind == BufferKind::kOptimizerState;
}

struct ByteRange {
  int64_t low, high;
};

ByteRange BytesOf(const Graph& g, const Value& v) {
  const int64_t parts = v.own_shard ? g.group_size(v.group) : 1;
  return {v.offset, v.offset + v.bytes() * parts};
}

std::string StepsAgo(uint64_t ages) {
  if (ages == 0) return "no batch at all";
  std::vector<std::string> steps;
  for (int k = 0; k < 63; ++k) {
    if ((ages >> k & 1) != 0) steps.push_back(absl::StrCat(k));
  }
  if ((ages & kEverOlder) != 0) return "a sum over ever more steps";
  return absl::StrCat("batches of delay ", absl::StrJoin(steps, " and "));
}

}  // namespace

std::vector<std::vector<ValueId>> WrittenByBuffer(const Graph& graph) {
  std::vector<std::vector<ValueId>> written(graph.buffers().size());
  for (NodeId n : graph.topological_order()) {
    for (ValueId v : graph.nodes()[n].outputs) written[graph.values()[v].buffer].push_back(v);
  }
  return written;
}

ValueId LastIn(const Context& c, const std::vector<std::vector<ValueId>>& written, ValueId found) {
  const Graph& g = c.graph();
  const Value& want = c.value(found);
  const ByteRange bytes = BytesOf(g, want);
  const HappensBefore* before = c.acyclic ? c.ranks.front().before.get() : nullptr;
  ValueId last = found;
  for (ValueId v : written[want.buffer]) {
    const ByteRange other = BytesOf(g, c.value(v));
    if (other.low >= bytes.high || bytes.low >= other.high) continue;
    const NodeId held = g.producer(last);
    if (before != nullptr && held >= 0 && before->Precedes(g.producer(v), held)) continue;
    last = v;
  }
  const Value& left = c.value(last);
  const bool exact = left.offset == want.offset && left.bytes() == want.bytes() &&
                     left.own_shard == want.own_shard;
  return exact ? last : -1;
}

CarriedOver NothingCarried(const Context& c) {
  CarriedOver carried;
  const Graph& g = c.graph();
  for (size_t i = 0; i < g.values().size(); ++i) {
    const auto v = static_cast<ValueId>(i);
    const Value& value = c.value(v);
    if (value.buffer < 0 || value.buffer >= static_cast<BufferId>(g.buffers().size())) continue;
    const Buffer& buffer = c.buffer(value.buffer);
    if (!buffer.persistent || OfAllSteps(buffer.kind)) continue;
    if (g.producer(v) >= 0 || g.consumers(v).empty()) continue;
    carried[v].origin = {0, c.plan->world_size};
    carried[v].left = v;
  }
  return carried;
}

// Another step finds another number in it.
bool Provenance::Moves(ValueId loss_scale) const {
  if (loss_scale < 0) return false;
  return std::any_of(g_.nodes().begin(), g_.nodes().end(), [&](const Node& node) {
    const auto dynamic = node.attrs.find("dynamic");
    return node.op == "update_loss_scale" && node.inputs.size() > 1 &&
           node.inputs[1] == loss_scale &&
           (dynamic == node.attrs.end() || dynamic->second != AttrValue(false));
  });
}

CarriedOver Provenance::Left() const {
  CarriedOver left = carried_;
  const std::vector<std::vector<ValueId>> written = WrittenByBuffer(g_);
  for (auto& [found, carried] : left) {
    carried.left = LastIn(c_, written, found);
    const auto it = gradients_.find(carried.left);
    carried.is_gradient = it != gradients_.end();
    if (carried.is_gradient) {
      carried.gradient = it->second;
      for (auto& [key, term] : carried.gradient.terms) {
        if (Moves(term.factor.loss_scale)) term.factor.loss_scale = kOlderScale;
      }
    }
    if (carried.left < 0) {  // parts of several values: nothing is known
      carried.origin = {kEverOlder, 1};
      continue;
    }
    const Origin& origin = origins_[carried.left];
    carried.origin.ages = origin.ages << 1 | (origin.ages & kEverOlder);
    carried.origin.same = origin.same;
  }
  return left;
}

void Provenance::Flow(NodeId n) {
  const Node& last = c_.node(n);
  if (last.async == AsyncRole::kStart) return;  // looked at with its done
  const Node& node = c_.node(OperationBegin(g_, n));
  Origin origin{0, c_.plan->world_size};
  bool shards = false;
  for (ValueId v : node.inputs) {
    if (!OfAllSteps(Kind(v))) origin.ages |= origins_[v].ages;
    origin.same = std::gcd(origin.same, origins_[v].same);
    shards = shards || Sharded(c_.value(v));
  }
  if (node.op == "load_batch") origin = {1, 1};
  if (node.is_collective) {
    const int size = g_.group_size(node.collective.group);
    origin.same = node.collective.op == CollectiveOp::kAllToAll ? 1 : std::max(origin.same, size);
  }
  for (ValueId v : last.outputs) {
    origins_[v] = origin;
    // What is made of a shard and is none itself is another on every rank.
    if (shards && !node.is_collective && !Sharded(c_.value(v))) origins_[v].same = 1;
    const bool kept = c_.buffer(c_.value(v).buffer).persistent &&
                      (Kind(v) == BufferKind::kParameter || Kind(v) == BufferKind::kOptimizerState);
    if (!kept || origins_[v].same == c_.plan->world_size) continue;
    Say(last,
        absl::StrCat("writes ", c_.value(v).name, " from what is not the same on all ranks, ",
                     origins_[v].same > 1 ? absl::StrCat("only in groups of ", origins_[v].same)
                                          : std::string("but each rank's own"),
                     ": the ", c_.plan->world_size, " replicas would drift apart"),
        "sum it over all ranks first");
  }
}

void Provenance::CheckDelay(const Node& node, ValueId gradient) {
  const int64_t declared = IntAttr(node, "delay", 0);
  const uint64_t ages = origins_[gradient].ages;
  if (declared < 0 || declared > 62) {
    Say(node, absl::StrCat("declares a delay of ", declared, ", expected 0 to 62 steps"));
    return;
  }
  if (ages == 0 && declared == 0) return;  // of no batch: a step that loads none
  delays_.insert(declared);
  if (ages == uint64_t{1} << declared) return;
  int64_t is = -1;
  for (int k = 0; k < 63; ++k) {
    if (ages == uint64_t{1} << k) is = k;
  }
  Say(node,
      absl::StrCat("uses ", c_.value(gradient).name, ", which holds ", StepsAgo(ages),
                   ", but declares a delay of ", declared),
      is >= 0 ? absl::StrCat("set its attribute delay to ", is, " if that is meant") : "");
}

}  // namespace verify_internal
}  // namespace millrace
