// Says no to a plan that does not fit the machine's memory, and what would make it fit.
#ifndef MILLRACE_GRAPH_PLAN_BUDGET_H_
#define MILLRACE_GRAPH_PLAN_BUDGET_H_

#include "absl/status/status.h"
#include "graph/plan/plan.h"

namespace millrace {

// kResourceExhausted with the bytes at the peak, largest first:
//
//   planning vit_huge: a rank needs 11.2 GB of device memory, 3.2 GB more than the budget of 8.0 GB
//     5.0 GB  exp_avg (persistent): 98 buffers, largest exp_avg/bucket_0
//     ...
//   what would help: parallel.zero.stage 1 or higher shards optimizer states (-3.8 GB on 4 ranks); ...
absl::Status CheckBudget(const Plan& plan);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_PLAN_BUDGET_H_
