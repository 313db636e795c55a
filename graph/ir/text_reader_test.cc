#include "graph/ir/text_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "graph/ir/field_path.h"
#include "graph/ir/pipeline.pb.h"

namespace millrace {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::StartsWith;

struct Result {
  Pipeline pipeline;
  TextLocations where;
  std::vector<std::string> messages;
};

Result Read(const std::string& text) {
  Result r;
  Findings findings;
  const bool good = ReadText(text, "p", &r.pipeline, &r.where, findings);
  EXPECT_EQ(good, findings.ok());
  for (const Finding& f : findings.list()) r.messages.push_back(ToText(f));
  return r;
}

TEST(TextReader, ReadsEveryFormOfTheLanguage) {
  const Result r = Read(R"(# a comment
name: "a" 'b'  # adjacent strings
model < name: "vit" arg { name: "x" i: -3 }, arg: { name: "y" f: 1e-3 } >;
data { augment { mean: [0.5, .25] std: 1 std: 2f } shuffle: false }
optimizer { kind: SGD lr: 5 }
train { seed: 0x10 })");
  EXPECT_THAT(r.messages, IsEmpty());
  EXPECT_EQ(r.pipeline.name(), "ab");
  EXPECT_EQ(r.pipeline.model().arg(0).i(), -3);
  EXPECT_EQ(r.pipeline.data().augment().std(1), 2);
  EXPECT_EQ(r.pipeline.train().seed(), 16);
  EXPECT_EQ(r.where.Find("model.arg[1].f").line, 3);
  EXPECT_EQ(r.where.Find("model.arg[1].f").column, 63);
  EXPECT_EQ(r.where.Find("data.augment.mean[1]").column, 30);
  EXPECT_EQ(r.where.Find("data.augment.shift_pixels").column,
            8);  // not written: the message around it
  EXPECT_EQ(r.where.Find("train.steps").line, 6);
  EXPECT_EQ(r.where.Find("checkpoint.keep").line, 1);
}

TEST(TextReader, UnknownFieldNamesTheNearOne) {
  const Result r = Read("train {\n  stpes: 10\n}");
  EXPECT_THAT(r.messages, ElementsAre(StartsWith(
                              "p:2:3: error: [unknown_field] unknown field 'stpes' in 'train', "
                              "expected one of steps, epochs, micro_batch")));
  EXPECT_THAT(r.messages[0], HasSubstr("help: did you mean 'steps'?"));
  EXPECT_TRUE(r.where.IsSuspect("train.steps"));
  EXPECT_FALSE(r.where.IsSuspect("train.epochs"));
}

TEST(TextReader, FieldOfAnotherMessageIsNamedWithItsPath) {
  EXPECT_THAT(Read("global_batch: 8").messages[0], HasSubstr("did you mean 'train.global_batch'?"));
  EXPECT_THAT(Read("train { stage: 8 }").messages[0],
              HasSubstr("did you mean 'parallel.zero.stage'?"));
  EXPECT_THAT(Read("train { machine: \"x\" }").messages[0],
              HasSubstr("'machine' is a field of the top level"));
}

TEST(TextReader, MisspeltEnumValueListsAllAndTheNearOne) {
  const Result r = Read("data { format: SYNTETIC }");
  EXPECT_THAT(
      r.messages,
      ElementsAre("p:1:16: error: [unknown_value] 'data.format' is SYNTETIC, expected one of "
                  "SYNTHETIC, IDX, CIFAR100, ISIC, COCO; help: did you mean 'SYNTHETIC'?"));
  EXPECT_THAT(Read("optimizer { kind: \"SGD\" }").messages[0],
              HasSubstr("help: did you mean 'SGD'?"));
}

TEST(TextReader, ValuesOfAnotherTypeAreNamedWithTheTypeExpected) {
  EXPECT_THAT(
      Read("train { steps: \"ten\" }").messages,
      ElementsAre("p:1:16: error: [value_type] 'train.steps' is \"ten\", expected an integer"));
  EXPECT_THAT(Read("train { steps: 1.5 }").messages[0],
              HasSubstr("'train.steps' is 1.5, expected an integer"));
  EXPECT_THAT(Read("parallel { data: 4294967296 }").messages[0],
              HasSubstr("expected an integer of 32 bits"));
  EXPECT_THAT(Read("optimizer { lr: fast }").messages[0],
              HasSubstr("'optimizer.lr' is fast, expected a number"));
  EXPECT_THAT(Read("data { shuffle: ture }").messages[0],
              HasSubstr("expected true or false; help: did you mean 'true'?"));
  EXPECT_THAT(Read("name: digits").messages[0],
              HasSubstr("expected a string in quotes; help: write \"digits\""));
  EXPECT_THAT(
      Read("train: 5").messages[0],
      HasSubstr("'train' is a message, expected '{', found '5'; help: write train { ... }"));
  EXPECT_THAT(Read("name { x: 1 }").messages[0],
              HasSubstr("'name' is no message, expected a string in quotes"));
  EXPECT_THAT(Read("data { augment { mean: [1, x, y] } }").messages, SizeIs(2));
}

TEST(TextReader, FieldsSetTwiceAreNamedWithTheFirstLine) {
  EXPECT_THAT(
      Read("train {\n steps: 1\n steps: 2\n}").messages,
      ElementsAre(
          "p:3:2: error: [duplicate_field] 'train.steps' is set twice, first in line 2; help: take "
          "one of them out"));
  EXPECT_THAT(Read("model { arg { name: \"a\" i: 1 f: 2 } }").messages,
              ElementsAre(HasSubstr("'model.arg[0].f' is set beside 'i', expected one of them")));
}

TEST(TextReader, RequiredFieldsAreAskedForAtTheirMessage) {
  EXPECT_THAT(Read("graph {\n  node { op: \"relu\" }\n}").messages,
              ElementsAre("p:2:3: error: [missing_field] graph.node[0] has no 'name', expected a "
                          "string in quotes"));
  EXPECT_THAT(Read("graph { node { nme: \"a\" op: \"relu\" } }").messages, SizeIs(1));  // said once
}

TEST(TextReader, SyntaxErrorsArePlacedAndDoNotHideTheRest) {
  const Result r =
      Read("name \"x\"\n}\ntrain { steps 5 seed: }\n= \nmachine: \"open\ndata { thraeds: 2");
  EXPECT_THAT(
      r.messages,
      ElementsAre("p:1:6: error: [syntax] expected ':' after 'name', found '\"x\"'",
                  "p:2:1: error: [syntax] '}' closes nothing; help: take it out",
                  "p:3:15: error: [syntax] expected ':' after 'steps', found '5'",
                  "p:3:17: error: [syntax] 'train.seed' is followed by '}', expected an integer",
                  "p:4:1: error: [syntax] expected a field name, found '='",
                  "p:5:10: error: [value_type] 'machine' is a string without its closing quote, "
                  "expected a string in quotes",
                  StartsWith("p:6:8: error: [unknown_field] unknown field 'thraeds' in 'data'"),
                  StartsWith("p:6:6: error: [syntax] '{' is not closed; help: add '}'")));
}

TEST(TextReader, GoodFieldsSurviveBesideBadOnes) {
  const Result r = Read(
      "train { stpes: 10 seed: 7 micro_batch: x accumulation: 3 }\nmodle { name: \"a\" arg { } "
      "}\nname: \"n\"");
  EXPECT_THAT(r.messages, SizeIs(3));
  EXPECT_EQ(r.pipeline.train().seed(), 7);
  EXPECT_EQ(r.pipeline.train().accumulation(), 3);
  EXPECT_FALSE(r.pipeline.train().has_micro_batch());
  EXPECT_EQ(r.pipeline.name(), "n");
}

TEST(TextReader, NothingCrashesOnTextCutAnywhere) {
  const std::string text =
      "name: \"a\\\"b\" model { name: 'x' arg: [{ name: \"h\" i: -64 }, <name: \"f\" f: 1.5e-3>] } "
      "# c\n"
      "data { augment { mean: [0.5, 1] } format: IDX } train { steps: 3 }";
  for (size_t i = 0; i <= text.size(); ++i) {
    Read(text.substr(0, i));
    Read(text.substr(i));
    Read(text.substr(0, i) + "}" + text.substr(i));
    Read(text.substr(0, i) + "[" + text.substr(i));
  }
  EXPECT_THAT(Read(text).messages, IsEmpty());
}

// --set

std::string Override(Pipeline* p, const std::string& assignment,
                     std::vector<std::string>* paths = nullptr) {
  Findings findings;
  std::vector<std::string> ignored;
  const bool good = ApplyOverride(p, assignment, paths != nullptr ? paths : &ignored, findings);
  EXPECT_EQ(good, findings.ok());
  return findings.ToText();
}

TEST(Override, SetsScalarsOfEveryType) {
  Pipeline p;
  for (const char* set :
       {"train.steps=20", "optimizer.lr=1e-4", "runtime.overlap=false", "optimizer.kind=SGD",
        "parallel.zero.stage=3", "machine=box.textproto", "name=\"quoted\"", "train.seed=-1"}) {
    EXPECT_EQ(Override(&p, set), "") << set;
  }
  EXPECT_EQ(p.train().steps(), 20);
  EXPECT_EQ(p.optimizer().lr(), 1e-4);
  EXPECT_TRUE(p.runtime().has_overlap() && !p.runtime().overlap());
  EXPECT_EQ(p.optimizer().kind(), Optimizer::SGD);
  EXPECT_EQ(p.parallel().zero().stage(), 3);
  EXPECT_EQ(p.machine(), "box.textproto");
  EXPECT_EQ(p.name(), "quoted");
}

TEST(Override, BytesTakeUnits) {
  Pipeline p;
  EXPECT_EQ(Override(&p, "parallel.zero.reduce_bucket_bytes=25MiB"), "");
  EXPECT_EQ(p.parallel().zero().reduce_bucket_bytes(), 26214400);
  EXPECT_EQ(Override(&p, "parallel.zero.prefetch_bytes=1.5 kB"), "");
  EXPECT_EQ(p.parallel().zero().prefetch_bytes(), 1500);
  EXPECT_THAT(Override(&p, "parallel.zero.prefetch_bytes=1.0001kB"),
              HasSubstr("expected an integer, perhaps with a unit"));
  EXPECT_THAT(Override(&p, "train.steps=1KiB"),
              HasSubstr("'train.steps' is '1KiB', expected an integer"));
}

TEST(Override, ListsAreReplacedAppendedOrChangedByIndex) {
  Pipeline p;
  std::vector<std::string> paths;
  EXPECT_EQ(Override(&p, "data.augment.mean=[0.5, 0.25]"), "");
  EXPECT_EQ(Override(&p, "data.augment.mean=3"), "");
  EXPECT_EQ(Override(&p, "data.augment.mean[0]=1", &paths), "");
  EXPECT_THAT(p.data().augment().mean(), ElementsAre(1, 0.25, 3));
  EXPECT_THAT(paths, ElementsAre("data.augment.mean[0]"));
  EXPECT_THAT(Override(&p, "data.augment.mean[4]=1"),
              HasSubstr("has 3 entries, expected an index up to 3"));
  EXPECT_THAT(Override(&p, "train.steps[0]=1"),
              HasSubstr("'train.steps' is one value, not a list"));
}

TEST(Override, ModelArgumentsGoByNameAndKeepTheirType) {
  Pipeline p;
  Arg* arg = p.mutable_model()->add_arg();
  arg->set_name("dropout");
  arg->set_f(0.1);
  EXPECT_EQ(Override(&p, "model.arg.dropout=0"), "");
  EXPECT_TRUE(arg->has_f() && arg->f() == 0);
  for (const char* set : {"model.arg.hidden_size=64", "model.arg.rate=0.5", "model.arg.bias=true",
                          "model.arg.mode=fast", "model.arg[1].i=32"}) {
    EXPECT_EQ(Override(&p, set), "") << set;
  }
  EXPECT_EQ(p.model().arg(1).i(), 32);
  EXPECT_EQ(p.model().arg(2).f(), 0.5);
  EXPECT_TRUE(p.model().arg(3).b());
  EXPECT_EQ(p.model().arg(4).s(), "fast");
}

TEST(Override, MistakesSayWhatWasExpected) {
  Pipeline p;
  EXPECT_THAT(Override(&p, "train.stpes=3"),
              StartsWith("--set train.stpes=3: error: [unknown_field] unknown field 'stpes' in "
                         "'train', expected one "));
  EXPECT_THAT(Override(&p, "train.stpes=3"), HasSubstr("did you mean 'steps'?"));
  EXPECT_THAT(Override(&p, "steps=3"), HasSubstr("did you mean 'train.steps'?"));
  EXPECT_THAT(Override(&p, "train.steps=abc"),
              HasSubstr("'train.steps' is 'abc', expected an integer"));
  EXPECT_THAT(Override(&p, "parallel.data=4294967296"),
              HasSubstr("expected an integer of 32 bits"));
  EXPECT_THAT(Override(&p, "optimizer.kind=adamw"), HasSubstr("did you mean 'ADAMW'?"));
  EXPECT_THAT(Override(&p, "runtime.overlap=no"), HasSubstr("expected true or false"));
  EXPECT_THAT(Override(&p, "train=3"),
              HasSubstr("'train' is a message, expected one of its fields: steps"));
  EXPECT_THAT(Override(&p, "train.steps.x=3"),
              HasSubstr("'train.steps' is a value and has no fields"));
  EXPECT_THAT(Override(&p, "train.steps"), HasSubstr("expected path.to.field=value"));
  EXPECT_THAT(Override(&p, "graph.node.a.op=x"), HasSubstr("'graph.node' has no entry named 'a'"));
  EXPECT_THAT(Override(&p, "data.augment.mean[x]=1"), HasSubstr("expected mean[0]"));
}

TEST(FieldPath, TellsWhatIsSetAndWhatItHolds) {
  Pipeline p;
  EXPECT_FALSE(IsSet(p, "train.steps"));
  EXPECT_EQ(FieldText(p, "data.max_value"), "255");
  p.mutable_data()->mutable_augment()->add_mean(0.5);
  EXPECT_TRUE(IsSet(p, "data.augment.mean"));
  EXPECT_EQ(FieldText(p, "data.augment.mean"), "[0.5]");
  EXPECT_EQ(FieldText(p, "optimizer.kind"), "ADAMW");
  EXPECT_EQ(FieldText(p, "machine"), "\"cpu_2_cores\"");
}

}  // namespace
}  // namespace millrace
