// Values within buffers, buffers within arenas, aligned; persistent buffers in their own part of
// the arena, where nothing else may lie, since their bytes must survive until the next step.
#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "graph/verify/check.h"

namespace millrace {
namespace verify_internal {
namespace {

void CheckValues(const Context& c, Report* report) {
  const Graph& graph = c.graph();
  const auto buffers = static_cast<BufferId>(graph.buffers().size());
  for (size_t i = 0; i < graph.values().size(); ++i) {
    const Value& v = graph.values()[i];
    const NodeId producer = graph.producer(static_cast<ValueId>(i));
    const std::string node = producer >= 0 ? c.node(producer).name : "";
    if (v.buffer < 0 || v.buffer >= buffers) {
      report->Add(-1, node, absl::StrCat("value ", v.name, " lies in no buffer"));
      continue;
    }
    const Buffer& b = c.buffer(v.buffer);
    const int64_t parts = v.own_shard ? graph.group_size(v.group) : 1;
    if (v.offset < 0 || v.offset + v.bytes() * parts > b.bytes) {
      report->Add(-1, node,
                  absl::StrCat("value ", v.name, " occupies bytes [", v.offset, ", ",
                               v.offset + v.bytes() * parts, ") of buffer ", b.name, ", which has ",
                               b.bytes));
    }
    if (v.bytes() > 0 && v.offset % SizeOf(v.dtype) != 0) {
      report->Add(-1, node,
                  absl::StrCat("value ", v.name, " at byte ", v.offset, " of buffer ", b.name,
                               " is not aligned to its type ", Name(v.dtype)));
    }
    if (producer < 0 && !b.persistent && b.kind != BufferKind::kInput &&
        !graph.consumers(static_cast<ValueId>(i)).empty()) {
      report->Add(-1, c.node(graph.consumers(static_cast<ValueId>(i)).front()).name,
                  absl::StrCat("reads ", v.name, ", which no node writes and whose buffer ", b.name,
                               " does not persist between steps"));
    }
  }
}

// The first node that touches each buffer: what a finding about the buffer names.
std::vector<std::string> FirstUsers(const Context& c) {
  std::vector<std::string> users(c.graph().buffers().size());
  for (const Node& node : c.graph().nodes()) {
    for (const std::vector<ValueId>* values : {&node.inputs, &node.outputs}) {
      for (ValueId v : *values) {
        const BufferId b = c.value(v).buffer;
        if (b >= 0 && users[b].empty()) users[b] = node.name;
      }
    }
  }
  return users;
}

struct Placed {
  int64_t low, high;
  BufferId buffer;
};

void CheckArenas(const Context& c, const RankView& view, const std::vector<std::string>& users,
                 Report* report) {
  const RankPlan& rp = *view.plan;
  std::vector<Placed> persistent[kTiers], passing[kTiers];
  for (size_t i = 0; i < c.graph().buffers().size(); ++i) {
    const Buffer& b = c.graph().buffers()[i];
    const int tier = static_cast<int>(b.tier);
    const int64_t low = rp.offset[i], high = low + b.bytes;
    if (low % AlignmentOf(b.tier) != 0) {
      report->Add(view.rank, users[i],
                  absl::StrCat("buffer ", b.name, " is placed at byte ", low, " of the ",
                               Name(b.tier), " arena, not a multiple of ", AlignmentOf(b.tier)));
    }
    if (low < 0 || high > rp.arena_bytes[tier]) {
      report->Add(view.rank, users[i],
                  absl::StrCat("buffer ", b.name, " is placed at bytes [", low, ", ", high,
                               ") outside the ", Name(b.tier), " arena of ", rp.arena_bytes[tier]));
    }
    if (b.persistent && high > rp.persistent_bytes[tier]) {
      report->Add(view.rank, users[i],
                  absl::StrCat("persistent buffer ", b.name, " ends at byte ", high,
                               ", behind the persistent part of ", rp.persistent_bytes[tier]));
    }
    if (b.bytes > 0) {
      (b.persistent ? persistent : passing)[tier].push_back({low, high, static_cast<BufferId>(i)});
    }
  }
  const auto by_low = [](const Placed& a, const Placed& b) { return a.low < b.low; };
  for (int t = 0; t < kTiers; ++t) {
    std::vector<Placed>& kept = persistent[t];
    std::sort(kept.begin(), kept.end(), by_low);
    for (size_t i = 1; i < kept.size(); ++i) {
      if (kept[i - 1].high <= kept[i].low) continue;
      report->Add(view.rank, users[kept[i].buffer],
                  absl::StrCat("persistent buffers ", c.buffer(kept[i - 1].buffer).name, " and ",
                               c.buffer(kept[i].buffer).name, " overlap"));
    }
    for (const Placed& p : passing[t]) {
      auto it = std::upper_bound(kept.begin(), kept.end(), p, by_low);
      if (it != kept.begin() && std::prev(it)->high > p.low) --it;
      if (it == kept.end() || it->low >= p.high) continue;
      report->Add(view.rank, users[p.buffer],
                  absl::StrCat("buffer ", c.buffer(p.buffer).name, " lies on bytes of ",
                               c.buffer(it->buffer).name, ", which persists between steps"));
    }
  }
}

}  // namespace

bool CheckLayout(const Context& context, Report* report) {
  CheckValues(context, report);
  bool placed = report->ok();
  const std::vector<std::string> users = FirstUsers(context);
  for (const RankView& view : context.ranks) {
    const size_t have = view.plan->offset.size(), want = context.graph().buffers().size();
    if (have != want) {
      report->Add(view.rank, "", absl::StrCat(have, " buffer offsets for ", want, " buffers"));
      placed = false;
      continue;
    }
    CheckArenas(context, view, users, report);
  }
  report->set_facts(absl::StrCat(
      Grouped(static_cast<int64_t>(context.graph().values().size())), " values in ",
      Grouped(static_cast<int64_t>(context.graph().buffers().size())),
      " buffers, all inside their arenas, ", AlignmentOf(Tier::kDevice), "-byte aligned"));
  return placed;
}

}  // namespace verify_internal
}  // namespace millrace
