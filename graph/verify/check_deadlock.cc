// Nothing may wait for itself, over all ranks together. The events of the whole world form one
// graph:
//   * every edge of every rank plan (credit waits are edges too),
//   * the issue lane runs in order, and so does each engine: done k before done k + 1,
//   * the k-th collective of a group ends nowhere before it has begun on every member, and a
//   communicator
//     runs its operations one after another.
// A cycle is a deadlock, and is printed node by node with ranks.
//
// Ranks that share a plan are folded into one when every group is the whole world: from any rank a
// group edge then leads to every rank, so a cycle of the folded graph exists exactly when one does
// in the full graph. With smaller groups and several rank plans, ranks are expanded.
#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "graph/verify/check.h"
#include "graph/verify/rank_group.h"

namespace millrace {
namespace verify_internal {
namespace {

class EventGraph {
 public:
  EventGraph(const Context& c, std::vector<std::pair<int, int>> copies)
      : c_(c), nodes_(c.num_nodes()), copies_(std::move(copies)) {}

  // Two events per copy and node: it begins, it ends.
  int Begin(int copy, NodeId n) const { return 2 * (copy * nodes_ + n); }
  int End(int copy, NodeId n) const { return Begin(copy, n) + 1; }

  void Build() {
    for (int copy = 0; copy < static_cast<int>(copies_.size()); ++copy) AddRank(copy);
    for (auto& [key, members] : calls_) {
      const int hub = AddHub();  // "all members have begun"
      for (const auto& [copy, n] : members) {
        Add(Begin(copy, n), hub);
        Add(hub, End(copy, OperationEnd(c_.graph(), n)));
      }
    }
  }

  int64_t edges() const { return static_cast<int64_t>(edges_.size()); }
  int64_t calls() const { return static_cast<int64_t>(calls_.size()); }

  // Node by node; the end and begin of one node are named once.
  std::vector<std::pair<int, NodeId>> FindNodeCycle() const {
    const int events = 2 * nodes_ * static_cast<int>(copies_.size()) + hubs_;
    std::vector<int32_t> first(events + 1, 0), targets(edges_.size());
    for (const auto& e : edges_) ++first[e.first + 1];
    for (int i = 0; i < events; ++i) first[i + 1] += first[i];
    std::vector<int32_t> fill(first.begin(), first.end() - 1);
    for (const auto& e : edges_) targets[fill[e.first]++] = e.second;
    std::vector<std::pair<int, NodeId>> cycle;
    for (int event : FindCycle(first, targets)) {
      const int index = event / 2;
      if (index >= nodes_ * static_cast<int>(copies_.size())) continue;  // a hub
      const std::pair<int, NodeId> at(copies_[index / nodes_].second, index % nodes_);
      if (cycle.empty() || cycle.back() != at) cycle.push_back(at);
    }
    if (cycle.size() > 1 && cycle.front() == cycle.back()) cycle.pop_back();
    return cycle;
  }

 private:
  void Add(int from, int to) { edges_.push_back({from, to}); }
  int AddHub() { return 2 * nodes_ * static_cast<int>(copies_.size()) + hubs_++; }

  void AddRank(int copy) {
    const auto [view_index, rank] = copies_[copy];
    const RankView& view = c_.ranks[view_index];
    for (NodeId n = 0; n < nodes_; ++n) Add(Begin(copy, n), End(copy, n));
    for (const Edge& e : view.plan->edges) Add(End(copy, e.from), Begin(copy, e.to));
    std::map<std::string, int> issued;  // per group
    std::map<std::string, NodeId> last_of_communicator;
    for (size_t l = 0; l < view.plan->lanes.size(); ++l) {
      const std::vector<NodeId>& order = view.plan->lanes[l].order;
      for (size_t i = 0; i < order.size(); ++i) {
        const NodeId n = order[i];
        if (i > 0 && order[i - 1] != n) {
          Add(End(copy, order[i - 1]), l == 0 ? Begin(copy, n) : End(copy, n));
        }
        const Node& node = c_.node(n);
        if (l > 0 || !node.is_collective || node.async == AsyncRole::kDone) continue;
        const std::string& group = node.collective.group;
        calls_[{group, GroupInstance(*c_.plan, group, rank), issued[group]++}].push_back({copy, n});
        const NodeId end = OperationEnd(c_.graph(), n);
        auto [it, first] = last_of_communicator.emplace(group, end);
        if (!first && it->second != end) Add(End(copy, it->second), End(copy, end));
        it->second = end;
      }
    }
  }

  const Context& c_;
  const int nodes_;
  const std::vector<std::pair<int, int>> copies_;  // rank view, rank
  int hubs_ = 0;
  std::vector<std::pair<int32_t, int32_t>> edges_;
  std::map<std::tuple<std::string, int, int>, std::vector<std::pair<int, NodeId>>> calls_;
};

bool FoldingIsExact(const Context& c) {
  if (c.ranks.size() == 1) return true;
  for (const auto& [group, size] : c.graph().groups()) {
    if (size != c.plan->world_size) return false;
  }
  return true;
}

}  // namespace

void CheckDeadlock(const Context& context, Report* report) {
  std::vector<std::pair<int, int>> copies;
  for (size_t v = 0; v < context.ranks.size(); ++v) {
    for (int rank : context.ranks[v].plan->ranks) {
      copies.push_back({static_cast<int>(v), rank});
      if (FoldingIsExact(context)) break;
    }
  }
  const size_t copied = copies.size();
  EventGraph events(context, std::move(copies));
  events.Build();
  const auto cycle = events.FindNodeCycle();
  if (!cycle.empty()) {
    std::string text = "waits for itself: ";
    for (const auto& [rank, n] : cycle) {
      absl::StrAppend(&text, context.node(n).name, " (rank ", rank, ") -> ");
    }
    absl::StrAppend(&text, context.node(cycle.front().second).name, " (rank ", cycle.front().first,
                    ")");
    report->Add(cycle.front().first, context.node(cycle.front().second).name, text);
  }
  report->set_facts(absl::StrCat(Grouped(events.edges()), " waits and ", Grouped(events.calls()),
                                 " collectives over ", context.plan->world_size, " ranks (", copied,
                                 copied == 1 ? " program" : " programs", ") form no cycle"));
}

}  // namespace verify_internal
}  // namespace millrace
