#include "graph/ir/pipeline_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "absl/strings/str_cat.h"
#include "graph/ir/op_contract.h"

namespace millrace {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::StartsWith;

struct Result {
  std::optional<LoadedPipeline> pipeline;
  std::vector<std::string> messages;
};

Result Load(const std::string& text, const std::vector<std::string>& overrides = {}) {
  Result r;
  Findings findings;
  absl::StatusOr<LoadedPipeline> p = ParsePipeline(text, "dir/p.textproto", overrides, findings);
  EXPECT_EQ(p.ok(), findings.ok());
  if (p.ok()) r.pipeline = *std::move(p);
  for (const Finding& f : findings.list()) r.messages.push_back(ToText(f));
  return r;
}

// Mistakes of a good pipeline with `text` added after its two lines.
std::vector<std::string> Mistakes(const std::string& text,
                                  const std::vector<std::string>& overrides = {}) {
  return Load("model { name: \"vit\" }\n" + text, overrides).messages;
}

constexpr char kGood[] = "model { name: \"vit\" }\ntrain { steps: 10 }\n";

TEST(Pipeline, TheSmallestOneLoadsAndIsFilledIn) {
  const Result r = Load(kGood);
  ASSERT_THAT(r.messages, IsEmpty());
  EXPECT_EQ(r.pipeline->proto.name(), "p");
  EXPECT_EQ(r.pipeline->proto.train().global_batch(), 1);
  EXPECT_EQ(r.pipeline->OriginOf("train.global_batch"), Origin::kInferred);
  EXPECT_EQ(r.pipeline->OriginOf("train.steps"), Origin::kFile);
  EXPECT_EQ(r.pipeline->OriginOf("train.seed"), Origin::kDefault);
}

TEST(Pipeline, SeveralMistakesOfEveryKindAreSaidAtOnce) {
  EXPECT_THAT(
      Load(R"(model { nmae: "vit" }
data { format: SYNTETIC images: "x" }
parallel { data: 3 zero { stage: 2 reduce_bucket_bytes: 0 prefetch_depth: 2 } }
train { stpes: 10 micro_batch: 4 global_batch: 10 label_smoothing: 1 }
optimizer { momentum: 0.5 }
)",
           {"train.sede=3", "optimizer.lr=-1"})
          .messages,
      ElementsAre(
          StartsWith("dir/p.textproto:1:9: error: [unknown_field] unknown field 'nmae' in 'model'"),
          StartsWith("dir/p.textproto:2:16: error: [unknown_value] 'data.format' is SYNTETIC"),
          StartsWith(
              "dir/p.textproto:4:9: error: [unknown_field] unknown field 'stpes' in 'train'"),
          StartsWith("--set train.sede=3: error: [unknown_field] unknown field 'sede' in 'train'"),
          StartsWith("dir/p.textproto:3:36: error: [range] parallel.zero.reduce_bucket_bytes is 0, "
                     "expected more than 0 bytes; help: leave it out for the default"),
          StartsWith("dir/p.textproto:3:59: error: [changes_nothing] parallel.zero.prefetch_depth "
                     "changes nothing at ZeRO stage 2"),
          StartsWith(
              "--set optimizer.lr=-1: error: [range] optimizer.lr is -1, expected more than 0"),
          StartsWith(
              "dir/p.textproto:5:13: error: [changes_nothing] optimizer.momentum changes nothing "
              "with optimizer.kind ADAMW"),
          StartsWith(
              "dir/p.textproto:4:51: error: [range] train.label_smoothing is 1, expected 0 or "
              "more and less than 1"),
          StartsWith("dir/p.textproto:4:34: error: [batch] train.global_batch is 10, expected")));
}

TEST(Batch, ContradictionSaysWhatWasGivenAndTwoFixes) {
  EXPECT_THAT(
      Mistakes("train { steps: 1 global_batch: 24 micro_batch: 4 }", {"parallel.data=2"}),
      ElementsAre(
          "dir/p.textproto:2:18: error: [batch] train.global_batch is 24, expected "
          "train.micro_batch 4 "
          "(file) x train.accumulation 1 (default) x parallel.data 2 (--set) = 8; help: set "
          "train.global_batch to 8 or leave it out, or train.micro_batch to 12"));
  EXPECT_THAT(
      Mistakes("train { steps: 1 micro_batch: 4 }", {"train.global_batch=9", "parallel.data=2"}),
      ElementsAre(
          StartsWith("--set train.global_batch=9: error: [batch] train.global_batch is 9")));
}

TEST(Batch, MicroBatchIsSolvedWhenTheGlobalOneIsGiven) {
  const Result r = Load(
      "model { name: \"vit\" } train { steps: 1 global_batch: 24 accumulation: 3 } parallel { "
      "data: 2 }");
  ASSERT_THAT(r.messages, IsEmpty());
  EXPECT_EQ(r.pipeline->proto.train().micro_batch(), 4);
  EXPECT_EQ(r.pipeline->OriginOf("train.micro_batch"), Origin::kInferred);
}

TEST(Batch, WorldSizeThatDoesNotDivideIsNamedWithNeighbours) {
  EXPECT_THAT(
      Mistakes("parallel { data: 3 }\ntrain { steps: 1 global_batch: 8 }"),
      ElementsAre(
          "dir/p.textproto:3:18: error: [batch] train.global_batch is 8, which does not divide by "
          "train.accumulation 1 (default) x parallel.data 3 (file) = 3; expected a multiple of 3 "
          "(world "
          "size not divisible); help: set train.global_batch to 6 or 9, or parallel.data to 2"));
}

TEST(Recompute, OneWayToSayWhichStages) {
  EXPECT_THAT(
      Mistakes("train { steps: 1 }\nmemory { recompute { all: true every: 2 stage: \"a\" } }"),
      ElementsAre(
          "dir/p.textproto:3:32: error: [contradiction] both memory.recompute.all and "
          "memory.recompute.every say which stages are recomputed, expected one of them; help: "
          "take one of them out",
          StartsWith("dir/p.textproto:3:41: error: [contradiction] both memory.recompute.all and "
                     "memory.recompute.stage")));
  EXPECT_THAT(
      Mistakes("train { steps: 1 }\nmemory { recompute { every: -1 }\n  device_budget_bytes: 0 }"),
      ElementsAre(StartsWith("dir/p.textproto:3:22: error: [range] memory.recompute.every is -1"),
                  StartsWith("dir/p.textproto:4:3: error: [range] "
                             "memory.device_budget_bytes is 0, expected more than 0")));
}

TEST(Offload, ThePlannersChoiceIsThePlannersAlone) {
  EXPECT_THAT(
      Mistakes("train { steps: 1 }\nparallel { zero { stage: 3 } }\nmemory { offload { auto: true\n"
               "optimizer { tier: HOST }\nparameters { tier: HOST } }\nrecompute { auto: true } }"),
      ElementsAre(
          StartsWith("dir/p.textproto:5:13: error: [contradiction] memory.offload.auto lets the "
                     "planner choose what is offloaded and recomputed, but "
                     "memory.offload.optimizer.tier is set as well"),
          AllOf(HasSubstr("[contradiction]"), HasSubstr("but memory.offload.parameters.tier")),
          AllOf(HasSubstr("[contradiction]"), HasSubstr("but memory.recompute.auto"))));
  EXPECT_THAT(
      Mistakes("train { steps: 1 }\nmemory { offload { auto: true storage { folder: \"d\" } "
               "} }"),
      IsEmpty());
  EXPECT_THAT(Mistakes("train { steps: 1 }\nmemory { offload { auto: true optimizer { ratio: 0.5 } "
                       "} }"),
              ElementsAre(HasSubstr("memory.offload.optimizer.ratio changes nothing")));
}

TEST(Knobs, ThatChangeNothingAreErrors) {
  const struct {
    const char* text;
    const char* message;
  } kCases[] = {
      {"parallel { zero { stage: 1 prefetch_bytes: 5 } }",
       "2:28: error: [changes_nothing] parallel.zero.prefetch_bytes"},
      {"parallel { zero { accumulation: REDUCE_LAST } }", "with train.accumulation 1"},
      {"optimizer { nesterov: true }", "2:13: error: [changes_nothing] optimizer.nesterov"},
      {"optimizer { kind: SGD beta2: 0.9 }", "2:23: error: [changes_nothing] optimizer.beta2"},
      {"optimizer { kind: SGD momentum: 0 nesterov: true }",
       "expected false when optimizer.momentum is 0"},
      {"lr_schedule { warmup_steps: 5 }",
       "2:15: error: [changes_nothing] lr_schedule.warmup_steps"},
      {"lr_schedule { kind: WARMUP total_steps: 5 }", "with lr_schedule.kind WARMUP"},
      {"lr_schedule { kind: CONSTANT warmup_type: LINEAR }", "with lr_schedule.kind CONSTANT"},
      {"lr_schedule { kind: WARMUP_DECAY cos_min_ratio: 0.5 }",
       "set lr_schedule.kind to WARMUP_COSINE"},
      {"data { images: \"x\" }",
       "2:8: error: [changes_nothing] data.images changes nothing with format SYNTHETIC"},
      {"data { format: CIFAR100 images: \"x\" labels: \"y\" }", "whose files hold the labels"},
      {"data { format: CIFAR100 images: \"x\" synthetic_count: 3 }",
       "set data.format to SYNTHETIC"},
      {"checkpoint { save: false keep: 3 }", "with checkpoint.save false"},
  };
  for (const auto& c : kCases) {
    const auto messages = Mistakes(std::string(c.text) + "\ntrain { steps: 1 }");
    EXPECT_THAT(messages, ElementsAre(HasSubstr(c.message))) << c.text;
    if (messages.size() == 1) {
      EXPECT_THAT(messages[0], HasSubstr("; help: ")) << c.text;
    }
  }
  const std::pair<const char*, const char*> kPrecision[] = {
      {"reduce_dtype: F32", "precision.reduce_dtype changes nothing with precision.mode F32"},
      {"mode: BF16 loss_scale { static: 8 }",
       "precision.loss_scale.static changes nothing with precision.mode BF16, whose range is that"},
      {"mode: BF16 loss_scale { }",
       "precision.loss_scale changes nothing with precision.mode BF16"},
      {"mode: BF16 reduce_dtype: F16",
       "precision.reduce_dtype is F16, expected F32 or precision.mode's BF16"},
      {"mode: F16 loss_scale { static: 1000 }",
       "precision.loss_scale.static is 1000, expected a power of two"},
      {"mode: F16 loss_scale { static: 8 dynamic { } }",
       "both precision.loss_scale.static and precision.loss_scale.dynamic are set"},
      {"mode: F16 loss_scale { dynamic { window: 0 } }",
       "precision.loss_scale.dynamic.window is 0, expected 1 or more steps"},
      {"mode: F16 loss_scale { dynamic { initial_scale_power: 4 min_scale: 32 } }",
       "min_scale is 32, expected a power of two, at most 2^initial_scale_power = 2^4"},
      {"mode: F16 loss_scale { dynamic { hysteresis: 1 consecutive_hysteresis: true } }",
       "consecutive_hysteresis changes nothing with hysteresis 1"},
      {"mode: F16 loss_scale { max_skips: -1 }",
       "precision.loss_scale.max_skips is -1, expected 0 (never stop) or more overflows"},
  };
  for (const auto& [text, message] : kPrecision) {
    EXPECT_THAT(Mistakes(absl::StrCat("precision { ", text, " }\ntrain { steps: 1 }")),
                ElementsAre(HasSubstr(message)))
        << text;
  }
  EXPECT_THAT(Mistakes("precision { mode: F16 reduce_dtype: F16 loss_scale { dynamic { window: 9 } "
                       "max_skips: 0 } }\ntrain { steps: 1 }"),
              ElementsAre());
  EXPECT_THAT(
      Mistakes("parallel { zero { stage: 2 accumulation: KEEP_GATHERED } } train { steps: 1 "
               "accumulation: 2 }"),
      ElementsAre(HasSubstr(
          "2:28: error: [changes_nothing] parallel.zero.accumulation is KEEP_GATHERED at ZeRO "
          "stage 2, where parameters are whole; expected REDUCE_EACH or REDUCE_LAST")));
}

TEST(Ranges, AreCheckedWithTheValueAndWhatWasExpected) {
  const struct {
    const char* set;
    const char* message;
  } kCases[] = {
      {"parallel.data=0", "parallel.data is 0, expected 1 or more ranks"},
      {"parallel.zero.stage=4", "parallel.zero.stage is 4, expected 0 (replicate), 1"},
      {"parallel.zero.stage=-1", "parallel.zero.stage is -1"},
      {"parallel.zero.reduce_bucket_bytes=0", "expected more than 0 bytes"},
      {"parallel.tensor=2",
       "parallel.tensor is 2: not available in this version, expected 1; help: use parallel.data"},
      {"parallel.pipeline=2", "parallel.pipeline is 2: not available in this version, expected 1"},
      {"precision.loss_scale.static=1000",
       "precision.loss_scale.static changes nothing with precision.mode F32"},
      {"optimizer.lr=0", "optimizer.lr is 0, expected more than 0"},
      {"optimizer.beta1=1", "optimizer.beta1 is 1, expected 0 or more and less than 1"},
      {"optimizer.eps=0", "optimizer.eps is 0"},
      {"optimizer.weight_decay=-1", "optimizer.weight_decay is -1"},
      {"optimizer.clip_norm=-1", "optimizer.clip_norm is -1, expected 0 (no clipping) or more"},
      {"train.label_smoothing=1", "expected 0 or more and less than 1"},
      {"train.micro_batch=0", "train.micro_batch is 0, expected 1 or more samples"},
      {"train.accumulation=0", "train.accumulation is 0, expected 1 or more"},
      {"train.global_batch=0", "train.global_batch is 0, expected 1 or more"},
      {"train.micro_batch=9223372036854775807", ""},
      {"train.steps=-1", "train.steps is -1, expected more than 0 steps"},
      {"train.log_every=0", "train.log_every is 0"},
      {"data.threads=0", "data.threads is 0, expected 1 or more threads"},
      {"data.augment.horizontal_flip=1.5", "expected a probability from 0 to 1"},
      {"data.augment.scale_max=0.5", "expected at least scale_min = 1"},
      {"data.augment.std=0", "data.augment.std is [0], expected numbers above 0"},
      {"checkpoint.keep=0", "checkpoint.keep is 0, expected 1 or more"},
      {"runtime.threads_per_rank=0", "runtime.threads_per_rank is 0"},
      {"runtime.stuck_seconds=0", "runtime.stuck_seconds is 0"},
      {"lr_schedule.cos_min_ratio=2", ""},
  };
  for (const auto& c : kCases) {
    const auto messages = Load(kGood, {c.set}).messages;
    if (*c.message == '\0') continue;
    EXPECT_THAT(messages, ElementsAre(HasSubstr(c.message))) << c.set;
    if (!messages.empty()) {
      EXPECT_THAT(messages[0], StartsWith(std::string("--set ") + c.set + ": error: ["));
    }
  }
  EXPECT_THAT(Load(kGood, {"train.micro_batch=9223372036854775807", "parallel.data=2"}).messages,
              ElementsAre(HasSubstr("is 2^63 or more")));
}

TEST(RunLength, IsStepsOrEpochsAndExactlyOne) {
  EXPECT_THAT(Mistakes("train { seed: 1 }"),
              ElementsAre("dir/p.textproto:2:1: error: [missing_field] the run has no length, "
                          "expected train.steps or "
                          "train.epochs above 0; help: add train { steps: 100 }"));
  EXPECT_THAT(Mistakes("train { steps: 1 epochs: 2 }"),
              ElementsAre(HasSubstr(
                  "2:18: error: [contradiction] train.steps is 1 and train.epochs is 2")));
  EXPECT_THAT(Mistakes("train { steps: 1 epochs: 2 }", {"train.steps=0"}), IsEmpty());
  // What is asked for on the command line takes the place of the file's other unit.
  EXPECT_THAT(Mistakes("train { epochs: 2 }", {"train.steps=20"}), IsEmpty());
  EXPECT_THAT(Mistakes("train { steps: 20 }", {"train.epochs=1"}), IsEmpty());
  EXPECT_THAT(Mistakes("train { stpes: 1 }"),
              SizeIs(1));  // no second finding about the missing length
  EXPECT_THAT(Mistakes("train { seed: 1 }", {"train.stpes=4"}), SizeIs(1));
}

TEST(WhatIsTrained, IsAModelOrAStepByHand) {
  EXPECT_THAT(
      Load("train { steps: 1 }").messages,
      ElementsAre(StartsWith("dir/p.textproto:1:1: error: [missing_field] nothing to train")));
  EXPECT_THAT(
      Mistakes("graph { }\ntrain { steps: 1 }"),
      ElementsAre(HasSubstr("2:1: error: [contradiction] both `model` and `graph` are set")));
  EXPECT_THAT(Load("model { } train { steps: 1 }").messages,
              ElementsAre(HasSubstr("1:1: error: [missing_field] model.name is missing")));
  EXPECT_THAT(Load("modle { name: \"x\" } train { steps: 1 }").messages, SizeIs(1));
}

TEST(DataFiles, AreAskedForByFormat) {
  EXPECT_THAT(
      Mistakes("data { format: IDX }\ntrain { steps: 1 }"),
      ElementsAre(
          HasSubstr(
              "2:1: error: [missing_field] data.images is missing, expected the images' IDX file"),
          HasSubstr("2:1: error: [missing_field] data.labels is missing")));
  EXPECT_THAT(Mistakes("data { format: CIFAR100 }\ntrain { steps: 1 }"),
              ElementsAre(HasSubstr("the train.bin for format CIFAR100")));
  EXPECT_THAT(Mistakes("data { format: IDX images: \"a\" labels: \"b\" eval_images: \"c\" }\ntrain "
                       "{ steps: 1 }"),
              ElementsAre(HasSubstr("data.eval_labels is missing")));
}

REGISTER_OP_CONTRACT(p_relu, OpContract("p_relu", "").In("x").Out("y").Infer([](InferContext& c) {
  c.outputs[0].CopyTypeFrom(*c.inputs[0]);
  return absl::OkStatus();
}));

TEST(StepByHand, IsBuiltWithThePipelinesWorldAndStage) {
  const char* text = R"(graph {
  value { name: "w" shape: [8] sharding: "sharded" kind: "parameter" }
  node { name: "gather" op: "all_gather" input: "w" output: "whole" }
  node { name: "relu" op: "p_relu" input: "whole" output: "y" }
}
parallel { data: 4 zero { stage: 3 } }
train { steps: 1 })";
  const Result r = Load(text);
  ASSERT_THAT(r.messages, IsEmpty());
  ASSERT_TRUE(r.pipeline->graph.has_value());
  EXPECT_EQ(r.pipeline->graph->name(), "p");
  EXPECT_EQ(r.pipeline->graph->values()[r.pipeline->graph->FindValue("y")].numel(), 32);
}

TEST(StepByHand, MistakesComeWithThoseOfTheSettings) {
  EXPECT_THAT(
      Load(R"(graph {
  value { name: "w" shape: [8] sharding: "sharded" kind: "parameter" }
  node { name: "a" op: "p_relu" input: "w" output: "y" }
  node { name: "b" op: "p_rleu" input: "y" output: "z" }
}
parallel { data: 2 zero { stage: 3 prefetch_depth: 2 } }
train { steps: 1 log_every: 0 })")
          .messages,
      ElementsAre(
          HasSubstr(
              "6:36: error: [changes_nothing] parallel.zero.prefetch_depth changes nothing for a "
              "step written by hand"),
          HasSubstr("7:18: error: [range] train.log_every is 0"),
          HasSubstr("3:3: error: [type] node 'a': reads parameter 'w', of which each rank of group "
                    "'data' holds a shard only; it needs an all_gather"),
          HasSubstr(
              "4:3: error: [unknown_op] node 'b': unknown operation 'p_rleu'; help: did you mean "
              "'p_relu'?")));
}

TEST(Override, IsCheckedLikeTheFileAndSaidWhereItStands) {
  const Result r = Load(kGood, {"parallel.zero.stage=3", "parallel.zero.prefetch_depth=2",
                                "model.arg.hidden_size=64"});
  ASSERT_THAT(r.messages, IsEmpty());
  EXPECT_EQ(r.pipeline->proto.model().arg(0).i(), 64);
  EXPECT_EQ(r.pipeline->Locate("parallel.zero.stage").file, "--set parallel.zero.stage=3");
  EXPECT_EQ(r.pipeline->Locate("model.name").line, 1);
  EXPECT_EQ(r.pipeline->Locate("model.name").column, 9);
  EXPECT_EQ(ToText(r.pipeline->At("model.name", "model", "no such model", "try vit")),
            "dir/p.textproto:1:9: error: [model] no such model; help: try vit");
}

TEST(ResolvedText, SaysEverySettingAndItsOrigin) {
  const Result r = Load(
      "model { name: \"vit\" }\ntrain {\n  steps: 10\n}\ndata { augment { mean: [0.5, 0.25] } }",
      {"parallel.data=2", "model.arg.depth=4"});
  ASSERT_THAT(r.messages, IsEmpty());
  const std::string text = ResolvedText(*r.pipeline);
  EXPECT_THAT(text, HasSubstr("name: \"p\"  # inferred\n"));
  EXPECT_THAT(text, HasSubstr("model.name: \"vit\"  # file:1\n"));
  EXPECT_THAT(text, HasSubstr("train.seed: 0  # default\n"));
  EXPECT_THAT(text, HasSubstr("train.steps: 10  # file:3\n"));
  EXPECT_THAT(text, HasSubstr("train.global_batch: 2  # inferred\n"));
  EXPECT_THAT(text, HasSubstr("parallel.data: 2  # --set\n"));
  EXPECT_THAT(text, HasSubstr("data.augment.mean: [0.5, 0.25]  # file:5\n"));
  EXPECT_THAT(text, HasSubstr("optimizer.kind: ADAMW  # default\n"));
  EXPECT_THAT(text, HasSubstr("model.arg: [{ name: \"depth\" i: 4 }]  # --set\n"));
  EXPECT_THAT(text, ::testing::Not(HasSubstr("init_from")));  // not set and no default
}

TEST(Machine, IsCheckedLikeAPipeline) {
  Findings findings;
  const auto good = ParseMachine("device { memory_bytes: 1000 } link { name: \"intra_node\" }",
                                 "machines/box.textproto", findings);
  ASSERT_TRUE(good.ok()) << findings.ToText();
  EXPECT_EQ(good->name(), "box");
  EXPECT_FALSE(ParseMachine(R"(device { flops_per_secnod: 1 flops_efficiency: 1.5 }
link { name: "intra" bytes_per_second: 0 }
link { name: "inter_node" }
link { name: "inter_node" latency_seconds: -1 }
ranks_per_node: -1)",
                            "m", findings)
                   .ok());
  std::vector<std::string> messages;
  for (const Finding& f : findings.list()) messages.push_back(ToText(f));
  EXPECT_THAT(
      messages,
      ElementsAre(
          StartsWith("m:1:10: error: [unknown_field] unknown field 'flops_per_secnod' in 'device'"),
          StartsWith("m:1:30: error: [range] device.flops_efficiency is 1.5, expected more than 0"),
          StartsWith("m:5:1: error: [range] ranks_per_node is -1"),
          StartsWith(
              "m:2:8: error: [range] link[0].name is 'intra', expected intra_node or inter_node; "
              "help: did you mean"),
          StartsWith("m:2:22: error: [range] link[0].bytes_per_second is 0"),
          StartsWith("m:4:8: error: [range] link[2].name is 'inter_node' a second time"),
          StartsWith("m:4:27: error: [range] link[2].latency_seconds is -1")));
}

TEST(Files, AreReadOrNamed) {
  Findings findings;
  EXPECT_FALSE(LoadPipeline("/no/such.textproto", {}, findings).ok());
  EXPECT_FALSE(LoadMachine("/no/machine.textproto", findings).ok());
  EXPECT_EQ(
      findings.ToText(),
      "/no/such.textproto: error: [file] the pipeline cannot be read, expected a textproto file\n"
      "/no/machine.textproto: error: [file] the machine cannot be read, expected a textproto file");
  const std::string folder = ::testing::TempDir();
  const std::string path = folder + "/small.textproto";
  std::ofstream(path) << kGood;
  Findings none;
  const auto p = LoadPipeline(path, {"train.steps=3"}, none);
  ASSERT_TRUE(p.ok()) << none.ToText();
  EXPECT_EQ(p->proto.name(), "small");
  EXPECT_EQ(p->proto.train().steps(), 3);
  EXPECT_THAT(*ResolvePath("small.textproto", {"/no", folder}),
              ::testing::EndsWith("small.textproto"));
  EXPECT_EQ(*ResolvePath(path, {}), path);
  EXPECT_THAT(ResolvePath("gone", {"/a", "/b"}).status().message(),
              HasSubstr("tried /a/gone, /b/gone"));
}

}  // namespace
}  // namespace millrace
