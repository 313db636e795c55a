// A plan for the tests of traces: a, gather (split), b and c (needs both), one lane of compute and one of
// communication, two ranks. Node ids: a 0, gather.start 1, gather.done 2, b 3, c 4.
#ifndef MILLRACE_GRAPH_TRACE_TEST_PLAN_H_
#define MILLRACE_GRAPH_TRACE_TEST_PLAN_H_

#include <utility>

#include "graph/plan/plan.h"

namespace millrace {

inline Plan TracePlan() {
  GraphBuilder builder("step \"one\"");
  builder.SetGroup("data", 2);
  const auto value = [&](const char* name) {
    return builder.AddValueWithBuffer({name, DType::kF32, {8}}, BufferKind::kActivation);
  };
  const ValueId a = value("va"), g = value("vg"), b = value("vb"), c = value("vc");
  builder.AddNode({"a", "forward", {}, {a}, {}, {{"stage", int64_t{3}}}});
  const CollectiveSpec spec{CollectiveOp::kAllGather, "data", DType::kF32, 4};
  Node start{"gather.start", "all_gather", {a}, {}};
  start.async = AsyncRole::kStart;
  start.partner = 2;
  start.is_collective = true;
  start.collective = spec;
  Node done{"gather.done", "all_gather", {}, {g}};
  done.async = AsyncRole::kDone;
  done.partner = 1;
  done.is_collective = true;
  done.collective = spec;
  builder.AddNode(start);
  builder.AddNode(done);
  builder.AddNode({"b", "fake", {a}, {b}});
  builder.AddNode({"c", "back\\slash", {g, b}, {c}});
  Plan plan;
  plan.name = "trace plan";
  plan.world_size = 2;
  plan.graph = *std::move(builder).Build();
  RankPlan rank_plan;
  rank_plan.ranks = {0, 1};
  rank_plan.lanes = {{"compute", LaneKind::kCompute, {0, 1, 3, 4}},
                     {"comm:data", LaneKind::kComm, {2}}};
  rank_plan.edges = {{0, 1, EdgeKind::kData}, {1, 2, EdgeKind::kAsync}, {0, 3, EdgeKind::kData},
                     {2, 4, EdgeKind::kData}, {3, 4, EdgeKind::kData},  {0, 1, EdgeKind::kLane},
                     {1, 3, EdgeKind::kLane}, {3, 4, EdgeKind::kLane},  {0, 4, EdgeKind::kCredit}};
  rank_plan.seconds = {1e-3, 1e-6, 2.0, 1e-3, 1e-3};
  rank_plan.reason = {"first", "longest tail", "", "only \"ready\" node", "last"};
  plan.rank_plans = {rank_plan};
  return plan;
}

}  // namespace millrace

#endif  // MILLRACE_GRAPH_TRACE_TEST_PLAN_H_
