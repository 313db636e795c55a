#include "graph/ir/graph.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace millrace {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// A step of made-up operations: each value is one float on a buffer of its own.
class Step {
 public:
  ValueId V(const std::string& name) {
    Value v;
    v.name = name;
    v.shape = {1};
    return b.AddValueWithBuffer(v, BufferKind::kActivation);
  }
  NodeId N(const std::string& name, std::vector<ValueId> in, std::vector<ValueId> out,
           std::vector<NodeId> control = {}) {
    Node n;
    n.name = name;
    n.op = "op";
    n.inputs = std::move(in);
    n.outputs = std::move(out);
    n.control = std::move(control);
    return b.AddNode(std::move(n));
  }
  std::vector<std::string> Messages() {
    Findings findings;
    EXPECT_FALSE(std::move(b).Build(findings).ok());
    std::vector<std::string> messages;
    for (const Finding& f : findings.list()) messages.push_back(ToText(f));
    return messages;
  }
  GraphBuilder b{"step"};
};

TEST(GraphBuild, FillsTheTablesAndFindsByName) {
  Step s;
  const ValueId x = s.V("x"), y = s.V("y"), z = s.V("z");
  s.N("second", {y, y}, {z});
  s.N("first", {x}, {y});
  const auto g = std::move(s.b).Build();
  ASSERT_TRUE(g.ok()) << g.status();
  EXPECT_EQ(g->producer(x), -1);
  EXPECT_EQ(g->producer(y), 1);
  EXPECT_THAT(g->consumers(y), ElementsAre(0));  // once, though it reads it twice
  EXPECT_THAT(g->consumers(z), IsEmpty());
  EXPECT_EQ(g->FindNode("first"), 1);
  EXPECT_EQ(g->FindNode("third"), -1);
  EXPECT_EQ(g->FindValue("z"), z);
  EXPECT_THAT(g->topological_order(), ElementsAre(1, 0));
}

TEST(GraphBuild, OrderIsTheTextsUnlessValuesOrControlSayOtherwise) {
  Step s;
  const ValueId a = s.V("a");
  s.N("n0", {a}, {});
  s.N("n1", {}, {});
  s.N("n2", {}, {a});
  s.N("n3", {}, {}, {4});
  s.N("n4", {}, {});
  EXPECT_THAT(std::move(s.b).Build()->topological_order(), ElementsAre(1, 2, 0, 4, 3));
}

TEST(GraphBuild, UpdatesInPlaceAreNoEdges) {
  Step s;
  const ValueId old_value = s.V("w");
  Value v = s.b.value(old_value);
  v.name = "w'";
  const ValueId new_value = s.b.AddValue(v);
  s.N("update", {}, {new_value});
  s.N("read", {old_value}, {});
  EXPECT_THAT(std::move(s.b).Build()->topological_order(), ElementsAre(0, 1));
}

TEST(GraphBuild, DuplicateNamesAreNamed) {
  Step s;
  s.V("x");
  s.V("x");
  s.N("n", {}, {});
  s.N("n", {}, {});
  EXPECT_THAT(s.Messages(), ElementsAre(HasSubstr("two buffers are named 'x'"),
                                        HasSubstr("two values are named 'x'"),
                                        HasSubstr("two nodes are named 'n'")));
}

TEST(GraphBuild, IdsOutOfRangeAreNamed) {
  Step s;
  const ValueId x = s.V("x");
  s.b.value(x).buffer = 9;
  s.N("n", {7}, {-1}, {5});
  EXPECT_THAT(s.Messages(), ElementsAre(HasSubstr("value 'x' lies in buffer 9, expected 0 to 0"),
                                        HasSubstr("node 'n': reads value 7, expected 0 to 0"),
                                        HasSubstr("node 'n': writes value -1"),
                                        HasSubstr("node 'n': waits for node 5, expected 0 to 0")));
}

TEST(GraphBuild, TwoWritersOfOneValueAreBothNamed) {
  Step s;
  const ValueId x = s.V("x");
  s.N("a", {}, {x});
  s.N("b", {}, {x});
  s.N("c", {}, {x});
  EXPECT_THAT(s.Messages(),
              ElementsAre(HasSubstr("node 'b': writes value 'x', which node 'a' writes already"),
                          HasSubstr("node 'c': writes value 'x', which node 'a' writes already")));
}

TEST(GraphBuild, ValuesStayInsideTheirBuffers) {
  Step s;
  s.b.SetGroup("data", 4);
  Value v;
  v.name = "shard";
  v.shape = {8};
  v.buffer = s.b.AddBuffer({"b", 127});
  v.own_shard = true;
  v.group = "data";
  s.b.AddValue(v);
  v.name = "negative";
  v.shape = {2, -1};
  s.b.AddValue(v);
  v.name = "huge";
  v.shape = {int64_t{1} << 40, int64_t{1} << 40};
  s.b.AddValue(v);
  v.name = "before";
  v.shape = {1};
  v.offset = -4;
  s.b.AddValue(v);
  EXPECT_THAT(
      s.Messages(),
      ElementsAre(
          HasSubstr("'shard' covers bytes 0 to 128 (4 shards) of buffer 'b', which has 127 bytes"),
          HasSubstr("'negative' has shape [2, -1], expected dimensions of 0 or more"),
          HasSubstr("'huge' has shape"), HasSubstr("'before' covers bytes -4 to 12")));
}

TEST(GraphBuild, CyclesAreNamedNodeByNodeEachOnce) {
  Step s;
  const ValueId a = s.V("a"), b = s.V("b"), c = s.V("c");
  s.N("before", {}, {});
  s.N("n1", {c}, {a});
  s.N("n2", {a}, {b});
  s.N("n3", {b}, {c});
  s.N("after", {c}, {});
  s.N("self", {}, {}, {5});
  EXPECT_THAT(
      s.Messages(),
      ElementsAre(
          HasSubstr("node 'n1': waits for itself: 'n1' -> (a) 'n2' -> (b) 'n3' -> (c) 'n1'"),
          HasSubstr("node 'self': waits for itself: 'self' -> 'self'")));
}

TEST(GraphBuild, AsyncHalvesMustNameEachOther) {
  Step s;
  const NodeId start = s.N("a.start", {}, {}), done = s.N("a.done", {}, {}),
               lone = s.N("b.start", {}, {});
  s.b.node(start).async = AsyncRole::kStart;
  s.b.node(start).partner = done;
  s.b.node(done).async = AsyncRole::kDone;
  s.b.node(done).partner = start;
  s.b.node(done).op = "other";
  s.b.node(lone).async = AsyncRole::kStart;
  EXPECT_THAT(
      s.Messages(),
      ElementsAre(
          HasSubstr("starts 'op', but its partner 'a.done' finishes 'other'"),
          HasSubstr("node 'b.start': is the start of an asynchronous operation without a done")));
}

TEST(GraphBuild, DoneComesAfterStartWithoutAnyValue) {
  Step s;
  const NodeId done = s.N("done", {}, {}), start = s.N("start", {}, {});
  s.b.node(start).async = AsyncRole::kStart;
  s.b.node(start).partner = done;
  s.b.node(done).async = AsyncRole::kDone;
  s.b.node(done).partner = start;
  EXPECT_THAT(std::move(s.b).Build()->topological_order(), ElementsAre(start, done));
}

TEST(GraphBuild, AllMistakesAreSaidAtOnceWithTheirPlaces) {
  Step s;
  const ValueId x = s.V("x");
  s.N("a", {x}, {x});
  s.N("b", {}, {x});
  s.b.node(1).source = {"step.textproto", 7, 3};
  const auto messages = s.Messages();
  ASSERT_THAT(messages, SizeIs(2));
  EXPECT_THAT(messages[0], HasSubstr("step.textproto:7:3: error: [two_writers] node 'b'"));
  EXPECT_THAT(messages[1], HasSubstr("'a' -> (x) 'a'"));
}

TEST(GraphBuild, APassStartsFromABuiltGraph) {
  Step s;
  const ValueId x = s.V("x");
  s.N("a", {}, {x});
  const Graph first = *std::move(s.b).Build();
  GraphBuilder edit(first);
  edit.node(0).name = "renamed";
  const Graph second = *std::move(edit).Build();
  EXPECT_EQ(second.FindNode("renamed"), 0);
  EXPECT_EQ(second.FindNode("a"), -1);
  EXPECT_EQ(first.FindNode("a"), 0);
}

TEST(GraphBuild, EveryRankOfAGroupGetsItsShardOfTheBuffer) {
  GraphBuilder b("step");
  b.SetGroup("data", 4);
  Value v;
  v.name = "p";
  v.shape = {8};
  v.own_shard = true;
  v.group = "data";
  b.AddValueWithBuffer(v, BufferKind::kParameter, true);
  EXPECT_EQ(b.peek().buffers()[0].bytes, 4 * 8 * 4);
  EXPECT_EQ(b.peek().group_size("data"), 4);
  EXPECT_EQ(b.peek().group_size("other"), 1);
}

TEST(Attrs, AreReadByTypeOrFallBack) {
  Node n;
  n.attrs = {{"i", int64_t{3}}, {"f", 0.5}, {"s", std::string("x")}};
  EXPECT_EQ(IntAttr(n, "i", 0), 3);
  EXPECT_EQ(IntAttr(n, "f", 7), 7);
  EXPECT_EQ(FloatAttr(n, "f", 0), 0.5);
  EXPECT_EQ(StringAttr(n, "s", ""), "x");
  EXPECT_EQ(StringAttr(n, "t", "y"), "y");
}

}  // namespace
}  // namespace millrace
