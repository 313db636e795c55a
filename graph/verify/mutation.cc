#include "graph/verify/mutation.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "graph/plan/hash.h"
#include "graph/verify/mutation_tools.h"
#include "graph/verify/oracle.h"

namespace millrace {
namespace mutation_internal {

bool EditGraph(Plan* plan, const std::function<void(GraphBuilder*)>& edit) {
  GraphBuilder builder(plan->graph);
  edit(&builder);
  auto graph = std::move(builder).Build();
  if (!graph.ok()) return false;
  plan->graph = *std::move(graph);
  return true;
}

void AddDataEdges(Plan* plan, NodeId n) {
  const Graph& g = plan->graph;
  for (RankPlan& rp : plan->rank_plans) {
    const Oracle oracle(*plan, rp);
    for (ValueId v : g.nodes()[n].inputs) {
      if (g.producer(v) < 0) continue;
      const NodeId from = EndOf(g, g.producer(v)), to = BeginOf(g, n);
      if (from == to || oracle.Precedes(from, to) || oracle.Precedes(to, from)) continue;
      rp.edges.push_back({from, to, EdgeKind::kData});
    }
  }
}

std::string Rewire(Plan* plan, NodeId n, size_t input, ValueId value) {
  const std::vector<Value>& values = plan->graph.values();
  const std::string old = values[plan->graph.nodes()[n].inputs[input]].name;
  if (!EditGraph(plan, [&](GraphBuilder* b) { b->node(n).inputs[input] = value; })) return "";
  AddDataEdges(plan, n);
  return absl::StrCat(plan->graph.nodes()[n].name, " reads ", plan->graph.values()[value].name,
                      " instead of ", old);
}

void RebuildLaneEdges(RankPlan* rp) {
  std::vector<Edge>& edges = rp->edges;
  edges.erase(std::remove_if(edges.begin(), edges.end(),
                             [](const Edge& e) { return e.kind == EdgeKind::kLane; }),
              edges.end());
  for (const Lane& lane : rp->lanes) {
    for (size_t i = 1; i < lane.order.size(); ++i) {
      edges.push_back({lane.order[i - 1], lane.order[i], EdgeKind::kLane});
    }
  }
}

RankPlan* SplitRank(Plan* plan, int rank) {
  for (size_t i = 0; i < plan->rank_plans.size(); ++i) {
    std::vector<int>& ranks = plan->rank_plans[i].ranks;
    const auto it = std::find(ranks.begin(), ranks.end(), rank);
    if (it == ranks.end()) continue;
    if (ranks.size() == 1) return &plan->rank_plans[i];
    ranks.erase(it);
    RankPlan own = plan->rank_plans[i];
    own.ranks = {rank};
    plan->rank_plans.push_back(std::move(own));
    return &plan->rank_plans.back();
  }
  return &plan->rank_plans.front();
}

std::vector<NodeId> NodesWhere(const Graph& graph, const std::function<bool(const Node&)>& test) {
  std::vector<NodeId> found;
  for (size_t i = 0; i < graph.nodes().size(); ++i) {
    if (test(graph.nodes()[i])) found.push_back(static_cast<NodeId>(i));
  }
  return found;
}

namespace {

struct Kind {
  Damage damage;
  const char* name;
  Breaker breaker;
};

const Kind kKinds[] = {
    {Damage::kDroppedEdge, "dropped edge", DropEdge},
    {Damage::kDroppedDoneEdges, "result not waited for", DropDoneEdges},
    {Damage::kReversedEdge, "reversed edge", ReverseEdge},
    {Damage::kSwappedLaneOrder, "swapped lane order", SwapLaneOrder},
    {Damage::kSwappedEngineOrder, "swapped engine order", SwapEngineOrder},
    {Damage::kDuplicateNode, "duplicate node in a lane", DuplicateNode},
    {Damage::kMissingNode, "node missing on one rank", RemoveNode},
    {Damage::kNodeInWrongLane, "node in a wrong lane", MoveNodeToWrongLane},
    {Damage::kDoneBeforeStart, "done before start", PutDoneBeforeStart},
    {Damage::kCyclicCredit, "cyclic credit", CloseCreditCycle},
    {Damage::kCreditOverLimit, "credit over its limit", LowerCreditLimit},
    {Damage::kSwappedCollectives, "swapped collectives on one rank", SwapCollectives},
    {Damage::kMissingRank, "rank without a plan", RemoveRank},
    {Damage::kRankServedTwice, "rank with two plans", ServeRankTwice},
    {Damage::kOverlappingBuffers, "overlapping live buffers", OverlapBuffers},
    {Damage::kOverlappingPersistent, "overlapping persistent buffers", OverlapPersistent},
    {Damage::kOffsetOutsideArena, "offset outside the arena", MoveOutsideArena},
    {Damage::kMisaligned, "misaligned buffer", Misalign},
    {Damage::kBudgetExceeded, "budget exceeded", ExceedBudget},
    {Damage::kArenaTooSmall, "arena too small", ShrinkArena},
    {Damage::kWrongCount, "wrong count", ChangeCount},
    {Damage::kWrongDType, "wrong dtype", ChangeDType},
    {Damage::kWrongGroup, "wrong group", ChangeGroup},
    {Damage::kWrongPartner, "wrong partner", SwapPartners},
    {Damage::kDroppedGradient, "dropped gradient", DropGradient},
    {Damage::kGradientCountedTwice, "gradient counted twice", CountGradientTwice},
    {Damage::kWrongScale, "wrong scale", ChangeScale},
    {Damage::kUpdateBeforeReduce, "update before reduce", UpdateBeforeReduce},
    {Damage::kGradientOfStepBefore, "gradient of the step before", UseGradientOfStepBefore},
    {Damage::kWrongDelay, "wrong delay declared", DeclareDelay},
    {Damage::kDoubleUpdate, "double update", UpdateTwice},
    {Damage::kReadWhileSharded, "parameter read while sharded", ReadShard},
    {Damage::kStaleParameter, "stale parameter gathered", GatherStale},
    {Damage::kShiftedSlice, "shifted gradient slice", ShiftSlice},
    {Damage::kUnclippedUpdate, "unclipped update", Unclip},
    {Damage::kKeptLossScale, "loss scale not taken off", KeepLossScale},
    {Damage::kUnscaledOnceMore, "unscaled once more than scaled", UnscaleOnceMore},
    {Damage::kDroppedCopy, "copy left out", DropCopy},
    {Damage::kSwappedCopies, "swapped copies", SwapCopies},
    {Damage::kUpdateAcrossTiers, "update before its gradient's copy", UpdateAcrossTiers},
    {Damage::kNormWithoutBucket, "norm without a bucket", DropNorm},
    {Damage::kLeftOutCrossing, "reader without its copy", LeaveOutCrossing},
    {Damage::kPageableCopy, "pinned buffer in pageable memory", UnpinBuffer},
    {Damage::kHostWorkOnDevice, "the host's buffer on the device", PutOnDevice},
    {Damage::kSavedOfOther, "saved block of another forward", SwapSaved},
    {Damage::kWrongHash, "wrong hash", nullptr},
};

}  // namespace
}  // namespace mutation_internal

std::vector<Damage> AllDamage() {
  std::vector<Damage> all;
  for (const auto& kind : mutation_internal::kKinds) all.push_back(kind.damage);
  return all;
}

absl::string_view Name(Damage damage) {
  for (const auto& kind : mutation_internal::kKinds) {
    if (kind.damage == damage) return kind.name;
  }
  return "unknown";
}

std::optional<Mutant> Mutate(const Plan& plan, Damage damage, uint64_t seed) {
  Mutant mutant{plan, ""};
  mutation_internal::Dice dice(seed);
  if (damage == Damage::kWrongHash) {
    mutant.plan.hash = PlanHash(plan);
    char& digit = mutant.plan.hash[dice.Below(static_cast<int>(mutant.plan.hash.size()))];
    digit = digit == '0' ? '1' : '0';
    mutant.what = "one digit of the hash changed";
    return mutant;
  }
  for (const auto& kind : mutation_internal::kKinds) {
    if (kind.damage == damage) mutant.what = kind.breaker(&mutant.plan, &dice);
  }
  if (mutant.what.empty()) return std::nullopt;
  mutant.plan.hash = PlanHash(mutant.plan);  // a planner that errs signs its errors
  return mutant;
}

std::optional<Mutant> ChangeHarmlessly(const Plan& plan, uint64_t seed) {
  Mutant mutant{plan, ""};
  mutation_internal::Dice dice(seed);
  mutant.what = mutation_internal::Harmless(&mutant.plan, &dice);
  if (mutant.what.empty()) return std::nullopt;
  mutant.plan.hash = PlanHash(mutant.plan);
  return mutant;
}

}  // namespace millrace
