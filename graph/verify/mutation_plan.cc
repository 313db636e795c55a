// Damage to a plan's edges, lanes, ranks and memory.
#include <algorithm>
#include <iterator>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "graph/verify/mutation_tools.h"
#include "graph/verify/oracle.h"

namespace millrace {
namespace mutation_internal {
namespace {

constexpr int kTries = 40;

const std::string& NameOf(const Plan& plan, NodeId n) { return plan.graph.nodes()[n].name; }

RankPlan& AnyRankPlan(Plan* plan, Dice* dice) {
  return plan->rank_plans[dice->Below(static_cast<int>(plan->rank_plans.size()))];
}

void EraseEdges(RankPlan* rp, const std::function<bool(const Edge&)>& test) {
  rp->edges.erase(std::remove_if(rp->edges.begin(), rp->edges.end(), test), rp->edges.end());
}

// Tries `change` on copies of the plan until one is unsound.
std::string UntilUnsound(Plan* plan, const std::function<std::string(Plan*)>& change) {
  for (int i = 0; i < kTries; ++i) {
    Plan candidate = *plan;
    const std::string what = change(&candidate);
    const std::string harm = what.empty() ? "" : Unsound(candidate);
    if (harm.empty()) continue;
    *plan = std::move(candidate);
    return absl::StrCat(what, " (", harm, ")");
  }
  return "";
}

// Indices of lanes other than the issue lane with at least `least` nodes.
std::vector<size_t> Engines(const RankPlan& rp, size_t least) {
  std::vector<size_t> found;
  for (size_t l = 1; l < rp.lanes.size(); ++l) {
    if (rp.lanes[l].order.size() >= least) found.push_back(l);
  }
  return found;
}

std::vector<BufferId> Buffers(const Plan& plan, bool persistent) {
  std::vector<BufferId> found;
  for (size_t i = 0; i < plan.graph.buffers().size(); ++i) {
    const Buffer& b = plan.graph.buffers()[i];
    if (b.bytes > 0 && b.persistent == persistent) found.push_back(static_cast<BufferId>(i));
  }
  return found;
}

const std::string& BufferName(const Plan& plan, BufferId b) { return plan.graph.buffers()[b].name; }

}  // namespace

std::string DropEdge(Plan* plan, Dice* dice) {
  return UntilUnsound(plan, [&](Plan* p) {
    RankPlan& rp = AnyRankPlan(p, dice);
    if (rp.edges.empty()) return std::string();
    const Edge edge = dice->Of(rp.edges);
    EraseEdges(&rp, [&](const Edge& e) { return e.from == edge.from && e.to == edge.to; });
    return absl::StrCat("edges ", NameOf(*p, edge.from), " -> ", NameOf(*p, edge.to), " dropped");
  });
}

std::string DropDoneEdges(Plan* plan, Dice* dice) {
  return UntilUnsound(plan, [&](Plan* p) {
    RankPlan& rp = AnyRankPlan(p, dice);
    const std::vector<size_t> engines = Engines(rp, 1);
    if (engines.empty()) return std::string();
    const NodeId done = dice->Of(rp.lanes[dice->Of(engines)].order);
    EraseEdges(&rp, [&](const Edge& e) { return e.from == done && e.kind != EdgeKind::kLane; });
    return absl::StrCat("nothing waits for ", NameOf(*p, done));
  });
}

std::string ReverseEdge(Plan* plan, Dice* dice) {
  return UntilUnsound(plan, [&](Plan* p) {
    RankPlan& rp = AnyRankPlan(p, dice);
    if (rp.edges.empty()) return std::string();
    Edge& edge = rp.edges[dice->Below(static_cast<int>(rp.edges.size()))];
    std::swap(edge.from, edge.to);
    return absl::StrCat("edge ", NameOf(*p, edge.to), " -> ", NameOf(*p, edge.from), " reversed");
  });
}

std::string SwapLaneOrder(Plan* plan, Dice* dice) {
  return UntilUnsound(plan, [&](Plan* p) {
    RankPlan& rp = AnyRankPlan(p, dice);
    std::vector<NodeId>& order = rp.lanes[0].order;
    if (order.size() < 2) return std::string();
    const int i = dice->Below(static_cast<int>(order.size()) - 1);
    std::swap(order[i], order[i + 1]);
    RebuildLaneEdges(&rp);
    return absl::StrCat(NameOf(*p, order[i]), " moved before ", NameOf(*p, order[i + 1]));
  });
}

std::string SwapEngineOrder(Plan* plan, Dice* dice) {
  RankPlan& rp = AnyRankPlan(plan, dice);
  const std::vector<size_t> engines = Engines(rp, 2);
  if (engines.empty()) return "";
  std::vector<NodeId>& order = rp.lanes[dice->Of(engines)].order;
  const int i = dice->Below(static_cast<int>(order.size()) - 1);
  std::swap(order[i], order[i + 1]);
  RebuildLaneEdges(&rp);
  return absl::StrCat(NameOf(*plan, order[i]), " listed before ", NameOf(*plan, order[i + 1]),
                      " against the order of their starts");
}

std::string DuplicateNode(Plan* plan, Dice* dice) {
  RankPlan& rp = AnyRankPlan(plan, dice);
  Lane& lane = rp.lanes[dice->Below(static_cast<int>(rp.lanes.size()))];
  if (lane.order.empty()) return "";
  const NodeId n = dice->Of(lane.order);
  lane.order.insert(lane.order.begin() + dice->Below(static_cast<int>(lane.order.size())), n);
  return absl::StrCat(NameOf(*plan, n), " twice in lane ", lane.name);
}

std::string RemoveNode(Plan* plan, Dice* dice) {
  const int rank = dice->Below(plan->world_size);
  RankPlan* rp = SplitRank(plan, rank);
  Lane& lane = rp->lanes[dice->Below(static_cast<int>(rp->lanes.size()))];
  if (lane.order.empty()) return "";
  const NodeId n = dice->Of(lane.order);
  lane.order.erase(std::find(lane.order.begin(), lane.order.end(), n));
  EraseEdges(rp, [&](const Edge& e) { return e.from == n || e.to == n; });
  RebuildLaneEdges(rp);
  return absl::StrCat(NameOf(*plan, n), " missing on rank ", rank);
}

std::string MoveNodeToWrongLane(Plan* plan, Dice* dice) {
  RankPlan& rp = AnyRankPlan(plan, dice);
  if (rp.lanes.size() < 2) return "";
  const size_t from = static_cast<size_t>(dice->Below(static_cast<int>(rp.lanes.size())));
  const size_t to = from == 0 ? 1 : 0;
  if (rp.lanes[from].order.empty()) return "";
  const NodeId n = dice->Of(rp.lanes[from].order);
  std::vector<NodeId>& order = rp.lanes[from].order;
  order.erase(std::find(order.begin(), order.end(), n));
  rp.lanes[to].order.push_back(n);
  return absl::StrCat(NameOf(*plan, n), " moved to lane ", rp.lanes[to].name);
}

std::string PutDoneBeforeStart(Plan* plan, Dice* dice) {
  RankPlan& rp = AnyRankPlan(plan, dice);
  const std::vector<size_t> engines = Engines(rp, 1);
  if (engines.empty()) return "";
  const NodeId done = dice->Of(rp.lanes[dice->Of(engines)].order);
  const NodeId start = plan->graph.nodes()[done].partner;
  EraseEdges(&rp, [&](const Edge& e) { return e.from == start && e.to == done; });
  rp.edges.push_back({done, start, EdgeKind::kAsync});
  return absl::StrCat(NameOf(*plan, done), " before its start");
}

std::string CloseCreditCycle(Plan* plan, Dice* dice) {
  RankPlan& rp = AnyRankPlan(plan, dice);
  const Oracle oracle(*plan, rp);
  const int n = static_cast<int>(plan->graph.nodes().size());
  for (int i = 0; i < kTries && n > 0; ++i) {
    const NodeId a = dice->Below(n), b = dice->Below(n);
    if (!oracle.Precedes(a, b)) continue;
    rp.edges.push_back({b, a, EdgeKind::kCredit});
    return absl::StrCat(NameOf(*plan, a), " takes a credit that ", NameOf(*plan, b), " gives back");
  }
  return "";
}

// The most that may be held at once, by the definition; then a limit of one less.
std::string LowerCreditLimit(Plan* plan, Dice* dice) {
  RankPlan& rp = AnyRankPlan(plan, dice);
  if (rp.credits.empty()) {
    Credit staging;
    staging.name = "staging";
    staging.unit = "buffers";
    for (size_t l : Engines(rp, 1)) {
      for (NodeId done : rp.lanes[l].order) {
        staging.holders.push_back({plan->graph.nodes()[done].partner, done, 1});
      }
    }
    if (staging.holders.empty()) return "";
    rp.credits.push_back(std::move(staging));
  }
  Credit& credit = rp.credits[dice->Below(static_cast<int>(rp.credits.size()))];
  const Oracle oracle(*plan, rp);
  int64_t most = 0;
  for (const Credit::Holder& at : credit.holders) {
    int64_t held = 0;
    for (const Credit::Holder& h : credit.holders) {
      const bool taken = h.take == at.take || oracle.Precedes(h.take, at.take);
      if (taken && !oracle.Precedes(h.give, at.take)) held += h.amount;
    }
    most = std::max(most, held);
  }
  if (most == 0) return "";
  credit.limit = most - 1;
  return absl::StrCat("credit ", credit.name, " limited to ", credit.limit, " where ", most,
                      " are held");
}

std::string SwapCollectives(Plan* plan, Dice* dice) {
  if (plan->world_size < 2) return "";
  const int rank = dice->Below(plan->world_size);
  RankPlan* rp = SplitRank(plan, rank);
  std::vector<NodeId>& order = rp->lanes[0].order;
  std::map<std::string, std::vector<size_t>>
      by_group;  // only members of one group must agree on the order
  for (size_t i = 0; i < order.size(); ++i) {
    const Node& node = plan->graph.nodes()[order[i]];
    if (node.is_collective && plan->graph.group_size(node.collective.group) > 1) {
      by_group[node.collective.group].push_back(i);
    }
  }
  if (by_group.empty()) return "";
  const std::vector<size_t>& places =
      std::next(by_group.begin(), dice->Below(static_cast<int>(by_group.size())))->second;
  if (places.size() < 2) return "";
  const int k = dice->Below(static_cast<int>(places.size()) - 1);
  const NodeId a = order[places[k]], b = order[places[k + 1]];
  std::swap(order[places[k]], order[places[k + 1]]);
  for (size_t l = 1; l < rp->lanes.size(); ++l) {
    std::vector<NodeId>& engine = rp->lanes[l].order;
    const auto i = std::find(engine.begin(), engine.end(), EndOf(plan->graph, a));
    const auto j = std::find(engine.begin(), engine.end(), EndOf(plan->graph, b));
    if (i != engine.end() && j != engine.end()) std::iter_swap(i, j);
  }
  RebuildLaneEdges(rp);
  return absl::StrCat("rank ", rank, ": ", NameOf(*plan, a), " and ", NameOf(*plan, b), " swapped");
}

std::string RemoveRank(Plan* plan, Dice* dice) {
  if (plan->world_size < 2) return "";
  std::vector<int>& ranks = AnyRankPlan(plan, dice).ranks;
  const int rank = dice->Of(ranks);
  ranks.erase(std::find(ranks.begin(), ranks.end(), rank));
  return absl::StrCat("rank ", rank, " has no plan");
}

std::string ServeRankTwice(Plan* plan, Dice* dice) {
  RankPlan again = AnyRankPlan(plan, dice);
  again.ranks = {dice->Of(again.ranks)};
  const int rank = again.ranks[0];
  plan->rank_plans.push_back(std::move(again));
  return absl::StrCat("rank ", rank, " has two plans");
}

namespace {

// Puts a buffer where another one begins; "" when it does not fit there.
std::string MoveBuffer(Plan* p, Dice* dice) {
  RankPlan& rp = AnyRankPlan(p, dice);
  const std::vector<BufferId> passing = Buffers(*p, false);
  if (passing.size() < 2) return "";
  const BufferId a = dice->Of(passing), b = dice->Of(passing);
  const Buffer& moved = p->graph.buffers()[a];
  const auto tier = static_cast<size_t>(moved.tier);
  if (rp.offset[a] == rp.offset[b] || moved.tier != p->graph.buffers()[b].tier) return "";
  if (rp.offset[b] + moved.bytes > rp.arena_bytes[tier]) return "";
  rp.offset[a] = rp.offset[b];
  return absl::StrCat("buffer ", BufferName(*p, a), " placed on ", BufferName(*p, b));
}

}  // namespace

std::string OverlapBuffers(Plan* plan, Dice* dice) {
  return UntilUnsound(plan, [&](Plan* p) { return MoveBuffer(p, dice); });
}

std::string Harmless(Plan* plan, Dice* dice) {
  const int kind = dice->Below(3);
  if (kind == 0 && plan->world_size > 1) {
    const int rank = dice->Below(plan->world_size);
    SplitRank(plan, rank);
    return absl::StrCat("rank ", rank, " has a copy of its plan");
  }
  if (kind == 1) {
    RankPlan& rp = AnyRankPlan(plan, dice);
    const Oracle oracle(*plan, rp);
    const int n = static_cast<int>(plan->graph.nodes().size());
    for (int i = 0; i < kTries && n > 0; ++i) {
      const NodeId a = dice->Below(n), b = dice->Below(n);
      if (!oracle.Precedes(a, b)) continue;
      rp.edges.push_back({a, b, EdgeKind::kControl});
      return absl::StrCat("edge ", NameOf(*plan, a), " -> ", NameOf(*plan, b), " added");
    }
    return "";
  }
  for (int i = 0; i < kTries; ++i) {
    Plan candidate = *plan;
    const std::string what = MoveBuffer(&candidate, dice);
    if (what.empty() || !Unsound(candidate).empty()) continue;
    *plan = std::move(candidate);
    return what;
  }
  return "";
}

std::string OverlapPersistent(Plan* plan, Dice* dice) {
  RankPlan& rp = AnyRankPlan(plan, dice);
  const std::vector<BufferId> kept = Buffers(*plan, true);
  if (kept.size() < 2) return "";
  const int i = dice->Below(static_cast<int>(kept.size()) - 1);
  if (plan->graph.buffers()[kept[i]].tier != plan->graph.buffers()[kept[i + 1]].tier) return "";
  rp.offset[kept[i]] = rp.offset[kept[i + 1]];
  return absl::StrCat(BufferName(*plan, kept[i]), " placed on ", BufferName(*plan, kept[i + 1]));
}

std::string MoveOutsideArena(Plan* plan, Dice* dice) {
  RankPlan& rp = AnyRankPlan(plan, dice);
  std::vector<BufferId> all = Buffers(*plan, dice->Below(2) == 0);
  if (all.empty()) return "";
  const BufferId b = dice->Of(all);
  const auto tier = static_cast<size_t>(plan->graph.buffers()[b].tier);
  rp.offset[b] = dice->Below(2) == 0 ? -64 : (rp.arena_bytes[tier] + 63) / 64 * 64;
  return absl::StrCat(BufferName(*plan, b), " placed at ", rp.offset[b]);
}

std::string Misalign(Plan* plan, Dice* dice) {
  RankPlan& rp = AnyRankPlan(plan, dice);
  const std::vector<BufferId> all = Buffers(*plan, dice->Below(2) == 0);
  if (all.empty()) return "";
  const BufferId b = dice->Of(all);
  rp.offset[b] += 1 + dice->Below(63);
  return absl::StrCat(BufferName(*plan, b), " placed at ", rp.offset[b]);
}

std::string ExceedBudget(Plan* plan, Dice* dice) {
  const RankPlan& rp = AnyRankPlan(plan, dice);
  for (int t = 0; t < kTiers; ++t) {
    if (rp.arena_bytes[t] < 2) continue;
    plan->budget_bytes[t] = rp.arena_bytes[t] - 1;
    return absl::StrCat("budget set to ", plan->budget_bytes[t]);
  }
  return "";
}

std::string ShrinkArena(Plan* plan, Dice* dice) {
  RankPlan& rp = AnyRankPlan(plan, dice);
  int64_t end = 0;
  for (size_t i = 0; i < rp.offset.size(); ++i) {
    if (plan->graph.buffers()[i].tier != Tier::kDevice) continue;
    end = std::max(end, rp.offset[i] + plan->graph.buffers()[i].bytes);
  }
  if (end == 0) return "";
  int64_t& arena = rp.arena_bytes[static_cast<size_t>(Tier::kDevice)];
  arena = end - 1 - dice->Below(static_cast<int>(std::min<int64_t>(end, 4096)));
  return absl::StrCat("arena of ", arena, " for buffers up to ", end);
}

}  // namespace mutation_internal
}  // namespace millrace
