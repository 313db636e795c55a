// Which ranks form a group, until plans carry their own tables: a group of n ranks in a world of W
// is one of W / n neighbouring blocks, so "data" of world size is everyone, and a rank's index in
// its group is rank % n. The simulator and the verifier share this one definition.
#ifndef MILLRACE_GRAPH_VERIFY_RANK_GROUP_H_
#define MILLRACE_GRAPH_VERIFY_RANK_GROUP_H_

#include <string>
#include <vector>

#include "graph/plan/plan.h"

namespace millrace {

inline int IndexInGroup(const Plan& plan, const std::string& group, int rank) {
  const int size = plan.graph.group_size(group);
  return size > 0 ? rank % size : 0;
}

// First rank of the block that `rank` belongs to: names the instance of the group.
inline int GroupInstance(const Plan& plan, const std::string& group, int rank) {
  return rank - IndexInGroup(plan, group, rank);
}

}  // namespace millrace

#endif  // MILLRACE_GRAPH_VERIFY_RANK_GROUP_H_
