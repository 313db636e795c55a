#include "graph/plan/credits.h"

#include <algorithm>

#include "absl/container/flat_hash_set.h"

namespace millrace {
namespace {

struct Held {
  Credit::Holder holder;
  LiveRange range;
};

// The most intervals over one place.
int64_t MostAtATime(const std::vector<Held>& held) {
  std::vector<std::pair<int, int>> changes;
  for (const Held& h : held) {
    changes.push_back({h.range.birth, 1});
    changes.push_back({h.range.death + 1, -1});
  }
  std::sort(changes.begin(), changes.end());
  int64_t now = 0, most = 0;
  for (const auto& [place, change] : changes) {
    now += change;
    most = std::max(most, now);
  }
  return most;
}

}  // namespace

std::vector<Credit> FindCredits(const Graph& graph,
                                const std::vector<std::vector<Access>>& accesses,
                                const std::vector<LiveRange>& ranges, const Clocks& clocks,
                                std::vector<Edge>* edges) {
  std::vector<Held> gathered, gradients;
  for (size_t b = 0; b < graph.buffers().size(); ++b) {
    const Buffer& buffer = graph.buffers()[b];
    const bool window =
        buffer.kind == BufferKind::kGathered || buffer.kind == BufferKind::kGradient;
    if (buffer.persistent || !window || accesses[b].empty()) continue;
    Held held{.range = ranges[b]};
    NodeId take = accesses[b].front().begin, give = accesses[b].front().end;
    bool communicated = false;
    for (const Access& a : accesses[b]) {
      if (clocks.position(a.begin) < clocks.position(take)) take = a.begin;
      // Of nodes that do not precede each other, any may give back: the verifier asks for the last.
      if (clocks.Precedes(give, a.end)) give = a.end;
      communicated |= graph.nodes()[a.begin].is_collective;
    }
    if (!communicated || take == give) continue;
    const bool last = std::all_of(accesses[b].begin(), accesses[b].end(), [&](const Access& a) {
      return a.end == give || clocks.Precedes(a.end, give);
    });
    if (!last) continue;
    held.holder = {.take = take, .give = give, .amount = 1};
    (buffer.kind == BufferKind::kGathered ? gathered : gradients).push_back(held);
  }
  std::vector<Credit> credits;
  const auto add = [&](const char* name, std::vector<Held>& list) {
    if (list.empty()) return;
    std::stable_sort(list.begin(), list.end(),
                     [](const Held& a, const Held& b) { return a.range.birth < b.range.birth; });
    Credit credit{.name = name, .limit = MostAtATime(list), .unit = "buckets"};
    for (const Held& h : list) credit.holders.push_back(h.holder);
    credits.push_back(std::move(credit));
  };
  add("prefetch", gathered);
  add("gradients", gradients);
  absl::flat_hash_set<NodeId> takes, gives;
  for (const Credit& credit : credits) {
    for (const Credit::Holder& h : credit.holders) {
      takes.insert(h.take);
      gives.insert(h.give);
    }
  }
  for (Edge& e : *edges) {
    if (e.kind == EdgeKind::kControl && gives.contains(e.from) && takes.contains(e.to)) {
      e.kind = EdgeKind::kCredit;
    }
  }
  return credits;
}

}  // namespace millrace
