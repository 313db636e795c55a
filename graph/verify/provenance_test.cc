// The algebra on steps drawn by hand: loss scaling, casts, delayed updates, replicas that would drift apart.
#include "graph/verify/provenance.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "graph/verify/testing/plain_planner.h"
#include "graph/verify/verify.h"
#include "gtest/gtest.h"

namespace millrace {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// load -> forward -> backward -> [all_reduce] -> ... -> sgd, one stage, one bucket of 32 elements, 2 ranks.
class Step {
 public:
  Step() : b_("step") {
    b_.SetGroup("data", 2);
    b_.AddBucket({"bucket_0", {{0, 0, 0, 32}}, 32});
    param_ = Persistent("param", BufferKind::kParameter);
  }

  ValueId param() const { return param_; }

  ValueId Fresh(const std::string& name, BufferKind kind, Sharding sharding = Sharding::kReplicated,
                DType dtype = DType::kF32) {
    Value v = Typed(name, sharding);
    v.dtype = dtype;
    return b_.AddValueWithBuffer(v, kind);
  }
  ValueId Persistent(const std::string& name, BufferKind kind) {
    return b_.AddValueWithBuffer(Typed(name, Sharding::kReplicated), kind, /*persistent=*/true);
  }
  // A value on the bytes of another one.
  ValueId On(ValueId other, const std::string& name, Sharding sharding = Sharding::kReplicated) {
    Value v = Typed(name, sharding);
    v.buffer = b_.value(other).buffer;
    return b_.AddValue(v);
  }
  NodeId Add(const std::string& op, std::vector<ValueId> in, std::vector<ValueId> out,
             Attrs attrs = {}) {
    Node n;
    n.name = absl::StrCat(op, "/", count_++);
    n.op = op;
    n.inputs = std::move(in);
    n.outputs = std::move(out);
    n.attrs = std::move(attrs);
    if (op == "all_reduce") {
      n.is_collective = true;
      n.collective = {CollectiveOp::kAllReduce, "data", b_.value(n.inputs[0]).dtype, 32};
    }
    return b_.AddNode(std::move(n));
  }

  // Forward and backward with these parameters; the gradient of this rank. `scale` as backward has it.
  ValueId Backward(double scale, ValueId param) {
    const ValueId images = Fresh("images", BufferKind::kInput),
                  labels = Fresh("labels", BufferKind::kInput);
    b_.value(images).bucket = b_.value(labels).bucket = -1;
    b_.value(labels).dtype = DType::kI64;
    b_.value(labels).shape = {16};
    Add("load_batch", {}, {images, labels}, {{"micro_batch", int64_t{0}}});
    const ValueId saved = Fresh("saved", BufferKind::kSaved);
    b_.value(saved).bucket = -1;
    Add("forward", {images, labels, param}, {saved}, {{"stage", int64_t{0}}});
    const ValueId grad = Fresh("grad", BufferKind::kGradient, Sharding::kPartial);
    Add("backward", {images, labels, saved, param}, {grad},
        {{"stage", int64_t{0}}, {"scale", scale}});
    return grad;
  }
  ValueId Backward(double scale) { return Backward(scale, param_); }
  ValueId Reduced(ValueId grad) {
    const ValueId sum = Fresh(absl::StrCat("sum", count_), BufferKind::kGradient,
                              Sharding::kReplicated, b_.value(grad).dtype);
    Add("all_reduce", {grad}, {sum});
    return sum;
  }
  ValueId Update(ValueId grad, Attrs attrs = {}) {
    attrs["bucket"] = int64_t{0};
    const ValueId next = On(param_, "param'");
    Add("sgd", {param_, grad}, {next}, std::move(attrs));
    return next;
  }
  ValueId Cast(ValueId v, const std::string& to) {
    const ValueId out = Fresh(absl::StrCat("cast", count_), BufferKind::kGradient,
                              b_.value(v).sharding, *ParseDType(to));
    Add("cast", {v}, {out}, {{"to", to}});
    return out;
  }
  ValueId Scaled(ValueId v, double factor) {
    const ValueId out =
        Fresh(absl::StrCat("scaled", count_), BufferKind::kGradient, b_.value(v).sharding);
    Add("scale", {v}, {out}, {{"factor", factor}});
    return out;
  }

  GraphBuilder& builder() { return b_; }
  Plan Planned() && {
    auto graph = std::move(b_).Build();
    EXPECT_TRUE(graph.ok()) << graph.status();
    return PlainPlan(*std::move(graph), 2);
  }

 private:
  Value Typed(const std::string& name, Sharding sharding) {
    Value v;
    v.name = name;
    v.shape = {32};
    v.sharding = sharding;
    v.group = sharding == Sharding::kReplicated ? "" : "data";
    v.bucket = 0;
    return v;
  }
  GraphBuilder b_;
  ValueId param_;
  int count_ = 0;
};

// The facts of the provenance check when everything passes, else the findings.
std::string Said(Step step) {
  const Plan plan = std::move(step).Planned();
  const VerifyResult result = Verify(plan);
  return result.ok ? result.checks.back().facts : result.findings.ToText();
}

TEST(ProvenanceTest, PlainStepHasDelayZero) {
  Step s;
  s.Update(s.Reduced(s.Backward(0.5)));
  EXPECT_THAT(Said(std::move(s)),
              AllOf(HasSubstr("1 buckets updated once"), HasSubstr("gradients of delay 0"),
                    HasSubstr("the same on all ranks")));
}

TEST(ProvenanceTest, ScaledLossIsRightOnceItIsUnscaled) {
  Step s;
  s.Update(s.Scaled(s.Reduced(s.Backward(512)), 1.0 / 1024));
  EXPECT_THAT(Said(std::move(s)), HasSubstr("counted once, scale 1/2"));
}

TEST(ProvenanceTest, ForgottenUnscaleIsFound) {
  Step s;
  s.Update(s.Reduced(s.Backward(512)));
  EXPECT_THAT(Said(std::move(s)),
              HasSubstr("is scaled by 512, expected 1/(2 ranks x 1 micro-batches)"));
}

TEST(ProvenanceTest, UnscaledTwiceIsFound) {
  Step s;
  s.Update(s.Scaled(s.Scaled(s.Reduced(s.Backward(512)), 1.0 / 1024), 1.0 / 1024));
  EXPECT_THAT(Said(std::move(s)), HasSubstr("is scaled by 0.000488281, expected"));
}

TEST(ProvenanceTest, CastGradientIsTheSameGradient) {
  Step s;
  s.Update(s.Cast(s.Reduced(s.Cast(s.Backward(0.5), "bf16")), "f32"));
  EXPECT_THAT(Said(std::move(s)), HasSubstr("1 buckets updated once"));
}

TEST(ProvenanceTest, CastParameterIsStillTheParameter) {
  Step s;
  const ValueId half =
      s.Fresh("param16", BufferKind::kGathered, Sharding::kReplicated, DType::kBF16);
  s.Add("cast", {s.param()}, {half}, {{"to", std::string("bf16")}});
  s.Update(s.Reduced(s.Backward(0.5, half)));
  EXPECT_THAT(Said(std::move(s)), HasSubstr("1 buckets updated once"));
}

// The norm is of `normed`, the update uses `used`.
void Clip(Step* s, ValueId normed, ValueId used) {
  Value words;
  words.name = "norm";
  words.dtype = DType::kI64;
  words.shape = {10};
  const ValueId norm = s->builder().AddValueWithBuffer(words, BufferKind::kMetric);
  s->Add("grad_norm", {normed}, {norm});
  Value pair;
  pair.name = "coefficient";
  pair.shape = {2};
  const ValueId coefficient = s->builder().AddValueWithBuffer(pair, BufferKind::kMetric);
  s->Add("clip_coefficient", {norm}, {coefficient}, {{"max_norm", 1.0}});
  s->Add("sgd", {s->param(), used, coefficient}, {s->On(s->param(), "param'")},
         {{"bucket", int64_t{0}}});
}

TEST(ProvenanceTest, NormBeforeUnscalingIsFound) {
  Step s;
  const ValueId sum = s.Reduced(s.Backward(512)), right = s.Scaled(sum, 1.0 / 1024);
  Clip(&s, sum, right);
  EXPECT_THAT(Said(std::move(s)),
              AllOf(HasSubstr("its norm holds"), HasSubstr("which no update uses")));
}

TEST(ProvenanceTest, NormAfterUnscalingAlsoOfACastCopyIsRight) {
  Step s;
  const ValueId right = s.Scaled(s.Reduced(s.Backward(512)), 1.0 / 1024);
  Clip(&s, right, s.Cast(s.Cast(right, "bf16"), "f32"));
  EXPECT_THAT(Said(std::move(s)), HasSubstr("clipped by the norm of all of them"));
}

// A step whose loss is scaled by a value: who reads it?
struct Readers {
  bool backward = true, clip = true;
  bool next_in_clip = false;  // not the scale of this step, but the one after
};

Step LossScaled(Readers readers) {
  Step s;
  const auto metric = [&](const char* name, DType dtype, int64_t n, BufferKind kind) {
    Value v;
    v.name = name;
    v.dtype = dtype;
    v.shape = {n};
    return s.builder().AddValueWithBuffer(v, kind, kind == BufferKind::kOptimizerState);
  };
  const ValueId scale = metric("loss_scale", DType::kF64, 6, BufferKind::kOptimizerState);
  const ValueId grad = s.Backward(0.5);
  if (readers.backward) {
    s.builder().node(s.builder().peek().nodes().size() - 1).inputs.push_back(scale);
  }
  const ValueId sum = s.Reduced(grad);
  const ValueId norm = metric("norm", DType::kI64, 10, BufferKind::kMetric);
  s.Add("grad_norm", {sum}, {norm});
  const ValueId clip = metric("clip", DType::kF32, 3, BufferKind::kMetric);
  Value next = s.builder().value(scale);
  next.name += "'";
  const ValueId after = s.builder().AddValue(next);
  const ValueId other = metric("found", DType::kF32, 3, BufferKind::kMetric);
  if (readers.next_in_clip) {
    s.Add("clip_coefficient", {norm, scale}, {other}, {{"max_norm", 1.0}});
    s.Add("update_loss_scale", {other, scale}, {after});
    s.Add("clip_coefficient", {norm, after}, {clip}, {{"max_norm", 1.0}});
  } else if (readers.clip) {
    s.Add("clip_coefficient", {norm, scale}, {clip}, {{"max_norm", 1.0}});
    s.Add("update_loss_scale", {clip, scale}, {after});
  } else {
    s.builder().value(clip).shape = {2};
    s.Add("clip_coefficient", {norm}, {clip}, {{"max_norm", 1.0}});
    s.Add("clip_coefficient", {norm, scale}, {other}, {{"max_norm", 1.0}});
    s.Add("update_loss_scale", {other, scale}, {after});
  }
  s.Add("sgd", {s.param(), sum, clip}, {s.On(s.param(), "param'")}, {{"bucket", int64_t{0}}});
  return s;
}

TEST(ProvenanceTest, LossScaleIsTakenOffByTheCoefficient) {
  EXPECT_THAT(Said(LossScaled({})), HasSubstr("the loss scale taken off once, clipped by"));
}

TEST(ProvenanceTest, LossScaleThatNobodyTakesOffIsFound) {
  EXPECT_THAT(
      Said(LossScaled({.clip = false})),
      HasSubstr("its gradient carries loss_scale, its coefficient divides by no loss scale"));
}

TEST(ProvenanceTest, LossScaleThatNobodyAppliedIsFound) {
  EXPECT_THAT(
      Said(LossScaled({.backward = false})),
      HasSubstr("its gradient carries no loss scale, its coefficient divides by loss_scale"));
}

TEST(ProvenanceTest, LossScaleOfTheNextStepIsFound) {
  EXPECT_THAT(Said(LossScaled({.next_in_clip = true})),
              HasSubstr("its gradient carries loss_scale, its coefficient divides by loss_scale'"));
}

// The update uses what the step before left in a persistent gradient, while this step's is being made.
Step OneStepLate(Attrs attrs) {
  Step s;
  const ValueId kept = s.Persistent("kept", BufferKind::kGradient);
  const ValueId grad = s.Backward(0.5);
  s.Update(kept, std::move(attrs));
  s.Add("all_reduce", {grad}, {s.On(kept, "kept'")});
  return s;
}

TEST(ProvenanceTest, UpdateThatUsesTheGradientOfTheStepBeforeMustSaySo) {
  EXPECT_THAT(
      Said(OneStepLate({})),
      AllOf(HasSubstr("uses kept, which holds batches of delay 1, but declares a delay of 0"),
            HasSubstr("set its attribute delay to 1")));
}

TEST(ProvenanceTest, DeclaredDelayIsProvedAndReported) {
  EXPECT_THAT(Said(OneStepLate({{"delay", int64_t{1}}})), HasSubstr("gradients of delay 1"));
}

TEST(ProvenanceTest, DeclaredDelayThatIsNotSoIsRefused) {
  EXPECT_THAT(Said(OneStepLate({{"delay", int64_t{2}}})), HasSubstr("but declares a delay of 2"));
  Step s;
  s.Update(s.Reduced(s.Backward(0.5)), {{"delay", int64_t{1}}});
  EXPECT_THAT(Said(std::move(s)), HasSubstr("holds batches of delay 0, but declares a delay of 1"));
}

TEST(ProvenanceTest, DelayOfTwoStepsGoesThroughTwoBuffers) {
  Step s;
  const ValueId young = s.Persistent("young", BufferKind::kGradient);
  const ValueId old = s.Persistent("old", BufferKind::kGradient);
  const ValueId grad = s.Backward(0.5);
  s.Update(old, {{"delay", int64_t{2}}});
  s.Add("scale", {young}, {s.On(old, "old'")}, {{"factor", 1.0}});
  s.Add("all_reduce", {grad}, {s.On(young, "young'")});
  EXPECT_THAT(Said(std::move(s)), HasSubstr("gradients of delay 2"));
}

TEST(ProvenanceTest, DelayedGradientMustBeWholeToo) {
  Step s;
  const ValueId kept = s.Persistent("kept", BufferKind::kGradient);
  const ValueId grad = s.Backward(0.25);
  s.Update(kept, {{"delay", int64_t{1}}});
  s.Add("all_reduce", {grad}, {s.On(kept, "kept'")});
  EXPECT_THAT(Said(std::move(s)), HasSubstr("is scaled by 0.25, expected"));
}

TEST(ProvenanceTest, UpdateAtTheBeginOfTheStepIsLateForTheGradientButAllStagesReadIt) {
  Step s;
  const ValueId kept = s.Persistent("kept", BufferKind::kGradient);
  const ValueId next = s.Update(kept, {{"delay", int64_t{1}}});
  s.Add("all_reduce", {s.Backward(0.5, next)}, {s.On(kept, "kept'")});
  EXPECT_THAT(Said(std::move(s)), HasSubstr("gradients of delay 1"));
}

TEST(ProvenanceTest, SumOverEverMoreStepsIsFound) {
  Step s;
  const ValueId kept = s.Persistent("kept", BufferKind::kGradient), total = s.On(kept, "total");
  const ValueId sum = s.Reduced(s.Backward(0.5));
  s.Add("accumulate", {kept, sum}, {total});
  s.Update(total);
  EXPECT_THAT(Said(std::move(s)), HasSubstr("a sum over ever more steps"));
}

TEST(ProvenanceTest, GradientsOfTwoStepsInOneUpdateAreFound) {
  Step s;
  const ValueId kept = s.Persistent("kept", BufferKind::kGradient);
  const ValueId fresh = s.Reduced(s.Backward(0.5)), both = s.On(fresh, "both");
  s.Add("accumulate", {fresh, kept}, {both});
  s.Update(both);
  s.Add("scale", {fresh}, {s.On(kept, "kept'")}, {{"factor", 1.0}});
  EXPECT_THAT(Said(std::move(s)), HasSubstr("batches of delay 0 and 1"));
}

TEST(ProvenanceTest, GradientThatIsNotSummedMakesReplicasDriftApart) {
  Step s;
  const ValueId grad = s.Backward(0.5);
  s.builder().value(grad).sharding = Sharding::kReplicated;  // says so, and is wrong
  s.builder().value(grad).group = "";
  s.Update(grad);
  EXPECT_THAT(Said(std::move(s)),
              AllOf(HasSubstr("each rank's own"), HasSubstr("the 2 replicas would drift apart")));
}

TEST(ProvenanceTest, GroupOfOneRankSumsNothingAlsoInStepsWithoutBackwardNodes) {
  GraphBuilder b("by_hand");
  b.SetGroup("data", 2);
  b.SetGroup("alone", 1);
  const auto fresh = [&](const char* name, BufferKind kind, bool persistent = false) {
    Value v;
    v.name = name;
    v.shape = {32};
    return b.AddValueWithBuffer(v, kind, persistent);
  };
  const ValueId param = fresh("w", BufferKind::kParameter, true);
  const ValueId images = fresh("images", BufferKind::kInput),
                labels = fresh("labels", BufferKind::kInput);
  const ValueId grad = fresh("dw", BufferKind::kGradient),
                sum = fresh("sum", BufferKind::kGradient);
  b.AddNode({.name = "load", .op = "load_batch", .outputs = {images, labels}});
  b.AddNode({.name = "grad",
             .op = "scale",
             .inputs = {images},
             .outputs = {grad},
             .attrs = {{"factor", 1.0}}});
  Node reduce{.name = "reduce", .op = "all_reduce", .inputs = {grad}, .outputs = {sum}};
  reduce.is_collective = true;
  reduce.collective = {CollectiveOp::kAllReduce, "alone", DType::kF32, 32};
  b.AddNode(reduce);
  Value next = b.value(param);
  next.name = "w'";
  b.AddNode({.name = "update", .op = "sgd", .inputs = {param, sum}, .outputs = {b.AddValue(next)}});
  auto graph = std::move(b).Build();
  ASSERT_TRUE(graph.ok()) << graph.status();
  const VerifyResult result = Verify(PlainPlan(*std::move(graph), 2));
  EXPECT_THAT(result.findings.ToText(), HasSubstr("the 2 replicas would drift apart"));
}

}  // namespace
}  // namespace millrace
