// Whether a plan orders what it must, answered the slow and obvious way: every pair of nodes by reachability,
// every pair of accesses against the definition. The tests hold the verifier's sweep against it, and the
// mutation engine asks it whether taking something away did any harm. Quadratic in time and memory: for plans
// of some hundred nodes. For tests.
#ifndef MILLRACE_GRAPH_VERIFY_ORACLE_H_
#define MILLRACE_GRAPH_VERIFY_ORACLE_H_

#include <string>
#include <vector>

#include "graph/plan/plan.h"

namespace millrace {

class Oracle {
 public:
  Oracle(const Plan& plan, const RankPlan& rank_plan);

  bool acyclic() const { return acyclic_; }
  // A path of edges leads from a to b.
  bool Precedes(NodeId a, NodeId b) const { return reach_[a][b]; }
  // Lane neighbours, values, control edges and asynchronous halves are ordered by edges.
  bool Ordered() const;
  // For this rank: no two conflicting accesses are unordered, and the last write before each read, in every
  // execution, is of the value read.
  bool FreeOfRaces(int rank) const;

 private:
  const Plan& plan_;
  const RankPlan& rp_;
  bool acyclic_ = true;
  std::vector<std::vector<bool>> reach_;
};

// Ordered and free of races on every rank.
bool Sound(const Plan& plan);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_VERIFY_ORACLE_H_
