#include "tools/report/memory_curve.h"

#include <algorithm>
#include <numeric>

#include "graph/base/status.h"
#include "graph/plan/clocks.h"

namespace millrace {
namespace {

MemoryCurve CurveOf(const Graph& graph, const std::vector<LiveRange>& ranges, Tier tier,
                    size_t places) {
  MemoryCurve curve;
  curve.tier = tier;
  curve.bytes.resize(places + 1);
  for (size_t b = 0; b < ranges.size(); ++b) {
    const Buffer& buffer = graph.buffers()[b];
    if (buffer.tier != tier || ranges[b].birth > ranges[b].death) continue;
    const int64_t align = AlignmentOf(buffer.tier);  // as the planner places them
    const int64_t bytes = (buffer.bytes + align - 1) / align * align;
    const auto kind = static_cast<size_t>(buffer.kind);
    curve.bytes[ranges[b].birth][kind] += bytes;
    curve.bytes[ranges[b].death + 1][kind] -= bytes;
  }
  for (size_t p = 1; p <= places; ++p) {
    for (int k = 0; k < kBufferKinds; ++k) curve.bytes[p][k] += curve.bytes[p - 1][k];
  }
  curve.bytes.pop_back();
  for (size_t p = 0; p < places; ++p) {
    const int64_t sum = std::accumulate(curve.bytes[p].begin(), curve.bytes[p].end(), int64_t{0});
    if (sum > curve.peak_bytes) {
      curve.peak_bytes = sum;
      curve.peak_place = static_cast<int>(p);
    }
  }
  return curve;
}

}  // namespace

absl::StatusOr<MemoryUse> MemoryOf(const Graph& graph, const RankPlan& rank_plan) {
  ASSIGN_OR_RETURN(const Clocks clocks, Clocks::Make(graph, rank_plan.lanes, rank_plan.edges));
  MemoryUse use;
  use.ranges = LiveRanges(graph, rank_plan.lanes, clocks);
  for (int t = 0; t < kTiers; ++t) {
    MemoryCurve curve =
        CurveOf(graph, use.ranges, static_cast<Tier>(t), rank_plan.lanes[0].order.size());
    if (curve.peak_bytes > 0) use.curves.push_back(std::move(curve));
  }
  return use;
}

}  // namespace millrace
