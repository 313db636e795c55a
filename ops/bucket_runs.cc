#include "ops/bucket_runs.h"

#include <algorithm>

namespace millrace {

std::vector<BucketRun> BucketRuns(const KernelArgs& args, const Value& value) {
  const int64_t n = value.numel();
  if (value.bucket < 0 || args.rank.spec == nullptr) return {{0, n}};
  // Sharded values hold part r of the flat bucket, wherever they lie.
  const bool part = value.sharding == Sharding::kSharded || value.own_shard;
  const int64_t first = part ? args.rank.rank % args.plan.graph.group_size(value.group) * n : 0;
  std::vector<BucketRun> runs;
  for (const ParamSlot& slot : args.plan.graph.buckets()[value.bucket].slots) {
    const int64_t begin = std::max<int64_t>(0, slot.offset - first);
    const int64_t end = std::min(n, slot.offset + slot.numel - first);
    if (begin >= end) continue;
    const ParamSpec& p = args.rank.spec->stages[slot.stage].params[slot.param];
    const BucketRun run = {begin, end - begin, p.weight_decay && !p.statistic, p.statistic,
                           p.statistic ? p.momentum : 0};
    const bool alike = !runs.empty() && runs.back().decay == run.decay &&
                       runs.back().statistic == run.statistic &&
                       runs.back().momentum == run.momentum;
    if (alike) {
      runs.back().count = end - runs.back().begin;  // over the padding, which holds zeros
    } else {
      runs.push_back(run);
    }
  }
  return runs;
}

}  // namespace millrace
