// Which ranks make up a group: consecutive ranks, in blocks of the group's size. A group as large as the
// world is the world; of 8 ranks, a group of size 2 holds ranks {0, 1}, {2, 3}, ...
#ifndef MILLRACE_GRAPH_RUNTIME_GROUPS_H_
#define MILLRACE_GRAPH_RUNTIME_GROUPS_H_

#include <string>
#include <vector>

#include "graph/plan/plan.h"

namespace millrace {

inline int IndexInGroup(const Graph& graph, const std::string& group, int rank) {
  return rank % graph.group_size(group);
}

inline std::vector<int> GroupMembers(const Graph& graph, const std::string& group, int rank) {
  const int size = graph.group_size(group);
  std::vector<int> members;
  for (int i = 0; i < size; ++i) members.push_back(rank - rank % size + i);
  return members;
}

}  // namespace millrace

#endif  // MILLRACE_GRAPH_RUNTIME_GROUPS_H_
