// Every touch of memory in one rank's plan: which bytes of which arena, by which operation, from
// the begin of which node to the end of which. Internal to graph/verify.
//
//   std::vector<Access> all = Accesses(context, view, rank);     // own shards resolved for this
//   rank
#ifndef MILLRACE_GRAPH_VERIFY_ACCESS_H_
#define MILLRACE_GRAPH_VERIFY_ACCESS_H_

#include <cstdint>
#include <vector>

#include "graph/verify/check.h"

namespace millrace {
namespace verify_internal {

struct Access {
  NodeId begin = -1, end = -1;  // start and done of an asynchronous operation, else twice the node
  NodeId node = -1;             // the node that lists the value
  ValueId value = -1;
  bool write = false;
  Tier tier = Tier::kDevice;
  int64_t low = 0, high = 0;  // bytes [low, high) of the tier's arena
};

// Bytes of the arena that a value occupies on a rank: {low, high}.
std::pair<int64_t, int64_t> ArenaRange(const Context& context, const RankPlan& plan, ValueId value,
                                       int rank);

// In the order in which operations begin (a linear extension of happens-before), an operation's
// reads before its writes. Values of no bytes are left out. Needs happens-before and valid offsets.
std::vector<Access> Accesses(const Context& context, const RankView& view, int rank);

}  // namespace verify_internal
}  // namespace millrace

#endif  // MILLRACE_GRAPH_VERIFY_ACCESS_H_
