// Plans by hand for the simulator's tests: nodes with durations, an issue lane, one engine; and a machine whose
// link carries one byte a second.
#ifndef MILLRACE_GRAPH_SIM_TESTING_TINY_PLAN_H_
#define MILLRACE_GRAPH_SIM_TESTING_TINY_PLAN_H_

#include <string>
#include <utility>
#include <vector>

#include "graph/sim/simulate.h"
#include "gtest/gtest.h"

namespace millrace {

// See SlowMachine for what a byte costs.
class TinyPlan {
 public:
  explicit TinyPlan(int world) {
    plan_.name = "tiny";
    plan_.world_size = world;
    builder_.SetGroup("data", world);
    rank_plan_.lanes = {{"compute", LaneKind::kCompute, {}}, {"comm:data", LaneKind::kComm, {}}};
    for (int r = 0; r < world; ++r) rank_plan_.ranks.push_back(r);
  }

  NodeId Compute(const std::string& name, double seconds) {
    return Add({.name = name, .op = "work"}, 0, seconds);
  }

  // A sync all_gather that puts `bytes` on each rank's wire when the world is 2.
  NodeId Gather(const std::string& name, int64_t bytes) {
    return Add({.name = name, .op = "all_gather", .is_collective = true, .collective = Spec(bytes)},
               0, 0);
  }

  std::pair<NodeId, NodeId> AsyncGather(const std::string& name, int64_t bytes) {
    const NodeId start = Add({.name = name + ".start",
                              .op = "all_gather",
                              .async = AsyncRole::kStart,
                              .is_collective = true,
                              .collective = Spec(bytes)},
                             0, 0);
    const NodeId done = Add({.name = name + ".done",
                             .op = "all_gather",
                             .async = AsyncRole::kDone,
                             .partner = start,
                             .is_collective = true,
                             .collective = Spec(bytes)},
                            1, 0);
    builder_.node(start).partner = done;
    After(done, start, EdgeKind::kAsync);
    return {start, done};
  }

  TinyPlan& After(NodeId to, NodeId from, EdgeKind kind = EdgeKind::kData) {
    rank_plan_.edges.push_back({from, to, kind});
    return *this;
  }

  Plan Build() {
    plan_.rank_plans = {rank_plan_};
    auto graph = std::move(builder_).Build();
    EXPECT_TRUE(graph.ok()) << graph.status();
    if (graph.ok()) plan_.graph = *std::move(graph);
    return plan_;
  }

 private:
  static CollectiveSpec Spec(int64_t bytes) {
    return {CollectiveOp::kAllGather, "data", DType::kU8, bytes};
  }
  NodeId Add(Node node, int lane, double seconds) {
    const NodeId id = builder_.AddNode(std::move(node));
    rank_plan_.lanes[lane].order.push_back(id);
    rank_plan_.seconds.push_back(seconds);
    return id;
  }

  Plan plan_;
  RankPlan rank_plan_;
  GraphBuilder builder_{"tiny"};
};

// One byte a second, no latency, no cost of a launch.
inline Machine SlowMachine() {
  Machine machine;
  machine.mutable_device()->set_seconds_per_node(0);
  Link* link = machine.add_link();
  link->set_name("intra_node");
  link->set_latency_seconds(0);
  link->set_bytes_per_second(1);
  return machine;
}

}  // namespace millrace

#endif  // MILLRACE_GRAPH_SIM_TESTING_TINY_PLAN_H_
