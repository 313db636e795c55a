// Which engine does an operation's work follows from the tiers that it touches.
#include "graph/ir/lane_kind.h"

#include <gtest/gtest.h>

#include <utility>

namespace millrace {
namespace {

class Sketch {
 public:
  ValueId In(Tier tier) {
    return builder_.AddValueWithBuffer({std::to_string(count_++), DType::kF32, {8}},
                                       BufferKind::kGradient, /*persistent=*/true, tier);
  }
  // The kind of an operation that reads one tier and writes another; split into two halves, of both.
  static LaneKind Of(const std::string& op, Tier from, Tier to, bool split = false) {
    Sketch s;
    const ValueId in = s.In(from), out = s.In(to);
    Node node;
    node.name = "node";
    node.op = op;
    node.inputs = {in};
    node.outputs = {out};
    if (!split) {
      s.builder_.AddNode(node);
    } else {
      node.async = AsyncRole::kStart;
      node.partner = 1;
      node.outputs = {};
      s.builder_.AddNode(node);
      node.name = "node.done";
      node.async = AsyncRole::kDone;
      node.partner = 0;
      node.inputs = {};
      node.outputs = {out};
      s.builder_.AddNode(node);
    }
    const auto graph = std::move(s.builder_).Build();
    EXPECT_TRUE(graph.ok()) << graph.status();
    EXPECT_EQ(LaneKindOf(*graph, 0), LaneKindOf(*graph, split ? 1 : 0));
    EXPECT_EQ(BytesMoved(*graph, graph->nodes()[0]), 32);
    return LaneKindOf(*graph, 0);
  }

 private:
  GraphBuilder builder_{"sketch"};
  int count_ = 0;
};

TEST(LaneKindTest, ACopysEngineJoinsItsTiers) {
  for (const Tier host : {Tier::kHost, Tier::kPinned}) {
    EXPECT_EQ(Sketch::Of("copy", host, Tier::kDevice), LaneKind::kHostToDevice);
    EXPECT_EQ(Sketch::Of("copy", Tier::kDevice, host), LaneKind::kDeviceToHost);
    EXPECT_EQ(Sketch::Of("copy", host, Tier::kStorage), LaneKind::kStorage);
    EXPECT_EQ(Sketch::Of("copy", Tier::kStorage, host), LaneKind::kStorage);
    EXPECT_EQ(Sketch::Of("copy", host, Tier::kHost), LaneKind::kHostCompute);
  }
  EXPECT_EQ(Sketch::Of("copy", Tier::kDevice, Tier::kDevice), LaneKind::kCompute);
}

TEST(LaneKindTest, OtherWorkIsDoneWhereItsValuesAre) {
  EXPECT_EQ(Sketch::Of("adamw", Tier::kDevice, Tier::kDevice), LaneKind::kCompute);
  EXPECT_EQ(Sketch::Of("adamw", Tier::kHost, Tier::kHost), LaneKind::kHostCompute);
  // A norm of what is on the host, for the device.
  EXPECT_EQ(Sketch::Of("grad_norm", Tier::kHost, Tier::kDevice), LaneKind::kHostCompute);
}

TEST(LaneKindTest, BothHalvesOfAnOperationAreOfItsKind) {
  EXPECT_EQ(Sketch::Of("copy", Tier::kHost, Tier::kDevice, true), LaneKind::kHostToDevice);
  EXPECT_EQ(Sketch::Of("copy", Tier::kDevice, Tier::kHost, true), LaneKind::kDeviceToHost);
  EXPECT_EQ(Sketch::Of("copy", Tier::kStorage, Tier::kHost, true), LaneKind::kStorage);
  EXPECT_EQ(Sketch::Of("adamw", Tier::kHost, Tier::kHost, true), LaneKind::kHostCompute);
}

TEST(LaneKindTest, ACollectiveIsCommunicationWhereverItsValuesAre) {
  GraphBuilder builder("sketch");
  const ValueId in = builder.AddValueWithBuffer({"in", DType::kF32, {8}}, BufferKind::kGradient,
                                                /*persistent=*/true, Tier::kHost);
  const ValueId out = builder.AddValueWithBuffer({"out", DType::kF32, {8}}, BufferKind::kGradient,
                                                 /*persistent=*/true, Tier::kHost);
  Node node;
  node.name = node.op = "all_reduce";
  node.is_collective = true;
  node.inputs = {in};
  node.outputs = {out};
  builder.AddNode(node);
  EXPECT_EQ(LaneKindOf(*std::move(builder).Build(), 0), LaneKind::kComm);
}

TEST(LaneKindTest, NamesAreThoseOfTheMachineFile) {
  EXPECT_EQ(Name(LaneKind::kHostToDevice), "host_to_device");
  EXPECT_EQ(Name(LaneKind::kStorage), "storage");
}

}  // namespace
}  // namespace millrace
