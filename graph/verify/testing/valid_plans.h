// Valid plans of many kinds - ZeRO stages, ranks, micro-batches, overlap, clipping, optimizers - of a small
// model that exists on paper only: what the verifier must pass, and what the mutations start from.
#ifndef MILLRACE_GRAPH_VERIFY_TESTING_VALID_PLANS_H_
#define MILLRACE_GRAPH_VERIFY_TESTING_VALID_PLANS_H_

#include <string>
#include <vector>

#include "graph/lower/options.h"
#include "graph/plan/plan.h"

namespace millrace {

enum class Planner {
  kReal,  // graph/plan
  kPlain  // plain_planner.h: no trust in the real one
};

struct NamedPlan {
  std::string name;  // "stage 3, 2 ranks, 2 micro-batches, overlap"
  LowerOptions options;
  Plan plan;
};

// One of them; a failure to lower or plan ends the test with the reason.
NamedPlan MakeValidPlan(const LowerOptions& options, Planner planner, int stages = 4,
                        DType dtype = DType::kF32, bool skip_and_statistics = false);

// Stages 0-3 x 1, 2, 4 ranks x 1, 2 micro-batches x overlap on and off, plus policies, optimizers, 16 bits and
// states in other tiers, and devices with memory of their own.
std::vector<NamedPlan> ValidPlans(Planner planner);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_VERIFY_TESTING_VALID_PLANS_H_
