#include "graph/verify/verify.h"

#include <algorithm>
#include <string>

#include "gmock/gmock.h"
#include "graph/verify/testing/plain_planner.h"
#include "graph/verify/testing/valid_plans.h"
#include "gtest/gtest.h"

namespace millrace {
namespace {

using ::testing::HasSubstr;

TEST(VerifyTest, EveryValidPlanPasses) {
  for (const Planner planner : {Planner::kPlain, Planner::kReal}) {
    for (const NamedPlan& named : ValidPlans(planner)) {
      const VerifyResult result = Verify(named.plan);
      EXPECT_TRUE(result.ok) << named.name << "\n" << ToText(result, named.plan);
    }
  }
}

// scale -> v, and collectives on v: drawn by hand where the product's own steps have none like them.
class Sketch {
 public:
  Sketch() : b_("sketch") {
    b_.SetGroup("data", 2);
    source_ = New("source", Sharding::kPartial, /*persistent=*/true);
  }
  ValueId New(const std::string& name, Sharding sharding, bool persistent = false) {
    return b_.AddValueWithBuffer(Typed(name, sharding), BufferKind::kMetric, persistent);
  }
  ValueId At(BufferId buffer, int64_t offset, const std::string& name, Sharding sharding) {
    Value v = Typed(name, sharding);
    v.buffer = buffer;
    v.offset = offset;
    return b_.AddValue(v);
  }
  void Make(ValueId v) {
    Node n;
    n.name = "make/" + b_.value(v).name;
    n.op = "scale";
    n.inputs = {source_};
    n.outputs = {v};
    n.attrs["factor"] = 2.0;
    b_.AddNode(n);
  }
  void AllReduce(const std::string& name, std::vector<ValueId> in, ValueId out, int64_t count) {
    Node start;
    start.name = name + ".start";
    start.op = "all_reduce";
    start.inputs = std::move(in);
    start.is_collective = true;
    start.collective = {CollectiveOp::kAllReduce, "data", DType::kF32, count};
    start.async = AsyncRole::kStart;
    Node done = start;
    const NodeId first = b_.AddNode(start);
    done.name = name + ".done";
    done.inputs.clear();
    done.outputs = {out};
    done.async = AsyncRole::kDone;
    done.partner = first;
    const NodeId last = b_.AddNode(done);
    b_.node(first).partner = last;
  }
  GraphBuilder& builder() { return b_; }
  Plan Planned() {
    auto graph = std::move(b_).Build();
    EXPECT_TRUE(graph.ok()) << graph.status();
    return PlainPlan(*std::move(graph), 2);
  }

 private:
  Value Typed(const std::string& name, Sharding sharding) {
    Value v;
    v.name = name;
    v.shape = {16};
    v.sharding = sharding;
    v.group = sharding == Sharding::kReplicated ? "" : "data";
    return v;
  }
  GraphBuilder b_;
  ValueId source_;
};

// Found by damaging random steps: the in-place operation's own read hid the other one's.
TEST(VerifyTest, CollectiveInPlaceWaitsForAnotherCollectiveThatStillReadsItsBytes) {
  Sketch s;
  const ValueId v = s.New("v", Sharding::kPartial), copy = s.New("copy", Sharding::kReplicated);
  s.Make(v);
  s.AllReduce("reader", {v}, copy, 16);
  s.AllReduce("writer", {v}, s.At(s.builder().value(v).buffer, 0, "v'", Sharding::kReplicated), 16);
  Plan plan = s.Planned();
  EXPECT_TRUE(Verify(plan).ok) << Verify(plan).findings.ToText();
  const NodeId reader = plan.graph.FindNode("reader.done"),
               writer = plan.graph.FindNode("writer.start");
  std::vector<Edge>& edges = plan.rank_plans[0].edges;
  edges.erase(std::remove_if(edges.begin(), edges.end(),
                             [&](const Edge& e) { return e.from == reader && e.to == writer; }),
              edges.end());
  EXPECT_THAT(Verify(plan).findings.ToText(),
              HasSubstr("is not ordered with reader.start, which reads v"));
}

// Found by damaging random steps, too: a collective moves one run of bytes, whatever its list of inputs says.
TEST(VerifyTest, CollectiveThatMovesASliceWithoutNamingItIsFound) {
  for (const bool forgets : {false, true}) {
    Sketch s;
    const BufferId buffer = s.builder().AddBuffer({.name = "run", .bytes = 3 * 64});
    std::vector<ValueId> slices;
    for (int i = 0; i < 3; ++i) {
      slices.push_back(s.At(buffer, 64 * i, "slice_" + std::to_string(i), Sharding::kPartial));
      s.Make(slices.back());
    }
    if (forgets) slices.erase(slices.begin() + 1);
    const ValueId sum = s.New("sum", Sharding::kReplicated);
    s.builder().value(sum).shape = {48};
    s.builder().buffer(s.builder().value(sum).buffer).bytes = 3 * 64;
    s.AllReduce("all", slices, sum, 48);
    const VerifyResult result = Verify(s.Planned());
    EXPECT_EQ(result.ok, !forgets) << result.findings.ToText();
    if (!forgets) continue;
    EXPECT_THAT(result.findings.ToText(),
                HasSubstr("takes the bytes of slice_1, which is not among its inputs"));
  }
}

TEST(VerifyTest, JoinThatNamesASliceTwiceInsteadOfAnotherIsFound) {
  for (const bool twice : {false, true}) {
    Sketch s;
    const BufferId buffer = s.builder().AddBuffer({.name = "run", .bytes = 2 * 64});
    const ValueId a = s.At(buffer, 0, "a", Sharding::kPartial);
    const ValueId b = s.At(buffer, 64, "b", Sharding::kPartial);
    const ValueId both = s.At(buffer, 0, "both", Sharding::kPartial);
    s.builder().value(both).shape = {32};
    s.Make(a);
    s.Make(b);
    Node join;
    join.name = "join";
    join.op = "join";
    join.inputs = {a, twice ? a : b};
    join.outputs = {both};
    s.builder().AddNode(join);
    const VerifyResult result = Verify(s.Planned());
    EXPECT_EQ(result.ok, !twice) << result.findings.ToText();
    if (!twice) continue;
    EXPECT_THAT(result.findings.ToText(), HasSubstr("its inputs a and a overlap"));
  }
}

}  // namespace
}  // namespace millrace
