// What the kinds of damage in mutation_plan.cc and mutation_graph.cc share. Internal to the mutation engine.
#ifndef MILLRACE_GRAPH_VERIFY_MUTATION_TOOLS_H_
#define MILLRACE_GRAPH_VERIFY_MUTATION_TOOLS_H_

#include <functional>
#include <string>
#include <vector>

#include "graph/base/random.h"
#include "graph/plan/plan.h"

namespace millrace {
namespace mutation_internal {

// Repeatable choices.
class Dice {
 public:
  explicit Dice(uint64_t seed) : rng_(seed, HashString("mutation")) {}
  int Below(int n) { return static_cast<int>(rng_.Below(index_++, static_cast<uint64_t>(n))); }
  template <typename T>
  const T& Of(const std::vector<T>& list) {
    return list[Below(static_cast<int>(list.size()))];
  }

 private:
  CounterRng rng_;
  uint64_t index_ = 0;
};

// A kind of damage: breaks the plan and says what it did, or returns "" and may leave the plan in any state.
using Breaker = std::string (*)(Plan* plan, Dice* dice);

inline NodeId BeginOf(const Graph& g, NodeId n) {
  return g.nodes()[n].async == AsyncRole::kDone ? g.nodes()[n].partner : n;
}
inline NodeId EndOf(const Graph& g, NodeId n) {
  return g.nodes()[n].async == AsyncRole::kStart ? g.nodes()[n].partner : n;
}

// Replaces the graph by an edited one; false when the graph itself refuses the edit (then the graph's own
// checks stop this damage long before a plan is made).
bool EditGraph(Plan* plan, const std::function<void(GraphBuilder*)>& edit);
// Adds the edges that a planner would have added for the values that `n` reads, unless they close a cycle.
void AddDataEdges(Plan* plan, NodeId n);
// Writes the lanes' edges again after their order was changed.
void RebuildLaneEdges(RankPlan* rank_plan);
// Gives a rank a plan of its own and returns it.
RankPlan* SplitRank(Plan* plan, int rank);
// Replaces one input and adds the edges for it; "" when that closes a cycle.
std::string Rewire(Plan* plan, NodeId node, size_t input, ValueId value);
// Nodes for which `test` holds.
std::vector<NodeId> NodesWhere(const Graph& graph, const std::function<bool(const Node&)>& test);

// mutation_plan.cc: edges, lanes, ranks, memory.
std::string DropEdge(Plan*, Dice*);
std::string DropDoneEdges(Plan*, Dice*);
std::string ReverseEdge(Plan*, Dice*);
std::string SwapLaneOrder(Plan*, Dice*);
std::string SwapEngineOrder(Plan*, Dice*);
std::string DuplicateNode(Plan*, Dice*);
std::string RemoveNode(Plan*, Dice*);
std::string MoveNodeToWrongLane(Plan*, Dice*);
std::string PutDoneBeforeStart(Plan*, Dice*);
std::string CloseCreditCycle(Plan*, Dice*);
std::string LowerCreditLimit(Plan*, Dice*);
std::string SwapCollectives(Plan*, Dice*);
std::string RemoveRank(Plan*, Dice*);
std::string ServeRankTwice(Plan*, Dice*);
std::string OverlapBuffers(Plan*, Dice*);
std::string OverlapPersistent(Plan*, Dice*);
std::string MoveOutsideArena(Plan*, Dice*);
std::string Misalign(Plan*, Dice*);
std::string ExceedBudget(Plan*, Dice*);
std::string ShrinkArena(Plan*, Dice*);

std::string Harmless(Plan*, Dice*);

// mutation_graph.cc: collectives, gradients, parameters, copies between tiers.
std::string ChangeCount(Plan*, Dice*);
std::string ChangeDType(Plan*, Dice*);
std::string ChangeGroup(Plan*, Dice*);
std::string SwapPartners(Plan*, Dice*);
std::string DropGradient(Plan*, Dice*);
std::string CountGradientTwice(Plan*, Dice*);
std::string ChangeScale(Plan*, Dice*);
std::string UpdateBeforeReduce(Plan*, Dice*);
std::string UseGradientOfStepBefore(Plan*, Dice*);
std::string DeclareDelay(Plan*, Dice*);
std::string UpdateTwice(Plan*, Dice*);
std::string ReadShard(Plan*, Dice*);
std::string GatherStale(Plan*, Dice*);
std::string ShiftSlice(Plan*, Dice*);
std::string Unclip(Plan*, Dice*);
std::string KeepLossScale(Plan*, Dice*);
std::string UnscaleOnceMore(Plan*, Dice*);
std::string DropCopy(Plan*, Dice*);
std::string SwapCopies(Plan*, Dice*);
std::string UpdateAcrossTiers(Plan*, Dice*);
std::string DropNorm(Plan*, Dice*);
std::string SwapSaved(Plan*, Dice*);

// mutation_sides.cc: devices with memory of their own.
std::string LeaveOutCrossing(Plan*, Dice*);
std::string UnpinBuffer(Plan*, Dice*);
std::string PutOnDevice(Plan*, Dice*);

}  // namespace mutation_internal
}  // namespace millrace

#endif  // MILLRACE_GRAPH_VERIFY_MUTATION_TOOLS_H_
