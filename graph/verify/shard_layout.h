// Which of the ranks that share a plan must be looked at one by one: own shards lie elsewhere on each, but what
// matters is only what they lie on. Internal to graph/verify.
//
//   for (int rank : DistinctLayouts(context, rank_plan, accesses)) ...     // the others look like one of these
//
// The order in which the bounds of all accesses lie in memory says which of them overlap; ranks with the same order
// have the same conflicts. Of 1,024 ranks few dozen are left.
#ifndef MILLRACE_GRAPH_VERIFY_SHARD_LAYOUT_H_
#define MILLRACE_GRAPH_VERIFY_SHARD_LAYOUT_H_

#include <vector>

#include "graph/verify/access.h"

namespace millrace {
namespace verify_internal {

// The first rank of the plan, then one rank of each further layout. `accesses` are those of any rank of the plan.
std::vector<int> DistinctLayouts(const Context& c, const RankPlan& plan,
                                 const std::vector<Access>& accesses);

// The accesses to bytes that an own shard occupies on some rank, in the same order.
std::vector<Access> AtSharedPlaces(const Context& c, const RankPlan& plan,
                                   const std::vector<Access>& accesses);

}  // namespace verify_internal
}  // namespace millrace

#endif  // MILLRACE_GRAPH_VERIFY_SHARD_LAYOUT_H_
