#include "graph/ir/text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "graph/base/random.h"
#include "graph/ir/op_contract.h"

namespace millrace {
namespace {

using ::testing::HasSubstr;

REGISTER_OP_CONTRACT(r_gradient,
                     OpContract("r_gradient", "").In("w").Out("grad").Infer([](InferContext& c) {
                       c.outputs[0].CopyTypeFrom(*c.inputs[0]);
                       c.outputs[0].sharding = Sharding::kPartial;
                       c.outputs[0].group = "data";
                       return absl::OkStatus();
                     }));

absl::StatusOr<Graph> Parse(const std::string& text, int world = 1) {
  GraphTextOptions options;
  options.groups["data"] = world;
  Findings findings;
  absl::StatusOr<Graph> graph = ParseGraph(text, "g", options, findings);
  EXPECT_TRUE(graph.ok()) << findings.ToText();
  return graph;
}

// A random graph with everything that a graph can have; `seed` decides all.
Graph RandomGraph(uint64_t seed) {
  CounterRng rng(seed);
  uint64_t at = 0;
  auto pick = [&](int n) { return static_cast<int>(rng.Below(at++, n)); };
  GraphBuilder b(absl::StrCat("random \"", seed, "\"\n"));
  b.SetGroup("data", 1 + pick(8));
  b.SetGroup("tensor/\\x", 2);
  for (int i = pick(3); i > 0; --i) {
    Bucket bucket{absl::StrCat("bucket_", i), {}, 16 * pick(1000)};
    for (int k = pick(3); k > 0; --k)
      bucket.slots.push_back({pick(5), pick(5), 16 * pick(9), pick(99)});
    b.AddBucket(bucket);
  }
  const int buffers = 1 + pick(5);
  for (int i = 0; i < buffers; ++i) {
    b.AddBuffer({absl::StrCat("buf'", i), (1 << 20) + pick(1000), static_cast<Tier>(pick(kTiers)),
                 static_cast<BufferKind>(pick(9)), pick(2) == 0});
  }
  const int values = 1 + pick(12);
  for (int i = 0; i < values; ++i) {
    Value v;
    v.name = absl::StrCat("v/", i, "'");
    v.dtype = static_cast<DType>(pick(9));
    for (int k = pick(4); k > 0; --k) v.shape.push_back(pick(9));
    v.sharding = static_cast<Sharding>(pick(3));
    v.group = pick(3) == 0 ? "" : pick(2) == 0 ? "data" : "tensor/\\x";
    v.own_shard = pick(3) == 0;
    v.buffer = pick(buffers);
    v.offset = pick(1000);
    v.bucket = pick(static_cast<int>(b.peek().buckets().size()) + 1) - 1;
    b.AddValue(v);
  }
  int writer = 0;
  const int nodes = pick(12);
  for (int i = 0; i < nodes; ++i) {
    Node n;
    n.name = absl::StrCat("node/", i, ".x");
    n.op = pick(3) == 0 ? "adamw" : pick(2) == 0 ? "made up" : "all_gather";
    for (int k = pick(4); k > 0 && writer > 0; --k) n.inputs.push_back(pick(writer));
    if (i > 0 && pick(3) == 0) n.control.push_back(pick(i));
    if (pick(2) == 0) n.attrs["i"] = static_cast<int64_t>(pick(1000)) - 500;
    if (pick(2) == 0) n.attrs["f"] = rng.Normal(at++) * 1e-7;
    if (pick(2) == 0) n.attrs["s"] = std::string("a\"b\n\xc3\xa4");
    if (pick(2) == 0) n.attrs["b"] = pick(2) == 0;
    n.is_collective = n.op == "all_gather" || (n.op == "made up" && pick(2) == 0);
    if (n.is_collective) {
      n.collective.op =
          n.op == "all_gather" ? CollectiveOp::kAllGather : static_cast<CollectiveOp>(pick(6));
      n.collective.group = pick(2) == 0 ? "data" : "tensor/\\x";
      n.collective.dtype = static_cast<DType>(pick(9));
      n.collective.count = pick(1 << 20);
    }
    n.flops = pick(2) == 0 ? 0 : (int64_t{1} << 50) + pick(1000);
    n.operators = pick(3);
    n.memory_bytes = pick(2) == 0 ? 0 : pick(1 << 30);
    const bool async = pick(3) == 0;
    Node done = n;
    if (writer < values) (async ? done : n).outputs.push_back(writer++);
    const NodeId id = b.AddNode(n);
    if (!async) continue;
    b.node(id).async = AsyncRole::kStart;
    b.node(id).partner = id + 1;
    done.name += ".done";
    done.inputs.clear();
    done.async = AsyncRole::kDone;
    done.partner = id;
    done.control.clear();
    b.AddNode(done);
    ++i;
  }
  auto graph = std::move(b).Build();
  EXPECT_TRUE(graph.ok()) << graph.status();
  return *std::move(graph);
}

void ExpectEqual(const Graph& a, const Graph& b) {
  EXPECT_EQ(a.name(), b.name());
  EXPECT_EQ(a.groups(), b.groups());
  ASSERT_EQ(a.buckets().size(), b.buckets().size());
  ASSERT_EQ(a.buffers().size(), b.buffers().size());
  ASSERT_EQ(a.values().size(), b.values().size());
  ASSERT_EQ(a.nodes().size(), b.nodes().size());
  for (size_t i = 0; i < a.buckets().size(); ++i) {
    const Bucket &x = a.buckets()[i], &y = b.buckets()[i];
    EXPECT_EQ(std::tie(x.name, x.numel), std::tie(y.name, y.numel));
    ASSERT_EQ(x.slots.size(), y.slots.size());
    for (size_t k = 0; k < x.slots.size(); ++k) {
      const ParamSlot &s = x.slots[k], &t = y.slots[k];
      EXPECT_EQ(std::tie(s.stage, s.param, s.offset, s.numel),
                std::tie(t.stage, t.param, t.offset, t.numel));
    }
  }
  for (size_t i = 0; i < a.buffers().size(); ++i) {
    const Buffer &x = a.buffers()[i], &y = b.buffers()[i];
    EXPECT_EQ(std::tie(x.name, x.bytes, x.tier, x.kind, x.persistent),
              std::tie(y.name, y.bytes, y.tier, y.kind, y.persistent));
  }
  for (size_t i = 0; i < a.values().size(); ++i) {
    const Value &x = a.values()[i], &y = b.values()[i];
    EXPECT_EQ(std::tie(x.name, x.dtype, x.shape, x.sharding, x.group, x.own_shard, x.buffer,
                       x.offset, x.bucket),
              std::tie(y.name, y.dtype, y.shape, y.sharding, y.group, y.own_shard, y.buffer,
                       y.offset, y.bucket));
  }
  for (size_t i = 0; i < a.nodes().size(); ++i) {
    const Node &x = a.nodes()[i], &y = b.nodes()[i];
    EXPECT_EQ(std::tie(x.name, x.op, x.inputs, x.outputs, x.control, x.attrs, x.async, x.partner,
                       x.flops, x.memory_bytes, x.operators, x.is_collective),
              std::tie(y.name, y.op, y.inputs, y.outputs, y.control, y.attrs, y.async, y.partner,
                       y.flops, y.memory_bytes, y.operators, y.is_collective))
        << x.name;
    if (!x.is_collective) continue;
    const CollectiveSpec &c = x.collective, &d = y.collective;
    EXPECT_EQ(std::tie(c.op, c.group, c.dtype, c.count), std::tie(d.op, d.group, d.dtype, d.count))
        << x.name;
  }
  EXPECT_EQ(a.topological_order(), b.topological_order());
}

TEST(RoundTrip, RandomGraphsComeBackEqual) {
  GraphTextOptions structure_only;
  structure_only.check_types = false;
  for (uint64_t seed = 0; seed < 300; ++seed) {
    const Graph graph = RandomGraph(seed);
    const std::string text = ToText(graph);
    Findings findings;
    const auto back = ParseGraph(text, "round", structure_only, findings);
    ASSERT_TRUE(back.ok()) << findings.ToText() << "\n" << text;
    ExpectEqual(graph, *back);
    EXPECT_EQ(ToText(*back), text);
    if (HasFailure()) FAIL() << "seed " << seed << "\n" << text;
  }
}

TEST(RoundTrip, AHandWrittenGraphPrintsWholeAndComesBackEqual) {
  const auto r = Parse(R"(
value { name: "w" shape: [8] sharding: "sharded" kind: "parameter" }
node { name: "gather" op: "all_gather" input: "w" output: "whole" }
node { name: "bwd" op: "r_gradient" input: "whole" output: "g" }
node { name: "scatter" op: "reduce_scatter" input: "g" output: "g_shard" }
node { name: "opt" op: "sgd" input: "w" input: "g_shard" output: "w'" attr { name: "bucket" i: 3 } })",
                       4);
  ASSERT_TRUE(r.ok());
  const std::string text = ToText(*r);
  const auto back = Parse(text, 4);
  ASSERT_TRUE(back.ok());
  ExpectEqual(*r, *back);
  EXPECT_EQ(ToText(*back), text);
}

TEST(RoundTrip, TextIsOneLineForEachThing) {
  const auto r = Parse(R"(name: "step" value { name: "w" shape: [2, 3] kind: "parameter" }
    node { name: "bwd" op: "r_gradient" input: "w" output: "g" })");
  ASSERT_TRUE(r.ok());
  EXPECT_EQ(ToText(*r), R"(name: "step"
group { name: "data" size: 1 }
buffer { name: "w" bytes: 24 kind: "parameter" persistent: true }
buffer { name: "g" bytes: 24 }
value { name: "w" shape: [2, 3] buffer: "w" }
value { name: "g" shape: [2, 3] sharding: "partial" buffer: "g" }
node { name: "bwd" op: "r_gradient" input: "w" output: "g" }
)");
}

TEST(RoundTrip, SlotsSayTheirParametersName) {
  GraphBuilder b("step");
  b.AddBucket({"bucket_0", {{0, 0, 0, 6}}, 16});
  ModelSpec spec;
  spec.stages.resize(1);
  spec.stages[0].params.resize(1);
  spec.stages[0].params[0].name = "head.weight";
  EXPECT_THAT(ToText(*std::move(b).Build(), &spec),
              HasSubstr("slot { param: \"head.weight\" stage: 0 index: 0"));
}

TEST(Words, GoBothWays) {
  for (int i = 0; i < kTiers; ++i)
    EXPECT_EQ(ParseTier(Name(static_cast<Tier>(i))), static_cast<Tier>(i));
  for (int i = 0; i < 9; ++i)
    EXPECT_EQ(ParseBufferKind(Name(static_cast<BufferKind>(i))), static_cast<BufferKind>(i));
  for (int i = 0; i < 6; ++i) {
    EXPECT_EQ(ParseCollectiveOp(Name(static_cast<CollectiveOp>(i))), static_cast<CollectiveOp>(i));
  }
  EXPECT_EQ(ParseSharding("partial"), Sharding::kPartial);
  EXPECT_EQ(ParseSharding("halved"), std::nullopt);
}

}  // namespace
}  // namespace millrace
