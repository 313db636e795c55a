// How many bytes of each kind are in use while the step runs, one curve per memory tier. Time is the place on the
// rank's issue lane: there every buffer's life begins and ends (graph/plan/liveness.h), and the highest sum is the
// plan's live_bytes_bound.
//
//   ASSIGN_OR_RETURN(MemoryUse use, MemoryOf(plan.graph, plan.rank_plans[0]));
//   const MemoryCurve& device = use.curves[0];
//   device.bytes[device.peak_place][static_cast<int>(BufferKind::kSaved)]
#ifndef MILLRACE_TOOLS_REPORT_MEMORY_CURVE_H_
#define MILLRACE_TOOLS_REPORT_MEMORY_CURVE_H_

#include <array>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "graph/plan/liveness.h"
#include "graph/plan/plan.h"
#include "graph/plan/summary.h"

namespace millrace {

struct MemoryCurve {
  Tier tier = Tier::kDevice;
  std::vector<std::array<int64_t, kBufferKinds>> bytes;  // per place of the issue lane
  int peak_place = 0;                                    // the first of the highest
  int64_t peak_bytes = 0;
};

struct MemoryUse {
  std::vector<LiveRange> ranges;    // per buffer, places of the issue lane
  std::vector<MemoryCurve> curves;  // of tiers in which something lies
};

absl::StatusOr<MemoryUse> MemoryOf(const Graph& graph, const RankPlan& rank_plan);

}  // namespace millrace

#endif  // MILLRACE_TOOLS_REPORT_MEMORY_CURVE_H_
