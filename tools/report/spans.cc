#include "tools/report/spans.h"

#include <algorithm>

#include "graph/plan/clocks.h"
#include "graph/trace/intervals.h"

namespace millrace {
namespace {

using Interval = std::pair<int64_t, int64_t>;

// a without b, both unions.
std::vector<Interval> Without(const std::vector<Interval>& a, const std::vector<Interval>& b) {
  std::vector<Interval> out;
  size_t j = 0;
  for (Interval i : a) {
    while (j < b.size() && b[j].second <= i.first) ++j;
    for (size_t k = j; k < b.size() && b[k].first < i.second; ++k) {
      if (b[k].first > i.first) out.push_back({i.first, b[k].first});
      i.first = b[k].second;
    }
    if (i.first < i.second) out.push_back(i);
  }
  return out;
}

// Of two predecessors that ended together, the one that tells more.
int Weight(EdgeKind kind) {
  switch (kind) {
    case EdgeKind::kData:
      return 5;
    case EdgeKind::kAsync:
      return 4;
    case EdgeKind::kCredit:
      return 3;
    case EdgeKind::kControl:
      return 2;
    case EdgeKind::kHazard:
      return 1;
    case EdgeKind::kLane:
      return 0;
  }
  return 0;
}

// Per node id: index into spans, -1 where the node has none.
std::vector<int> SpanOf(const RankPlan& rank_plan, const std::vector<Span>& spans) {
  NodeId last = -1;
  for (const Span& s : spans) last = std::max(last, s.node);
  for (const Edge& e : rank_plan.edges) last = std::max({last, e.from, e.to});
  std::vector<int> index(last + 1, -1);
  for (size_t i = 0; i < spans.size(); ++i) index[spans[i].node] = static_cast<int>(i);
  return index;
}

}  // namespace

std::vector<Cause> Causes(const RankPlan& rank_plan, const std::vector<Span>& spans) {
  const std::vector<int> span_of = SpanOf(rank_plan, spans);
  std::vector<Cause> causes(spans.size());
  for (const Edge& e : rank_plan.edges) {
    const int from = span_of[e.from], to = span_of[e.to];
    if (from < 0 || to < 0) continue;
    Cause& cause = causes[to];
    if (cause.node >= 0) {
      const int64_t known = spans[span_of[cause.node]].end_ns;
      const int64_t end = spans[from].end_ns;
      if (end < known || (end == known && Weight(e.kind) <= Weight(cause.kind))) continue;
    }
    cause = {e.from, e.kind};
  }
  return causes;
}

std::vector<int64_t> Slack(const Graph& graph, const RankPlan& rank_plan,
                           const std::vector<Span>& spans, int64_t end_ns) {
  const std::vector<int> span_of = SpanOf(rank_plan, spans);
  std::vector<int64_t> slack(spans.size(), 0);
  const absl::StatusOr<std::vector<NodeId>> order = Sorted(graph, rank_plan.edges);
  if (!order.ok()) return slack;  // a cycle: the verifier's findings say so
  std::vector<std::vector<int>> next(spans.size());
  for (const Edge& e : rank_plan.edges) {
    const int from = span_of[e.from], to = span_of[e.to];
    if (from >= 0 && to >= 0) next[from].push_back(to);
  }
  std::vector<int64_t> latest(spans.size(), end_ns);  // end
  for (auto n = order->rbegin(); n != order->rend(); ++n) {
    const int i = *n < static_cast<NodeId>(span_of.size()) ? span_of[*n] : -1;
    if (i < 0) continue;
    for (int to : next[i]) {
      latest[i] = std::min(latest[i], latest[to] - (spans[to].end_ns - spans[to].begin_ns));
    }
    slack[i] = std::max<int64_t>(0, latest[i] - spans[i].end_ns);
  }
  return slack;
}

std::vector<Interval> Exposed(const Graph& graph, const RankPlan& rank_plan,
                              const std::vector<Span>& spans) {
  std::vector<Interval> compute, communication;
  for (const Span& s : spans) {
    const Node& node = graph.nodes()[s.node];
    const bool whole = s.lane == 0 && node.async == AsyncRole::kNone;
    if (rank_plan.lanes[s.lane].kind == LaneKind::kComm || (whole && node.is_collective)) {
      communication.push_back({s.begin_ns, s.end_ns});
    } else if (whole) {
      compute.push_back({s.begin_ns, s.end_ns});
    }
  }
  return Without(Union(std::move(communication)), Union(std::move(compute)));
}

}  // namespace millrace
