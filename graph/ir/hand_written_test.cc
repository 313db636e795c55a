#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "graph/ir/op_contract.h"
#include "graph/ir/text.h"

namespace millrace {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::StartsWith;

// y = x w; a contract as a kernel's author writes it.
absl::Status InferLinear(InferContext& c) {
  const Value& x = *c.inputs[0];
  const Value& w = *c.inputs[1];
  if (x.shape.size() != 2 || w.shape.size() != 2 || x.shape[1] != w.shape[0]) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", x.name, "' and '", w.name, "' do not multiply"));
  }
  c.outputs[0].CopyTypeFrom(x);
  c.outputs[0].shape[1] = w.shape[1];
  return absl::OkStatus();
}
REGISTER_OP_CONTRACT(t_linear, OpContract("t_linear", "y = x w")
                                   .In("x")
                                   .In("w")
                                   .Out("y")
                                   .Attr("scale", 1.0)
                                   .Infer(InferLinear));
REGISTER_OP_CONTRACT(t_source, OpContract("t_source", "made-up input").OutVariadic("values"));
REGISTER_OP_CONTRACT(t_gradient,
                     OpContract("t_gradient", "").In("w").Out("grad").Infer([](InferContext& c) {
                       c.outputs[0].CopyTypeFrom(*c.inputs[0]);
                       c.outputs[0].sharding = Sharding::kPartial;
                       c.outputs[0].group = "data";
                       return absl::OkStatus();
                     }));

struct Result {
  std::optional<Graph> graph;
  std::vector<std::string> messages;
};

Result Parse(const std::string& text, const GraphTextOptions& options = {}) {
  Result r;
  Findings findings;
  absl::StatusOr<Graph> graph = ParseGraph(text, "g", options, findings);
  EXPECT_EQ(graph.ok(), findings.ok());
  if (graph.ok()) r.graph = *std::move(graph);
  for (const Finding& f : findings.list()) r.messages.push_back(ToText(f));
  return r;
}

std::vector<std::string> Mistakes(const std::string& text, const GraphTextOptions& options = {}) {
  return Parse(text, options).messages;
}

GraphTextOptions World(int n, int stage = 0) {
  GraphTextOptions o;
  o.groups["data"] = n;
  o.zero_stage = stage;
  return o;
}

TEST(HandWritten, ValuesGetBuffersTypesAndSharedBytes) {
  const Result r = Parse(R"(
value { name: "x" shape: [4, 8] }
value { name: "w" shape: [8, 16] kind: "parameter" init: "normal:0.02" }
value { name: "m" shape: [8, 16] kind: "optimizer_state" }
node { name: "load" op: "t_source" output: "x" }
node { name: "fc" op: "t_linear" input: "x" input: "w" output: "y" }
node { name: "bwd" op: "t_gradient" input: "w" output: "g" }
node { name: "reduce" op: "all_reduce" input: "g" output: "g_sum" }
node { name: "opt" op: "sgd" input: "w" input: "g_sum" input: "m" output: "w'" output: "m'" }
)",
                         World(2));
  ASSERT_THAT(r.messages, IsEmpty());
  const Graph& g = *r.graph;
  auto value = [&](const char* name) { return g.values()[g.FindValue(name)]; };
  auto buffer = [&](const char* name) { return g.buffers()[value(name).buffer]; };
  EXPECT_THAT(value("y").shape, ElementsAre(4, 16));
  EXPECT_EQ(buffer("y").bytes, 4 * 16 * 4);
  EXPECT_EQ(buffer("w").kind, BufferKind::kParameter);
  EXPECT_TRUE(buffer("w").persistent);
  EXPECT_TRUE(buffer("m").persistent);
  EXPECT_FALSE(buffer("x").persistent);
  EXPECT_EQ(value("w'").buffer, value("w").buffer);
  EXPECT_EQ(value("m'").buffer, value("m").buffer);
  EXPECT_EQ(value("g").sharding, Sharding::kPartial);
  EXPECT_EQ(value("g_sum").sharding, Sharding::kReplicated);
  const Node& reduce = g.nodes()[g.FindNode("reduce")];
  EXPECT_TRUE(reduce.is_collective);
  EXPECT_EQ(reduce.collective.op, CollectiveOp::kAllReduce);
  EXPECT_EQ(reduce.collective.group, "data");
  EXPECT_EQ(reduce.collective.count, 128);
  EXPECT_EQ(g.group_size("data"), 2);
  EXPECT_EQ(g.nodes()[0].source.line, 5);
}

TEST(HandWritten, GatherAndScatterAreSizedByTheGroup) {
  const Result r = Parse(R"(
value { name: "w" shape: [8] sharding: "sharded" kind: "parameter" }
node { name: "gather" op: "all_gather" input: "w" output: "whole" }
node { name: "bwd" op: "t_gradient" input: "whole" output: "g" }
node { name: "scatter" op: "reduce_scatter" input: "g" output: "g_shard" }
node { name: "opt" op: "sgd" input: "w" input: "g_shard" output: "w'" }
)",
                         World(4, 3));
  ASSERT_THAT(r.messages, IsEmpty());
  const Graph& g = *r.graph;
  EXPECT_EQ(g.values()[g.FindValue("whole")].numel(), 32);
  EXPECT_EQ(g.buffers()[g.values()[g.FindValue("whole")].buffer].kind, BufferKind::kGathered);
  EXPECT_EQ(g.values()[g.FindValue("g_shard")].numel(), 8);
  EXPECT_EQ(g.values()[g.FindValue("g_shard")].sharding, Sharding::kSharded);
  EXPECT_EQ(g.nodes()[g.FindNode("scatter")].collective.count, 8);
}

TEST(HandWritten, AsyncHalvesAreOneOperation) {
  const Result r = Parse(R"(
value { name: "w" shape: [8] sharding: "sharded" kind: "parameter" }
node { name: "gather.start" op: "all_gather" input: "w" async: "start" partner: "gather.done" }
node { name: "gather.done" op: "all_gather" output: "whole" async: "done" partner: "gather.start" }
node { name: "use" op: "t_gradient" input: "whole" output: "g" })",
                         World(2));
  ASSERT_THAT(r.messages, IsEmpty());
  EXPECT_EQ(r.graph->values()[r.graph->FindValue("whole")].numel(), 16);
  EXPECT_EQ(r.graph->nodes()[1].collective.count, 8);
}

TEST(HandWritten, ParametersSayHowTheyStart) {
  const char* text = R"(
    value { name: "w" shape: [2, 3] kind: "parameter" init: "truncated_normal:0.02" }
    value { name: "b" shape: [3] kind: "parameter" }
    value { name: "x" shape: [3] })";
  GraphDef def;
  TextLocations where;
  Findings findings;
  ASSERT_TRUE(ReadText(text, "g", &def, &where, findings));
  const std::vector<ParamSpec> params = HandWrittenParameters(def);
  ASSERT_THAT(params, SizeIs(2));
  EXPECT_EQ(params[0].init.kind, InitSpec::Kind::kTruncatedNormal);
  EXPECT_EQ(params[0].init.scale, 0.02);
  EXPECT_EQ(params[0].numel(), 6);
  EXPECT_EQ(params[1].init.kind, InitSpec::Kind::kZeros);
  for (const char* good : {"ones", "zeros", "constant:-3", "normal:1e-2", "uniform:0.1"}) {
    EXPECT_TRUE(ParseInit(good).has_value()) << good;
  }
  for (const char* bad : {"", "normal", "normal:x", "normal:0", "normla:0.1", "ones:2"}) {
    EXPECT_FALSE(ParseInit(bad).has_value()) << bad;
  }
}

TEST(HandWritten, Stage3WithoutAGatherIsRefused) {
  const char* sharded = R"(
value { name: "x" shape: [4, 8] }
value { name: "w" shape: [8, 8] sharding: "sharded" kind: "parameter" }
node { name: "load" op: "t_source" output: "x" }
  node { name: "fc" op: "t_linear" input: "x" input: "w" output: "y" })";
  EXPECT_THAT(
      Mistakes(sharded, World(2, 3)),
      ElementsAre(
          "g:5:3: error: [type] node 'fc': reads parameter 'w', of which each rank of group 'data' "
          "holds a shard only; it needs an all_gather before it; help: add a node with op "
          "\"all_gather\" that reads 'w' and read its output"));
  EXPECT_THAT(Mistakes(sharded, World(1, 3)), IsEmpty());  // the only rank has all of it
  const char* whole = R"(
value { name: "w" shape: [8, 8] kind: "parameter" }
node { name: "use" op: "t_gradient" input: "w" output: "g" })";
  EXPECT_THAT(Mistakes(whole, World(2, 3)),
              ElementsAre(StartsWith(
                  "g:3:1: error: [type] node 'use': reads parameter 'w' whole, but at "
                  "parallel.zero.stage 3 each rank holds a shard only; it needs an all_gather")));
  EXPECT_THAT(Mistakes(whole, World(2, 2)), IsEmpty());
}

TEST(HandWritten, UnknownOperationsAndNamesAreGuessed) {
  EXPECT_THAT(
      Mistakes(R"(
value { name: "weight" shape: [8] kind: "parameter" }
node { name: "bwd" op: "t_gradeint" input: "weight" output: "g" }
node { name: "use" op: "t_gradient" input: "wieght" output: "g2" control: "bdw" }
node { name: "far" op: "quux" })"),
      ElementsAre(
          "g:4:37: error: [unknown_name] node 'use': reads 'wieght', which no node writes and no "
          "value declares; help: did you mean 'weight'?",
          StartsWith("g:4:66: error: [unknown_name] node 'use': waits for 'bdw', expected the name "
                     "of a node; help: did you mean 'bwd'?"),
          "g:3:1: error: [unknown_op] node 'bwd': unknown operation 't_gradeint'; help: did you "
          "mean "
          "'t_gradient'?",
          "g:5:1: error: [unknown_op] node 'far': unknown operation 'quux'; help: `millrace "
          "describe "
          "op` lists the operations"));
}

TEST(HandWritten, TwoWritersAndCyclesHavePlaces) {
  EXPECT_THAT(Mistakes(R"(
value { name: "a" shape: [1, 1] }
node { name: "n1" op: "t_source" output: "a" }
node { name: "n2" op: "t_source" output: "a" })"),
              ElementsAre(StartsWith(
                  "g:4:1: error: [two_writers] node 'n2': writes value 'a', which node 'n1' (line "
                  "3) writes already")));
  EXPECT_THAT(
      Mistakes(R"(
node { name: "n1" op: "t_gradient" input: "b" output: "a" }
node { name: "n2" op: "t_gradient" input: "a" output: "b" }
node { name: "n3" op: "t_gradeint" input: "a" output: "c" })"),
      ElementsAre(
          StartsWith(
              "g:2:1: error: [cycle] node 'n1': waits for itself: 'n1' -> (a) 'n2' -> (b) 'n1'"),
          StartsWith("g:4:1: error: [unknown_op] node 'n3'")));
}

TEST(HandWritten, WordsOfTheFormatAreChecked) {
  EXPECT_THAT(
      Mistakes(R"(
value { name: "a" shape: [1] dtype: "f23" }
value { name: "b" shape: [1] sharding: "shared" kind: "paramter" }
value { name: "c" shape: [1] init: "ones" }
value { name: "d" shape: [1] kind: "parameter" init: "onse" buffer: "bfu" bucket: 2 }
buffer { name: "buf" bytes: 4 tier: "dvice" }
node { name: "n" op: "t_source" output: ["a", "b", "c", "d"] async: "strat" group: "data" attr { name: "x" } })"),
      ElementsAre(
          "g:6:31: error: [unknown_value] buffer 'buf' has tier 'dvice', expected one of device, "
          "pinned, host, storage; help: did you mean 'device'?",
          HasSubstr(
              "g:2:30: error: [unknown_value] value 'a' has dtype 'f23', expected one of f32"),
          HasSubstr("g:3:30: error: [unknown_value] value 'b' has sharding 'shared'"),
          HasSubstr("did you mean 'parameter'?"),
          HasSubstr("g:4:30: error: [unused] value 'c' has an init"),
          HasSubstr("g:5:75: error: [unknown_id] value 'd' is part of bucket 2, but there is none"),
          HasSubstr("g:5:48: error: [unknown_value] value 'd' has init 'onse'"),
          HasSubstr("g:5:61: error: [unknown_name] value 'd' lies in buffer 'bfu', which is not "
                    "declared; help: did you mean 'buf'?"),
          HasSubstr("g:7:91: error: [attribute] node 'n': attribute 'x' has no value"),
          HasSubstr("g:7:62: error: [unknown_value] node 'n': has async 'strat'"),
          HasSubstr("g:7:77: error: [unused] node 'n': has a group but operation 't_source'"),
          HasSubstr("value 'd' lies in buffer -1")));
}

TEST(HandWritten, WhatCannotBeInferredIsAskedFor) {
  EXPECT_THAT(
      Mistakes(R"(
value { name: "spare" shape: [1] }
value { name: "w" kind: "parameter" }
node { name: "n" op: "t_source" output: "a" }
node { name: "m" op: "t_gradient" input: "a" output: "b" }
node { name: "o" op: "t_gradient" input: "w" output: "c" })"),
      ElementsAre(
          HasSubstr(
              "g:2:1: error: [unused] value 'spare' is declared, but no node reads or writes it"),
          HasSubstr("g:3:1: error: [type] value 'w' has no shape, and no node writes it"),
          "g:4:33: error: [type] node 'n': writes 'a', whose shape operation 't_source' does not "
          "tell; "
          "help: add value { name: \"a\" shape: [...] }"));
}

TEST(HandWritten, GroupSizesComeFromThePipelineAndMayNotContradictIt) {
  EXPECT_THAT(
      Mistakes("group { name: \"data\" size: 2 }", World(4)),
      ElementsAre(
          "g:1:22: error: [group] group 'data' has size 2, expected 4 as parallel.data says; help: "
          "leave the group out, or set parallel.data to 2"));
  EXPECT_EQ(Parse("group { name: \"data\" size: 2 }").graph->group_size("data"), 2);
}

// The type check, by text.

TEST(TypeCheck, PortsAndAttributesAreCounted) {
  EXPECT_THAT(
      Mistakes(R"(
value { name: "x" shape: [4, 8] }
node { name: "load" op: "t_source" output: "x" }
node { name: "fc" op: "t_linear" input: "x" output: "y" attr { name: "scael" f: 2 } }
node { name: "f2" op: "t_linear" input: "x" input: "x" output: "z" attr { name: "scale" i: 2 } }
node { name: "fw" op: "forward" })"),
      ElementsAre(
          "g:4:1: error: [attribute] node 'fc': operation 't_linear' has no attribute 'scael', "
          "expected "
          "one of scale; help: did you mean 'scale'?",
          "g:4:1: error: [type] node 'fc': operation 't_linear' has 1 input, expected 2 (x, w)",
          "g:5:1: error: [attribute] node 'f2': attribute 'scale' is an integer (i), expected a "
          "number (f)",
          "g:5:1: error: [type] node 'f2': 'x' and 'x' do not multiply",
          HasSubstr("g:6:1: error: [attribute] node 'fw': operation 'forward' needs the attribute "
                    "'stage'")));
}

TEST(TypeCheck, DeclaredTypesMustBeWhatTheContractSays) {
  EXPECT_THAT(
      Mistakes(R"(
value { name: "w" shape: [8] kind: "parameter" }
value { name: "g" shape: [9] dtype: "f16" sharding: "replicated" }
node { name: "bwd" op: "t_gradient" input: "w" output: "g" })",
               World(2)),
      ElementsAre(
          HasSubstr(
              "g:3:1: error: [type] node 'bwd': writes 'g' with element type f16, expected f32"),
          HasSubstr("writes 'g' with shape [9], expected [8]"),
          HasSubstr("writes 'g' with sharding replicated, expected partial over 'data'")));
}

TEST(TypeCheck, CollectivesWantTheRightSharding) {
  const std::string values = R"(
value { name: "whole" shape: [8] kind: "parameter" }
value { name: "shard" shape: [8] sharding: "sharded" kind: "optimizer_state" }
value { name: "odd" shape: [7] sharding: "partial" kind: "optimizer_state" }
)";
  EXPECT_THAT(
      Mistakes(values + R"(
node { name: "a" op: "all_gather" input: "whole" output: "1" }
node { name: "b" op: "all_reduce" input: "whole" output: "2" }
node { name: "c" op: "reduce_scatter" input: "shard" output: "3" }
node { name: "d" op: "reduce_scatter" input: "odd" output: "4" }
node { name: "e" op: "all_reduce" input: "odd" output: "5" count: 6 }
node { name: "f" op: "all_gather" input: "shard" output: "6" group: "tensor" }
node { name: "g" op: "all_reduce" output: "7" })",
               World(2)),
      ElementsAre(HasSubstr("node 'a': gathers 'whole', which is replicated, not sharded"),
                  HasSubstr("node 'b': reduces 'whole', which is replicated, not partial"),
                  HasSubstr("node 'c': reduces 'shard', which is sharded, not partial"),
                  HasSubstr("node 'd': scatters 7 elements over 2 ranks; expected a multiple"),
                  HasSubstr("node 'e': reads 7 elements, expected at most count = 6"),
                  HasSubstr("node 'f': the collective names group 'tensor', expected data"),
                  HasSubstr("node 'g': has no input, expected one or more")));
}

TEST(TypeCheck, OptimizersWantReducedGradientsOfTheirSize) {
  EXPECT_THAT(
      Mistakes(R"(
value { name: "w" shape: [8] kind: "parameter" }
value { name: "m" shape: [8] kind: "optimizer_state" }
value { name: "v" shape: [9] kind: "optimizer_state" }
value { name: "c" shape: [4] kind: "optimizer_state" }
node { name: "bwd" op: "t_gradient" input: "w" output: "g" }
node { name: "opt" op: "adamw" input: ["w", "g", "m", "m"] output: ["1", "2", "3"] }
node { name: "red" op: "all_reduce" input: "g" output: "gr" }
node { name: "op2" op: "adamw" input: ["w", "gr", "m", "v"] output: ["4", "5", "6"] }
node { name: "op3" op: "sgd" input: ["w", "gr", "m", "c"] output: ["7", "8"] })",
               World(2)),
      ElementsAre(
          HasSubstr(
              "node 'opt': reads gradient 'g', which is still a partial sum on each rank of group "
              "'data'; it needs an all_reduce or reduce_scatter before it"),
          HasSubstr("node 'op2': 'w' has 8 elements, 'v' has 9; expected as many"),
          HasSubstr("node 'op3': reads clip coefficient 'c' of shape [4], expected [2]")));
}

TEST(TypeCheck, NormsAndClippingFitTogether) {
  const Result r = Parse(R"(
value { name: "w" shape: [8] kind: "parameter" }
node { name: "bwd" op: "t_gradient" input: "w" output: "g" }
node { name: "scatter" op: "reduce_scatter" input: "g" output: "gs" }
node { name: "norm" op: "grad_norm" input: "gs" output: "n" }
node { name: "sum" op: "norm_sum" input: "n" output: "local" }
node { name: "gather" op: "all_gather" input: "local" output: "all" }
node { name: "clip" op: "clip_coefficient" input: "all" output: "c" attr { name: "max_norm" f: 1 } })",
                         World(2));
  EXPECT_THAT(r.messages,
              ElementsAre(HasSubstr("node 'gather': gathers 'local', which is replicated")));
  EXPECT_THAT(
      Mistakes(R"(
value { name: "w" shape: [8] kind: "parameter" }
node { name: "sum" op: "norm_sum" input: "w" output: "local" }
node { name: "clip" op: "clip_coefficient" input: "local" output: "c" attr { name: "max_norm" f: 0 } })"),
      ElementsAre(HasSubstr("reads 'w', f32 [8], expected i64 with a multiple of 10 elements")));
}

TEST(TypeCheck, InPlaceUpdatesStayInPlaceAndNothingIsReadUnwritten) {
  EXPECT_THAT(
      Mistakes(R"(
buffer { name: "other" bytes: 32 }
value { name: "w" shape: [8] kind: "parameter" }
value { name: "g" shape: [8] }
value { name: "w'" shape: [8] buffer: "other" }
node { name: "opt" op: "sgd" input: "w" input: "g" output: "w'" })"),
      ElementsAre(
          HasSubstr("node 'opt': reads 'g', which no node writes and which does not persist"),
          HasSubstr(
              "node 'opt': writes 'w'' to other bytes than 'w', which operation 'sgd' updates in "
              "place; help: put both on the same buffer and offset")));
}

TEST(TypeCheck, EveryBuiltinOperationDocumentsItsPortsAndAttributes) {
  for (const std::string& name : OpContracts::Global().Names()) {
    if (name.rfind("t_", 0) == 0) continue;
    const OpContract& op = *OpContracts::Global().Find(name);
    EXPECT_FALSE(op.doc.empty()) << name;
    for (const PortSpec& p : op.inputs) EXPECT_FALSE(p.doc.empty()) << name << " " << p.name;
    for (const PortSpec& p : op.outputs)
      EXPECT_TRUE(!p.doc.empty() || p.in_place_of >= 0) << name << " " << p.name;
    for (const AttrSpec& a : op.attrs) EXPECT_FALSE(a.doc.empty()) << name << " " << a.name;
  }
  EXPECT_EQ(OpContracts::Global().Find("no_such_op"), nullptr);
  EXPECT_FALSE(OpContracts::Global().Register(OpContract("adamw", "again")));
}

}  // namespace
}  // namespace millrace
