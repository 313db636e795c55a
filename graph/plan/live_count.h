// Live bytes of the device tier while an order is being built node by node: a buffer lives from the first node
// that touches it to the last. A quick estimate for the scheduler's memory rule; liveness.h is exact.
#ifndef MILLRACE_GRAPH_PLAN_LIVE_COUNT_H_
#define MILLRACE_GRAPH_PLAN_LIVE_COUNT_H_

#include <cstdint>
#include <vector>

#include "graph/ir/graph.h"

namespace millrace {

class LiveCount {
 public:
  // Off: counts nothing and costs nothing.
  LiveCount(const Graph& graph, bool on);

  int64_t bytes() const { return bytes_; }
  // By how much live bytes would grow; negative: shrink.
  int64_t Growth(NodeId n) const;
  // A start half stands for both halves.
  void Run(NodeId n);

 private:
  // The different transient buffers of the node and its other half.
  void Touched(NodeId n, std::vector<BufferId>* touched) const;

  const Graph& graph_;
  const bool on_;
  int64_t bytes_ = 0;
  std::vector<int> left_;      // per buffer: operations that have yet to touch it
  std::vector<bool> is_live_;  // per buffer
};

}  // namespace millrace

#endif  // MILLRACE_GRAPH_PLAN_LIVE_COUNT_H_
