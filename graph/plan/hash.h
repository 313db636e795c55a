// One short string that says whether two processes are about to run the same step. Every rank plans
// for itself or reads a plan from a file; before the first step all compare their hashes, because a
// difference of one byte in an offset or one place in a lane is a hang or a wrong sum later on.
//
// Covered is all that the run depends on: names, the graph (nodes, attributes, values, buffers,
// buckets, groups), lanes, edges, offsets, arenas, credits, budgets, world size. Left out is what
// only describes it: predictions (seconds, FLOPs, traffic, what lies at the peak), reasons, places
// in the source text, the time that planning took, and Plan::hash itself.
//
//   plan.hash = PlanHash(plan);
//
// 128 bits, equal on every machine and in every process. It finds accidents, not attacks: nobody
// forges a plan. 0.25 us a node (hash_benchmark.cc).
#ifndef MILLRACE_GRAPH_PLAN_HASH_H_
#define MILLRACE_GRAPH_PLAN_HASH_H_

#include <string>

#include "graph/plan/plan.h"

namespace millrace {

// 32 hexadecimal digits.
std::string PlanHash(const Plan& plan);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_PLAN_HASH_H_
