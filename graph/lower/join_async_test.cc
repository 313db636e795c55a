#include "graph/lower/join_async.h"

#include <gtest/gtest.h>

#include "graph/lower/testing/fake_model.h"
#include "graph/lower/testing/pass_text.h"

namespace millrace {
namespace {

const LowerOptions kOptions = {
    .world_size = 2, .zero_stage = 3, .reduce_bucket_bytes = 148, .prefetch_depth = 1};

TEST(JoinAsync, APairBecomesOneNodeWhereItsStartStoodAndTheOthersStay) {
  const auto graph = Lower(MakeFakeModel(), kOptions);
  ASSERT_TRUE(graph.ok()) << graph.status();
  NodeId start = -1;
  for (size_t n = 0; n < graph->nodes().size(); ++n) {
    if (graph->nodes()[n].name == "reduce_scatter/bucket_0/0.start") start = static_cast<NodeId>(n);
  }
  ASSERT_GE(start, 0) << Listing(*graph);
  const auto joined = JoinAsync(*graph, {start});
  ASSERT_TRUE(joined.ok()) << joined.status();
  const std::string before = Listing(*graph), after = Listing(*joined);
  EXPECT_EQ(Lines(before, {"reduce_scatter/bucket_0"}),
            "reduce_scatter/bucket_0/0.start(grad/bucket_0/c/0)\n"
            "reduce_scatter/bucket_0/0.done() -> grad/bucket_0\n"
            "backward/a/0(images/0, saved/a/0, dact/a/0, gathered/bucket_2/backward/0) -> "
            "grad/bucket_2/a/0 after reduce_scatter/bucket_0/0.done\n");
  EXPECT_EQ(Lines(after, {"reduce_scatter/bucket_0"}),
            "reduce_scatter/bucket_0/0(grad/bucket_0/c/0) -> grad/bucket_0\n"
            "backward/a/0(images/0, saved/a/0, dact/a/0, gathered/bucket_2/backward/0) -> "
            "grad/bucket_2/a/0 after reduce_scatter/bucket_0/0\n");
  EXPECT_EQ(Lines(after, {"reduce_scatter/bucket_1"}), Lines(before, {"reduce_scatter/bucket_1"}));
  EXPECT_EQ(joined->nodes().size() + 1, graph->nodes().size());
}

TEST(JoinAsync, AllPairsJoinedIsTheStepWithoutOverlapInAnotherOrder) {
  const auto graph = Lower(MakeFakeModel(), kOptions);
  ASSERT_TRUE(graph.ok()) << graph.status();
  std::vector<NodeId> starts;
  for (size_t n = 0; n < graph->nodes().size(); ++n) {
    if (graph->nodes()[n].async == AsyncRole::kStart) starts.push_back(static_cast<NodeId>(n));
  }
  const auto joined = JoinAsync(*graph, starts);
  ASSERT_TRUE(joined.ok()) << joined.status();
  LowerOptions plain = kOptions;
  plain.overlap = false;
  const auto whole = Lower(MakeFakeModel(), plain);
  ASSERT_TRUE(whole.ok());
  EXPECT_EQ(joined->nodes().size(), whole->nodes().size());
  for (const Node& node : joined->nodes()) EXPECT_EQ(node.async, AsyncRole::kNone) << node.name;
}

TEST(JoinAsync, APairWhoseDoneWaitsForSomethingBehindItsStartStays) {
  GraphBuilder b("step");
  b.SetGroup("data", 2);
  const ValueId v = b.AddValueWithBuffer({"v", DType::kF32, {4}}, BufferKind::kActivation);
  const ValueId g = b.AddValueWithBuffer({"g", DType::kF32, {8}}, BufferKind::kActivation);
  b.AddNode({.name = "a", .op = "work", .outputs = {v}});
  Node start{.name = "g.start", .op = "all_gather", .inputs = {v}};
  start.async = AsyncRole::kStart;
  start.partner = 3;
  start.is_collective = true;
  start.collective = {CollectiveOp::kAllGather, "data", DType::kF32, 4};
  Node done = start;
  done.name = "g.done";
  done.inputs.clear();
  done.outputs = {g};
  done.async = AsyncRole::kDone;
  done.partner = 1;
  done.control = {2};
  b.AddNode(start);
  b.AddNode({.name = "between", .op = "work"});
  b.AddNode(done);
  const auto graph = std::move(b).Build();
  ASSERT_TRUE(graph.ok()) << graph.status();
  const auto joined = JoinAsync(*graph, {1});
  ASSERT_TRUE(joined.ok()) << joined.status();
  EXPECT_EQ(Listing(*joined), Listing(*graph));
}

}  // namespace
}  // namespace millrace
