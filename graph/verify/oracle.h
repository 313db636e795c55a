// Whether a plan orders what it must, answered by the definition: reachability of every pair of nodes as a table of
// bits, every pair of accesses that share a byte held against the rules. No chains, no clocks, no sweep with a state:
// nothing of the verifier's own method. The tests hold the verifier against it, and the mutation engine asks it
// whether taking something away did any harm. n^2 / 8 bytes: for plans of some thousand nodes. For tests.
#ifndef MILLRACE_GRAPH_VERIFY_ORACLE_H_
#define MILLRACE_GRAPH_VERIFY_ORACLE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "graph/plan/plan.h"

namespace millrace {

class Oracle {
 public:
  Oracle(const Plan& plan, const RankPlan& rank_plan);

  bool acyclic() const { return acyclic_; }
  // A path of edges leads from a to b.
  bool Precedes(NodeId a, NodeId b) const { return (Row(a)[b / 64] >> (b % 64) & 1) != 0; }
  // Lane neighbours, values, control edges and asynchronous halves are ordered by edges. "" or what is not.
  std::string Disorder() const;
  // For this rank: no two conflicting accesses are unordered, and the last write before each read, in every
  // execution, is of the value read. "" or what is not so.
  std::string Race(int rank) const;

 private:
  struct Touch {
    NodeId begin, end;
    ValueId value;
    bool write;
    int64_t low, high;
    Tier tier;
  };
  bool Allowed(const Touch& a, const Touch& b) const;
  const uint64_t* Row(NodeId n) const { return reach_.data() + n * words_; }

  const Plan& plan_;
  const RankPlan& rp_;
  bool acyclic_ = true;
  size_t words_ = 0;             // of a row
  std::vector<uint64_t> reach_;  // row a, bit b: a precedes b
};

// What is wrong on any rank: a cycle, disorder, a race. "" when the plan is sound.
std::string Unsound(const Plan& plan);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_VERIFY_ORACLE_H_
