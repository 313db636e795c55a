#include "graph/plan/plan.h"

#include <algorithm>

namespace millrace {

absl::string_view Name(EdgeKind k) {
  switch (k) {
    case EdgeKind::kData:
      return "data";
    case EdgeKind::kControl:
      return "control";
    case EdgeKind::kHazard:
      return "hazard";
    case EdgeKind::kLane:
      return "lane";
    case EdgeKind::kAsync:
      return "async";
    case EdgeKind::kCredit:
      return "credit";
  }
  return "unknown";
}

const RankPlan& Plan::ForRank(int rank) const {
  static const RankPlan* const kNone = new RankPlan;
  for (const RankPlan& plan : rank_plans) {
    if (std::binary_search(plan.ranks.begin(), plan.ranks.end(), rank)) return plan;
  }
  return rank_plans.empty() ? *kNone : rank_plans.front();
}

}  // namespace millrace
