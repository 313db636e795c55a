#include "graph/trace/trace.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "graph/trace/ticks.h"

namespace millrace {

void TickScale::Refresh() {
  constexpr int64_t kShortest = 2'000'000;
  int64_t ns = Clock::Real()->Nanoseconds();
  while (ns - ns0_ < kShortest) {
    std::this_thread::sleep_for(std::chrono::nanoseconds(kShortest - (ns - ns0_)));
    ns = Clock::Real()->Nanoseconds();
  }
  const int64_t ticks = Ticks();
  if (ticks > ticks0_) ns_per_tick_ = static_cast<double>(ns - ns0_) / (ticks - ticks0_);
}

std::vector<int32_t> LaneOfNodes(const Plan& plan, const RankPlan& rank_plan) {
  std::vector<int32_t> lane(plan.graph.nodes().size(), -1);
  for (size_t l = 0; l < rank_plan.lanes.size(); ++l) {
    for (NodeId n : rank_plan.lanes[l].order) lane[n] = static_cast<int32_t>(l);
  }
  return lane;
}

void CompleteSpans(const Plan& plan, const RankPlan& rank_plan, int64_t step_begin_ns,
                   std::vector<Span>& spans) {
  std::vector<int64_t> end(plan.graph.nodes().size(), step_begin_ns);
  for (const Span& s : spans) end[s.node] = s.end_ns;
  std::vector<int64_t> ready(end.size(), step_begin_ns);
  std::vector<int64_t> credit(end.size(), 0);
  for (const Edge& e : rank_plan.edges) {
    if (e.kind == EdgeKind::kLane) continue;
    int64_t& into = e.kind == EdgeKind::kCredit ? credit[e.to] : ready[e.to];
    into = std::max(into, end[e.from]);
  }
  std::vector<int64_t> lane_free(rank_plan.lanes.size(), step_begin_ns);
  for (Span& s : spans) {
    int64_t& free = lane_free[s.lane];
    if (s.lane != 0) s.begin_ns = std::max(s.begin_ns, free);
    s.end_ns = std::max(s.begin_ns, s.end_ns);
    free = std::max(free, s.end_ns);
    s.ready_ns = std::min(ready[s.node], s.begin_ns);
    s.credit_ns = std::min(credit[s.node], s.begin_ns);
  }
}

std::string StageName(const Node& node) {
  if (node.attrs.count("stage") == 0) return "";
  const size_t first = node.name.find('/');
  const size_t last = node.name.rfind('/');
  if (first == std::string::npos || last == first) return "";
  return node.name.substr(first + 1, last - first - 1);
}

int64_t BytesOf(const Graph& graph, const Node& node) {
  if (node.is_collective) return node.collective.count * SizeOf(node.collective.dtype);
  int64_t bytes = 0;
  for (ValueId v : node.outputs) bytes += graph.values()[v].bytes();
  return bytes;
}

}  // namespace millrace
