// Contracts of the operations that the lowering passes emit. Reached by name through OpContracts.
//
// Shapes of forward and backward come from the model and are taken as declared; what is checked is
// what goes wrong when a pass or an author forgets communication: partial gradients that reach an
// optimizer, sums of what is no partial sum, shards and wholes that do not match. (That no
// operation reads a parameter's shard as if it were whole is checked for all operations alike, in
// type_check.cc.)
#include <algorithm>
#include <cmath>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "graph/base/loss_scale.h"
#include "graph/ir/op_contract.h"

namespace millrace {
namespace {

constexpr int64_t kNormWords = 10;  // one partial sum of squares, as an exact integer

template <typename... Args>
absl::Status Invalid(const Args&... args) {
  return absl::InvalidArgumentError(absl::StrCat(args...));
}

std::string ShapeText(const Value& v) {
  return absl::StrCat("[", absl::StrJoin(v.shape, ", "), "]");
}

int GroupSize(const InferContext& c, const Value& v) { return c.graph->group_size(v.group); }

absl::Status CheckReduced(const InferContext& c, const Value& gradient) {
  if (gradient.sharding == Sharding::kPartial && GroupSize(c, gradient) > 1) {
    return Invalid("reads gradient '", gradient.name,
                   "', which is still a partial sum on each rank of group '", gradient.group,
                   "'; it needs an all_reduce or reduce_scatter before it");
  }
  return absl::OkStatus();
}

absl::Status SameNumel(const Value& a, const Value& b) {
  if (a.numel() == b.numel()) return absl::OkStatus();
  return Invalid("'", a.name, "' has ", a.numel(), " elements, '", b.name, "' has ", b.numel(),
                 "; expected as many");
}

absl::Status SameDType(const Value& a, const Value& b) {
  if (a.dtype == b.dtype) return absl::OkStatus();
  return Invalid("'", a.name, "' is ", Name(a.dtype), ", '", b.name, "' is ", Name(b.dtype),
                 "; expected the same element type");
}

absl::Status InferAccumulate(InferContext& c) {
  if (absl::Status s = SameNumel(*c.inputs[0], *c.inputs[1]); !s.ok()) return s;
  if (absl::Status s = SameDType(*c.inputs[0], *c.inputs[1]); !s.ok()) return s;
  if (c.inputs[0]->sharding != c.inputs[1]->sharding) {
    return Invalid("adds '", c.inputs[1]->name, "' (", Name(c.inputs[1]->sharding), ") to '",
                   c.inputs[0]->name, "' (", Name(c.inputs[0]->sharding),
                   "); expected the same sharding");
  }
  c.outputs[0].CopyTypeFrom(*c.inputs[0]);
  return absl::OkStatus();
}

absl::Status InferScale(InferContext& c) {
  if (c.inputs[0]->dtype != DType::kF32) {
    return Invalid("scales '", c.inputs[0]->name, "', which is ", Name(c.inputs[0]->dtype),
                   ", expected f32");
  }
  if (!std::isfinite(FloatAttr(*c.node, "factor", 1)))
    return Invalid("has a factor that is no number");
  c.outputs[0].CopyTypeFrom(*c.inputs[0]);
  return absl::OkStatus();
}

absl::Status InferCast(InferContext& c) {
  const auto floating = [](DType t) {
    return t == DType::kF32 || t == DType::kBF16 || t == DType::kF16;
  };
  const std::string to = StringAttr(*c.node, "to", "f32");
  const std::optional<DType> type = ParseDType(to);
  if (!type.has_value() || !floating(*type)) {
    return Invalid("casts to '", to, "', expected f32, bf16 or f16");
  }
  if (!floating(c.inputs[0]->dtype)) {
    return Invalid("casts '", c.inputs[0]->name, "', which is ", Name(c.inputs[0]->dtype),
                   ", expected f32, bf16 or f16");
  }
  c.outputs[0].CopyTypeFrom(*c.inputs[0]);
  c.outputs[0].dtype = *type;
  return absl::OkStatus();
}

// The same values in other places.
absl::Status InferCopy(InferContext& c) {
  if (c.outputs.size() != c.inputs.size()) {
    return Invalid("copies ", c.inputs.size(), " values to ", c.outputs.size(),
                   ", expected as many");
  }
  for (size_t i = 0; i < c.inputs.size(); ++i) c.outputs[i].CopyTypeFrom(*c.inputs[i]);
  return absl::OkStatus();
}

OpCost CopyCost(const Graph& g, const Node& node) {
  OpCost cost;
  for (ValueId v : node.inputs) cost.memory_bytes += 2 * g.values()[v].bytes();
  return cost;
}

absl::Status SetNormOutput(InferContext& c) {
  c.outputs[0].dtype = DType::kI64;
  c.outputs[0].shape = {kNormWords};
  return absl::OkStatus();
}

absl::Status CheckNorm(const Value& v) {
  if (v.dtype != DType::kI64 || v.numel() == 0 || v.numel() % kNormWords != 0) {
    return Invalid("reads '", v.name, "', ", Name(v.dtype), " ", ShapeText(v),
                   ", expected i64 with a multiple of ", kNormWords, " elements");
  }
  return absl::OkStatus();
}

absl::Status CheckNormInputs(const InferContext& c) {
  for (const Value* v : c.inputs) {
    if (absl::Status s = CheckNorm(*v); !s.ok()) return s;
  }
  return absl::OkStatus();
}

absl::Status InferGradNorm(InferContext& c) {
  if (absl::Status s = CheckReduced(c, *c.inputs[0]); !s.ok()) return s;
  return SetNormOutput(c);
}

absl::Status InferNormSum(InferContext& c) {
  if (absl::Status s = CheckNormInputs(c); !s.ok()) return s;
  return SetNormOutput(c);
}

absl::Status CheckLossScale(const Value& v) {
  if (v.dtype == DType::kF64 && v.numel() == kLossScaleWords) return absl::OkStatus();
  return Invalid("reads loss scale '", v.name, "', ", Name(v.dtype), " ", ShapeText(v),
                 ", expected f64 [", kLossScaleWords, "]");
}

absl::Status InferClip(InferContext& c) {
  if (absl::Status s = CheckNorm(*c.inputs[0]); !s.ok()) return s;
  const double max_norm = FloatAttr(*c.node, "max_norm", 0);
  const bool scaled = c.inputs.size() > 1;
  if (scaled) {
    if (absl::Status s = CheckLossScale(*c.inputs[1]); !s.ok()) return s;
    if (!(max_norm >= 0)) return Invalid("has max_norm < 0, expected 0 (no clipping) or more");
  } else if (!(max_norm > 0)) {
    return Invalid("has max_norm <= 0, expected more than 0");
  }
  c.outputs[0].dtype = DType::kF32;
  c.outputs[0].shape = {scaled ? 3 : 2};
  return absl::OkStatus();
}

absl::Status InferUpdateLossScale(InferContext& c) {
  if (c.inputs[0]->dtype != DType::kF32 || c.inputs[0]->numel() != 3) {
    return Invalid("reads '", c.inputs[0]->name, "', ", Name(c.inputs[0]->dtype), " ",
                   ShapeText(*c.inputs[0]),
                   ", expected the f32 [3] of a clip_coefficient that reads the loss scale");
  }
  if (absl::Status s = CheckLossScale(*c.inputs[1]); !s.ok()) return s;
  c.outputs[0].CopyTypeFrom(*c.inputs[1]);
  return absl::OkStatus();
}

// Whether an update writes, last, a 16-bit copy of its new parameters.
bool HasCopy(const InferContext& c) {
  const DType last = c.outputs.back().dtype;
  return c.outputs.size() > 1 && (last == DType::kBF16 || last == DType::kF16);
}

// param, grad, `states` values of the parameter's size, then perhaps the clip coefficient. The new
// parameter and states look like the old ones, a copy of the parameter at the end too but for its type.
absl::Status InferOptimizer(InferContext& c, size_t states) {
  const Value& param = *c.inputs[0];
  const Value& grad = *c.inputs[1];
  if (absl::Status s = CheckReduced(c, grad); !s.ok()) return s;
  for (size_t i = 1; i < 2 + states; ++i) {
    if (absl::Status s = SameNumel(param, *c.inputs[i]); !s.ok()) return s;
  }
  for (size_t i : {size_t{0}, size_t{2}, size_t{3}}) {
    if (i < (i == 0 ? 1 : 2 + states) && c.inputs[i]->dtype != DType::kF32) {
      return Invalid("updates '", c.inputs[i]->name, "', which is ", Name(c.inputs[i]->dtype),
                     ", expected f32; of parameters in 16 bits an f32 master is updated, and the "
                     "parameter is the last output");
    }
  }
  if (grad.dtype != DType::kF32 && grad.dtype != DType::kBF16 && grad.dtype != DType::kF16) {
    return Invalid("reads gradient '", grad.name, "', which is ", Name(grad.dtype),
                   ", expected f32, bf16 or f16");
  }
  if (c.inputs.size() > 2 + states && c.inputs[2 + states]->numel() != 2 &&
      c.inputs[2 + states]->numel() != 3) {
    const Value& v = *c.inputs[2 + states];
    return Invalid("reads clip coefficient '", v.name, "' of shape ", ShapeText(v),
                   ", expected [2], or [3] of one that reads the loss scale");
  }
  if (HasCopy(c)) {
    const DType narrow = c.outputs.back().dtype;
    c.outputs.back().CopyTypeFrom(param);
    c.outputs.back().dtype = narrow;
  }
  c.outputs[0].CopyTypeFrom(param);
  for (size_t i = 0; i < states; ++i) c.outputs[1 + i].CopyTypeFrom(*c.inputs[2 + i]);
  return absl::OkStatus();
}

absl::Status InferAdam(InferContext& c) {
  if (c.outputs.size() > 3 && !HasCopy(c)) {
    return Invalid("writes '", c.outputs[3].name, "', which is ", Name(c.outputs[3].dtype),
                   ", expected bf16 or f16: a copy of the new parameters");
  }
  return InferOptimizer(c, 2);
}

// Momentum is a state that is also written; without it there is one output only.
absl::Status InferSgd(InferContext& c) {
  const size_t states = c.outputs.size() > (HasCopy(c) ? 2 : 1) ? 1 : 0;
  if (c.inputs.size() > 3 && states == 0) {
    return Invalid("reads momentum '", c.inputs[2]->name, "' but does not write the new one");
  }
  if (c.inputs.size() < 2 + states) return Invalid("writes a momentum but reads none");
  return InferOptimizer(c, states);
}

OpCost ReadAndWriteAll(const Graph& g, const Node& node) {
  OpCost cost;
  for (ValueId v : node.inputs) {
    cost.memory_bytes += g.values()[v].bytes();
    cost.flops += g.values()[v].numel();
  }
  for (ValueId v : node.outputs) cost.memory_bytes += g.values()[v].bytes();
  return cost;
}

// About 16 operations an element: two moments, two bias corrections, a root, decay.
OpCost AdamCost(const Graph& g, const Node& node) {
  OpCost cost = ReadAndWriteAll(g, node);
  cost.flops = node.inputs.empty() ? 0 : 16 * g.values()[node.inputs[0]].numel();
  return cost;
}

constexpr char kStageDoc[] = "index of the model's stage";
constexpr char kMicroBatchDoc[] = "index of the micro-batch within the step";
constexpr char kDelayDoc[] =
    "steps between the batch whose gradient is used and this update; the verifier checks it";
constexpr char kCoefficientDoc[] =
    "f32 [2] or [3] of clip_coefficient: the gradient's factor; [3] may skip the update";
constexpr char kCopyDoc[] = "bf16 or f16: the new parameters, rounded to nearest";
constexpr char kBucketDoc[] = "flat bucket that is updated; -1 when the parameter is no bucket";

REGISTER_OP_CONTRACT(
    load_batch,
    OpContract("load_batch", "Puts the rank's next micro-batch where the step reads it.")
        .OutVariadic("tensors",
                     "images [batch, channels, height, width], then what the model "
                     "names: labels [batch] i64, masks, boxes, ...")
        .Attr("micro_batch", int64_t{0}, kMicroBatchDoc));

REGISTER_OP_CONTRACT(
    forward,
    OpContract("forward", "Runs one stage of the model and keeps what its backward needs.")
        .InVariadic(
            "inputs",
            "the stage's inputs, what it reads of the batch, then the parameter values of every "
            "bucket that the stage touches, whole or gathered")
        .OutVariadic("outputs",
                     "the stage's outputs, the saved block, the workspace if there is one")
        .Attr("stage", int64_t{0}, kStageDoc, true)
        .Attr("micro_batch", int64_t{0}, kMicroBatchDoc)
        .Attr("evaluate", int64_t{0}, "1: as in evaluation, nothing is kept for a backward"));

REGISTER_OP_CONTRACT(
    recompute,
    OpContract(
        "recompute",
        "Runs one stage's forward again, on the same inputs, and keeps what its backward needs.")
        .InVariadic("inputs", "what the stage's forward read")
        .OutVariadic(
            "outputs",
            "the stage's outputs once more, the saved block, the workspace if there is one")
        .Attr("stage", int64_t{0}, kStageDoc, true)
        .Attr("micro_batch", int64_t{0}, kMicroBatchDoc));

REGISTER_OP_CONTRACT(
    backward,
    OpContract("backward", "Gradients of one stage, from what its forward (or recompute) saved.")
        .InVariadic(
            "inputs",
            "the stage's inputs, what it reads of the batch, the saved block, the "
            "gradients of its outputs (on the last stage instead the loss scale, where there "
            "is one), then the parameter values as for forward")
        .OutVariadic("outputs",
                     "gradients of the inputs, one gradient slice for each "
                     "bucket that the "
                     "stage touches, the workspace if there is one")
        .Attr("stage", int64_t{0}, kStageDoc, true)
        .Attr("micro_batch", int64_t{0}, kMicroBatchDoc)
        .Attr("scale", 1.0,
              "last stage: factor of the loss's gradient, 1 / (ranks x micro-batches)")
        .Attr("statistic_scale", 1.0,
              "stage with running statistics: factor of their gradients, 1 / (ranks x "
              "micro-batches)"));

REGISTER_OP_CONTRACT(accumulate, OpContract("accumulate", "total += addend")
                                     .In("total", "what the micro-batches before gave")
                                     .In("addend", "this micro-batch's")
                                     .OutInPlace("total", 0)
                                     .Infer(InferAccumulate)
                                     .Cost(ReadAndWriteAll));

REGISTER_OP_CONTRACT(scale,
                     OpContract("scale", "y = factor x, as for a scaled loss and its undoing.")
                         .In("x", "f32")
                         .Out("y", "as x")
                         .Attr("factor", 1.0, "what every element is multiplied by", true)
                         .Infer(InferScale)
                         .Cost(ReadAndWriteAll));

REGISTER_OP_CONTRACT(
    cast, OpContract("cast", "The same numbers in another floating-point type, rounded to nearest.")
              .In("x", "f32, bf16 or f16")
              .Out("y", "the shape of x, of element type `to`")
              .Attr("to", std::string("f32"), "f32, bf16 or f16", true)
              .Infer(InferCast)
              .Cost(ReadAndWriteAll));

REGISTER_OP_CONTRACT(
    copy, OpContract("copy",
                     "The same bytes in another place: between device, host and storage, on the "
                     "lane that joins them.")
              .InVariadic("from", "any values")
              .OutVariadic("to", "as many, each like its input but for its buffer")
              .Infer(InferCopy)
              .Cost(CopyCost));

REGISTER_OP_CONTRACT(grad_norm,
                     OpContract("grad_norm",
                                "Sum of squares of a gradient as an exact integer, so that the "
                                "global norm does not depend on "
                                "how gradients are sharded.")
                         .In("grad", "reduced gradient of one bucket, whole or this rank's shard")
                         .Out("norm", "[10] i64")
                         .Infer(InferGradNorm)
                         .Cost(ReadAndWriteAll));

REGISTER_OP_CONTRACT(norm_sum, OpContract("norm_sum", "Adds partial sums of squares.")
                                   .InVariadic("partial", "[10] i64 each")
                                   .Out("sum", "[10] i64")
                                   .Infer(InferNormSum));

REGISTER_OP_CONTRACT(
    clip_coefficient,
    OpContract(
        "clip_coefficient",
        "min(1, max_norm / (norm + 1e-6)) of the global 2-norm, and the norm. Gradients that "
        "carry a loss scale are brought back by the same coefficient, before their norm is "
        "compared.")
        .In("sums",
            "[ranks x 10] i64: every rank's sum of squares, or [10] when all ranks hold all")
        .InOptional("loss_scale", "f64 [6]: what the gradients carry")
        .Out(
            "coefficient",
            "[2] f32: coefficient, norm; with a loss scale [3]: and 1 when the norm is not finite, "
            "so that updates leave everything as it is, else 0")
        .Attr("max_norm", 1.0, "the largest 2-norm that is left alone; with a loss scale 0: any",
              true)
        .Infer(InferClip));

REGISTER_OP_CONTRACT(
    update_loss_scale,
    OpContract("update_loss_scale",
               "Moves the loss scale on after a step (graph/base/loss_scale.h).")
        .In("coefficient", "[3] f32 of clip_coefficient: whether the step overflowed")
        .In("loss_scale",
            "f64 [6]: scale, hysteresis, iteration, last overflow, skipped steps in "
            "all, and in a row at the smallest scale")
        .OutInPlace("loss_scale", 1)
        .Attr("dynamic", true, "false: the scale stays, only steps are counted")
        .Attr("initial", 65536.0, "the first scale")
        .Attr("window", int64_t{1000}, "steps without overflow until the scale doubles")
        .Attr("hysteresis", int64_t{2}, "the scale halves at this many-th overflow")
        .Attr("min_scale", 1.0, "the scale never falls below")
        .Attr("consecutive_hysteresis", false, "every good step restores the hysteresis")
        .Attr("max_skips", int64_t{10},
              "overflows in a row at the smallest scale until the run stops; 0: never")
        .Infer(InferUpdateLossScale));

OpContract Adam(const char* name, const char* doc) {
  return OpContract(name, doc)
      .In("param", "whole or this rank's shard; f32, of parameters in 16 bits their master")
      .In("grad", "reduced gradient, as many elements as param; f32, bf16 or f16")
      .In("exp_avg", "first moment")
      .In("exp_avg_sq", "second moment")
      .InOptional("coefficient", kCoefficientDoc)
      .OutInPlace("param", 0)
      .OutInPlace("exp_avg", 2)
      .OutInPlace("exp_avg_sq", 3)
      .OutOptional("copy", kCopyDoc)
      .Attr("bucket", int64_t{-1}, kBucketDoc)
      .Attr("delay", int64_t{0}, kDelayDoc)
      .Infer(InferAdam)
      .Cost(AdamCost);
}

REGISTER_OP_CONTRACT(adamw,
                     Adam("adamw",
                          "Adam with decoupled weight decay, rates from the optimizer settings."));
REGISTER_OP_CONTRACT(adam, Adam("adam", "Adam, weight decay as an L2 penalty in the gradient."));
REGISTER_OP_CONTRACT(
    sgd, OpContract("sgd", "Stochastic gradient descent, with momentum when it has the state.")
             .In("param", "whole or this rank's shard; f32, of parameters in 16 bits their master")
             .In("grad", "reduced gradient, as many elements as param; f32, bf16 or f16")
             .InOptional("momentum", "absent without momentum; the coefficient then moves up")
             .InOptional("coefficient", kCoefficientDoc)
             .OutInPlace("param", 0)
             .OutInPlaceOptional("momentum", 2)
             .OutOptional("copy", kCopyDoc)
             .Attr("bucket", int64_t{-1}, kBucketDoc)
             .Attr("delay", int64_t{0}, kDelayDoc)
             .Infer(InferSgd)
             .Cost(ReadAndWriteAll));

}  // namespace
}  // namespace millrace
