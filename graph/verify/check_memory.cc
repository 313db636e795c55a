// Peak memory: every arena within its tier's budget, and the bytes that are surely alive together -
// counted again from the graph and the edges - within the arena and within the bound that the
// planner states.
//
// A buffer is surely alive while an issue-lane node runs when some access to it precedes (or is)
// that node and some access follows (or is) it. The sum over buffers, maximal over the lane, is
// what any placement needs in any execution of the plan.
#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "graph/verify/access.h"
#include "graph/verify/check.h"

namespace millrace {
namespace verify_internal {
namespace {

// First issue-lane position at or after which node n has surely ended; the lane's length when none.
std::vector<int> EarliestFollower(const Context& c, const RankView& view) {
  const std::vector<NodeId>& lane = view.plan->lanes[0].order;
  std::vector<int> follower(c.num_nodes(), static_cast<int>(lane.size()));
  for (size_t i = 0; i < lane.size(); ++i) follower[lane[i]] = static_cast<int>(i);
  std::vector<std::vector<NodeId>> successors(c.num_nodes());
  for (const Edge& e : view.plan->edges) successors[e.from].push_back(e.to);
  const std::vector<NodeId>& order = view.before->order();
  for (auto it = order.rbegin(); it != order.rend(); ++it) {
    for (NodeId to : successors[*it]) follower[*it] = std::min(follower[*it], follower[to]);
  }
  return follower;
}

// Last issue-lane position that has surely begun when n begins; -1 when none.
std::vector<int> LatestPredecessor(const Context& c, const RankView& view) {
  const std::vector<NodeId>& lane = view.plan->lanes[0].order;
  std::vector<int> latest(c.num_nodes(), -1);
  for (size_t i = 0; i < lane.size(); ++i) latest[lane[i]] = static_cast<int>(i);
  std::vector<std::vector<NodeId>> successors(c.num_nodes());
  for (const Edge& e : view.plan->edges) successors[e.from].push_back(e.to);
  for (NodeId n : view.before->order()) {
    for (NodeId to : successors[n]) latest[to] = std::max(latest[to], latest[n]);
  }
  return latest;
}

struct Peak {
  int64_t bytes = 0;
  NodeId node = -1;
};

std::array<Peak, kTiers> SurelyAlive(const Context& c, const RankView& view) {
  const std::vector<NodeId>& lane = view.plan->lanes[0].order;
  const std::vector<int> follower = EarliestFollower(c, view), latest = LatestPredecessor(c, view);
  const size_t n = c.graph().buffers().size();
  std::vector<int> from(n, std::numeric_limits<int>::max()), to(n, -1);
  for (const Access& a : Accesses(c, view, view.rank)) {
    const BufferId b = c.value(a.value).buffer;
    from[b] = std::min(from[b], follower[a.begin]);
    to[b] = std::max(to[b], latest[a.end]);
  }
  std::array<Peak, kTiers> peaks{};
  std::array<std::vector<int64_t>, kTiers> change;
  std::array<int64_t, kTiers> alive{};
  for (auto& tier : change) tier.assign(lane.size() + 1, 0);
  for (size_t b = 0; b < n; ++b) {
    const Buffer& buffer = c.graph().buffers()[b];
    const int tier = static_cast<int>(buffer.tier);
    if (buffer.persistent) {
      alive[tier] += buffer.bytes;
    } else if (from[b] <= to[b]) {
      change[tier][from[b]] += buffer.bytes;
      change[tier][to[b] + 1] -= buffer.bytes;
    }
  }
  for (int t = 0; t < kTiers; ++t) {
    peaks[t] = {alive[t], -1};
    for (size_t i = 0; i < lane.size(); ++i) {
      alive[t] += change[t][i];
      if (alive[t] > peaks[t].bytes) peaks[t] = {alive[t], lane[i]};
    }
  }
  return peaks;
}

}  // namespace

void CheckMemory(const Context& context, Report* report) {
  std::string facts;
  for (const RankView& view : context.ranks) {
    const RankPlan& rp = *view.plan;
    const std::array<Peak, kTiers> peaks = SurelyAlive(context, view);
    for (int t = 0; t < kTiers; ++t) {
      const int64_t budget = context.plan->budget_bytes[t];
      const absl::string_view tier = Name(static_cast<Tier>(t));
      const std::string node = peaks[t].node >= 0 ? context.node(peaks[t].node).name : "";
      if (budget > 0 && rp.arena_bytes[t] > budget) {
        report->Add(view.rank, node,
                    absl::StrCat("the ", tier, " arena of ", Bytes(rp.arena_bytes[t]),
                                 " exceeds the budget of ", Bytes(budget)));
      }
      if (peaks[t].bytes > rp.arena_bytes[t]) {
        report->Add(view.rank, node,
                    absl::StrCat(Bytes(peaks[t].bytes), " are alive together, more than the ", tier,
                                 " arena of ", Bytes(rp.arena_bytes[t])));
      }
      if (peaks[t].bytes > rp.live_bytes_bound[t] || rp.live_bytes_bound[t] > rp.arena_bytes[t]) {
        report->Add(view.rank, node,
                    absl::StrCat("the plan states a bound of ", Bytes(rp.live_bytes_bound[t]),
                                 " for live ", tier, " bytes, but at least ", Bytes(peaks[t].bytes),
                                 " live together and the arena has ", Bytes(rp.arena_bytes[t])));
      }
      if (rp.persistent_bytes[t] > rp.arena_bytes[t] || rp.persistent_bytes[t] < 0) {
        report->Add(view.rank, "",
                    absl::StrCat("persistent part of the ", tier, " arena has ",
                                 Bytes(rp.persistent_bytes[t])));
      }
      if (rp.arena_bytes[t] == 0 || &view != &context.ranks.front()) continue;
      absl::StrAppend(&facts, facts.empty() ? "" : "; ", tier, ": ", Bytes(rp.arena_bytes[t]),
                      " of ", budget > 0 ? Bytes(budget) : "no budget", ", at least ",
                      Bytes(peaks[t].bytes), " alive together");
    }
  }
  report->set_facts(facts.empty() ? "no memory used" : facts);
}

}  // namespace verify_internal
}  // namespace millrace
