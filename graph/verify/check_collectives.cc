// A collective works only when all members of the group issue the same one. Per group, the sequence
// of (operation, dtype, count, name) in the order of the issue lane must be the same on every
// member; and each operation's count must fit the values that it moves.
#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "graph/verify/check.h"
#include "graph/verify/rank_group.h"

namespace millrace {
namespace verify_internal {
namespace {

std::string Describe(const Node& node) {
  return absl::StrCat(node.name, " (", Name(node.collective.op), " of ", node.collective.count, " ",
                      Name(node.collective.dtype), ")");
}

bool SameOnTheWire(const Node& a, const Node& b) {
  return a.collective.op == b.collective.op && a.collective.dtype == b.collective.dtype &&
         a.collective.count == b.collective.count && a.name == b.name;
}

using Sequences = std::map<std::string, std::vector<NodeId>>;  // by group

Sequences IssueOrder(const Context& c, const RankView& view) {
  Sequences sequences;
  for (NodeId n : view.plan->lanes[0].order) {
    const Node& node = c.node(n);
    if (node.is_collective && node.async != AsyncRole::kDone) {
      sequences[node.collective.group].push_back(n);
    }
  }
  return sequences;
}

void Compare(const Context& c, const std::string& group, const std::vector<NodeId>& want,
             int want_rank, const std::vector<NodeId>& have, int have_rank, Report* report) {
  for (size_t k = 0; k < std::max(want.size(), have.size()); ++k) {
    if (k >= have.size() || k >= want.size()) {
      const bool missing = k >= have.size();
      const Node& node = c.node(missing ? want[k] : have[k]);
      report->Add(missing ? have_rank : want_rank, node.name,
                  absl::StrCat("group \"", group, "\": rank ", missing ? want_rank : have_rank,
                               " issues ", Describe(node), " as its collective ", k + 1, ", rank ",
                               missing ? have_rank : want_rank, " issues only ", k));
      return;
    }
    const Node &a = c.node(want[k]), &b = c.node(have[k]);
    if (SameOnTheWire(a, b)) continue;
    report->Add(have_rank, b.name,
                absl::StrCat("group \"", group, "\", collective ", k + 1, ": rank ", have_rank,
                             " issues ", Describe(b), ", rank ", want_rank, " ", Describe(a)));
    return;  // after the first difference the rest is shifted
  }
}

// Every member of every instance of a group against the instance's first member.
void CheckSequences(const Context& c, int64_t* compared, Report* report) {
  std::vector<Sequences> of_view;
  std::vector<int> view_of(c.plan->world_size, 0);
  for (size_t i = 0; i < c.ranks.size(); ++i) {
    of_view.push_back(IssueOrder(c, c.ranks[i]));
    for (int rank : c.ranks[i].plan->ranks) view_of[rank] = static_cast<int>(i);
  }
  static const std::vector<NodeId> kNone;
  const auto sequence = [&](int view, const std::string& group) -> const std::vector<NodeId>& {
    auto it = of_view[view].find(group);
    return it == of_view[view].end() ? kNone : it->second;
  };
  for (const auto& [group, size] : c.graph().groups()) {
    if (size < 1 || c.plan->world_size % size != 0) continue;
    std::map<std::pair<int, int>, bool> seen;  // pairs of rank plans
    for (int rank = 0; rank < c.plan->world_size; ++rank) {
      const int first = GroupInstance(*c.plan, group, rank);
      *compared += static_cast<int64_t>(sequence(view_of[rank], group).size());
      if (view_of[rank] == view_of[first]) continue;
      if (!seen.emplace(std::make_pair(view_of[first], view_of[rank]), true).second) continue;
      Compare(c, group, sequence(view_of[first], group), first, sequence(view_of[rank], group),
              rank, report);
    }
  }
}

struct Totals {
  int64_t elements = 0;
  const Value* wrong_type = nullptr;
};

Totals Sum(const Context& c, const std::vector<ValueId>& values, DType dtype) {
  Totals t;
  for (ValueId v : values) {
    t.elements += c.value(v).numel();
    if (c.value(v).dtype != dtype) t.wrong_type = &c.value(v);
  }
  return t;
}

// `count` is per rank: of what is sent (all_gather), received (reduce_scatter), of the whole
// otherwise. The inputs may be slices of a padded bucket, so they may add up to less than the
// collective moves.
void CheckCount(const Context& c, NodeId n, Report* report) {
  const Node& node = c.node(n);
  const CollectiveSpec& spec = node.collective;
  if (spec.op == CollectiveOp::kBarrier) return;
  const NodeId begin = OperationBegin(c.graph(), n), end = OperationEnd(c.graph(), n);
  if (n != begin) return;  // the pair was looked at with its start
  const int64_t size = c.graph().group_size(spec.group);
  Totals in = Sum(c, node.inputs, spec.dtype);
  const Totals out = Sum(c, c.node(end).outputs, spec.dtype);
  for (const Value* wrong : {in.wrong_type, out.wrong_type}) {
    if (wrong == nullptr) continue;
    report->Add(-1, node.name,
                absl::StrCat("moves elements of type ", Name(spec.dtype), " but ", wrong->name,
                             " is of type ", Name(wrong->dtype)));
  }
  const int64_t sent = spec.op == CollectiveOp::kReduceScatter ? spec.count * size : spec.count;
  const int64_t received = spec.op == CollectiveOp::kAllGather ? spec.count * size : spec.count;
  const bool padded_input = node.inputs.size() > 1 || spec.op == CollectiveOp::kReduceScatter ||
                            spec.op == CollectiveOp::kAllReduce;
  if (padded_input ? in.elements > sent : in.elements != sent) {
    report->Add(-1, node.name,
                absl::StrCat("sends ", sent, " elements for a count of ", spec.count, " on ", size,
                             " ranks, but its inputs hold ", in.elements));
  }
  if (out.elements != received) {
    report->Add(-1, node.name,
                absl::StrCat("receives ", received, " elements for a count of ", spec.count, " on ",
                             size, " ranks, but its outputs hold ", out.elements));
  }
}

// A collective moves one run of bytes, from its first input on, and a join names one: the inputs must be neighbours in
// one buffer, and what lies between or behind them may be padding, but no other part of the same sum.
void CheckRun(const Context& c, NodeId n, const std::vector<std::vector<ValueId>>& partial,
              Report* report) {
  const Node& node = c.node(n);
  const CollectiveSpec& spec = node.collective;
  if (node.inputs.empty() || n != OperationBegin(c.graph(), n)) return;
  const Value& some = c.value(node.inputs[0]);
  int64_t low = some.offset;
  for (ValueId v : node.inputs) {
    if (c.value(v).buffer != some.buffer) {
      report->Add(-1, node.name,
                  absl::StrCat("its inputs ", some.name, " and ", c.value(v).name,
                               " lie in different buffers, but it takes one run of bytes"));
      return;
    }
    low = std::min(low, c.value(v).offset);
  }
  int64_t bytes = 0;
  if (node.is_collective) {
    const bool scatters = spec.op == CollectiveOp::kReduceScatter;
    bytes = spec.count * SizeOf(spec.dtype) * (scatters ? c.graph().group_size(spec.group) : 1);
  } else {
    if (node.outputs.size() != 1) return;
    const Value& whole = c.value(node.outputs[0]);
    bytes = whole.bytes();
    if (whole.buffer != some.buffer || whole.offset != low) {
      report->Add(-1, node.name,
                  absl::StrCat("writes ", whole.name, " to other bytes than those of its inputs"));
    }
  }
  const int64_t high = low + bytes;
  if (!some.own_shard && high > c.buffer(some.buffer).bytes) {
    report->Add(
        -1, node.name,
        absl::StrCat("takes bytes [", low, ", ", high, ") of buffer ", c.buffer(some.buffer).name,
                     ", which has ", c.buffer(some.buffer).bytes));
  }
  std::vector<const Value*> inputs;
  for (ValueId v : node.inputs) inputs.push_back(&c.value(v));
  std::sort(inputs.begin(), inputs.end(),
            [](const Value* a, const Value* b) { return a->offset < b->offset; });
  const auto meet = [](const Value& a, const Value& b) {
    return a.offset < b.offset + b.bytes() && b.offset < a.offset + a.bytes();
  };
  for (size_t i = 1; i < inputs.size(); ++i) {
    if (!meet(*inputs[i - 1], *inputs[i])) continue;
    report->Add(
        -1, node.name,
        absl::StrCat("its inputs ", inputs[i - 1]->name, " and ", inputs[i]->name, " overlap"));
  }
  int64_t named = 0;
  for (const Value* v : inputs) named += v->bytes();
  if (named == bytes) return;  // nothing between them
  for (ValueId other : partial[some.buffer]) {
    const Value& v = c.value(other);
    const bool within = v.offset < high && low < v.offset + v.bytes();
    if (!within ||
        std::any_of(inputs.begin(), inputs.end(), [&](const Value* in) { return meet(*in, v); })) {
      continue;
    }
    report->Add(-1, node.name,
                absl::StrCat("takes the bytes of ", v.name, ", which is not among its inputs"),
                "nothing makes it wait for that value: add it to the inputs");
  }
}

}  // namespace

void CheckCollectives(const Context& context, Report* report) {
  int64_t compared = 0;
  CheckSequences(context, &compared, report);
  std::vector<std::vector<ValueId>> partial(context.graph().buffers().size());  // by buffer
  for (size_t i = 0; i < context.graph().values().size(); ++i) {
    const Value& v = context.graph().values()[i];
    if (v.sharding != Sharding::kPartial || v.bytes() == 0 || v.buffer < 0) continue;
    partial[v.buffer].push_back(static_cast<ValueId>(i));
  }
  int64_t collectives = 0;
  for (NodeId n = 0; n < context.num_nodes(); ++n) {
    const Node& node = context.node(n);
    if (node.is_collective || node.op == "join") CheckRun(context, n, partial, report);
    if (!node.is_collective) continue;
    if (node.async != AsyncRole::kDone) ++collectives;
    CheckCount(context, n, report);
  }
  report->set_facts(absl::StrCat(Grouped(collectives), " collectives in ",
                                 context.graph().groups().size(), " groups, ", Grouped(compared),
                                 " calls in the same order on all members"));
}

}  // namespace verify_internal
}  // namespace millrace
