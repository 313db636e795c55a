// Which parts of a flat bucket are updated alike: parameters with weight decay, parameters without, running statistics.
//
//   for (const BucketRun& run : BucketRuns(args, args.input(0))) ... p[run.begin .. run.begin + run.count)
#ifndef MILLRACE_OPS_BUCKET_RUNS_H_
#define MILLRACE_OPS_BUCKET_RUNS_H_

#include <cstdint>
#include <vector>

#include "ops/kernel_registry.h"

namespace millrace {

struct BucketRun {
  int64_t begin = 0, count = 0;  // elements, relative to the value's first
  bool decay = true;
  bool statistic = false;  // graph/ir/model_spec.h: ParamSpec::statistic
  double momentum = 0;     // of a statistic
};

// The runs of the elements that `value` covers, in order; neighbours of one kind are one run. All of a value that is no
// bucket, or of a hand-written step, is one run with decay.
std::vector<BucketRun> BucketRuns(const KernelArgs& args, const Value& value);

}  // namespace millrace

#endif  // MILLRACE_OPS_BUCKET_RUNS_H_
