// U-Net (Ronneberger et al., 2015) with batch norm and padded convolutions, the baseline of medical segmentation:
// what the Resolution-Aware Transformer is held against. Every convolution is trained.
//
//   enc1 .. enc4   images or pooled [B, N, C]     -> skip [B, N, c], pooled [B, N/4, c]     c = width, 2, 4, 8 x width
//   bottleneck     pooled                         -> hidden [B, N/256, 16 width]
//   dec4 .. dec1   hidden, skip                   -> hidden: up (transposed 2 x 2), beside skip, fused
//   head           hidden, masks [B, H, W]        -> loss [], logits [B, classes, H, W]
//
// Each enc, bottleneck and fuse is twice (3 x 3 convolution, batch norm, ReLU). Images of any size from 16 pixels:
// what is missing to multiples of 16 is filled with zeros, right and below, and cut off the logits again.
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "graph/base/findings.h"
#include "models/batch_norm.h"
#include "models/convolution.h"
#include "models/layers.h"
#include "models/losses.h"
#include "models/max_pool.h"
#include "models/model.h"

namespace millrace {
namespace {

constexpr int64_t kLevels = 4, kMultiple = 16;

struct UnetConfig {
  int64_t height, width, channels, base, classes, batch;
  double momentum;
  bool training;

  int64_t rows(int64_t level) const { return Padded(height) >> level; }
  int64_t columns(int64_t level) const { return Padded(width) >> level; }
  int64_t tokens(int64_t level) const { return rows(level) * columns(level); }
  int64_t features(int64_t level) const { return base << level; }
  std::vector<int64_t> grid(int64_t level) const { return {rows(level), columns(level)}; }
  TensorSpec Hidden(const char* name, int64_t level, int64_t features) const {
    return {name, DType::kF32, {batch, tokens(level), features}};
  }
  static int64_t Padded(int64_t n) { return (n + kMultiple - 1) / kMultiple * kMultiple; }
};

absl::StatusOr<UnetConfig> Parse(const Attrs& args, const ModelRequest& request) {
  const auto integer = [&](const char* name) { return std::get<int64_t>(args.at(name)); };
  UnetConfig c{integer("image_size"),
               integer("image_width"),
               integer("channels"),
               integer("width"),
               integer("num_classes"),
               request.micro_batch,
               std::get<double>(args.at("batch_norm_momentum")),
               !request.evaluate};
  Findings findings;
  for (const auto& [name, least] : {std::pair{"image_size", kMultiple},
                                    {"channels", int64_t{1}},
                                    {"width", int64_t{1}},
                                    {"num_classes", int64_t{1}}}) {
    if (integer(name) >= least) continue;
    findings.Add(
        {.check = "model_arg",
         .message = absl::StrCat(name, " is ", integer(name), ", expected at least ", least)});
  }
  if (c.width != 0 && c.width < kMultiple) {
    findings.Add(
        {.check = "model_arg",
         .message = absl::StrCat("image_width is ", c.width, ", expected at least ", kMultiple),
         .suggestion = "0 means a square of image_size"});
  }
  if (!(c.momentum > 0 && c.momentum <= 1)) {
    findings.Add({.check = "model_arg",
                  .message = absl::StrCat("batch_norm_momentum is ", c.momentum,
                                          ", expected 0 < batch_norm_momentum <= 1")});
  }
  if (!findings.ok()) return findings.ToStatus();
  if (c.width == 0) c.width = c.height;
  return c;
}

// A stage's parameters as they are declared, and as forward takes them: in the same order.
class ParamList {
 public:
  explicit ParamList(const UnetConfig& c) : c_(c) {}

  // Weights such that a layer before a ReLU keeps its input's variance (He et al., 2015).
  void Convolution(const std::string& name, std::vector<int64_t> shape, int64_t out,
                   int64_t fan_in) {
    params_.push_back({name + ".weight",
                       std::move(shape),
                       DType::kF32,
                       {InitSpec::Kind::kNormal, std::sqrt(2.0 / static_cast<double>(fan_in))},
                       /*weight_decay=*/true});
    Vector(name + ".bias", out, InitSpec::Kind::kZeros);
  }
  void Norm(const std::string& name, int64_t features) {
    Vector(name + ".weight", features, InitSpec::Kind::kOnes);
    Vector(name + ".bias", features, InitSpec::Kind::kZeros);
    for (const auto& [leaf, kind] : {std::pair{".running_mean", InitSpec::Kind::kZeros},
                                     {".running_var", InitSpec::Kind::kOnes}}) {
      Vector(name + leaf, features, kind);
      params_.back().statistic = true;
      params_.back().momentum = c_.momentum;
    }
  }
  // (Convolution, norm, ReLU) twice, numbered as the public package's containers are.
  void Double(const std::string& name, int64_t in, int64_t out) {
    for (const auto& [convolution, norm, from] : {std::tuple{".0", ".1", in}, {".3", ".4", out}}) {
      Convolution(name + convolution, {out, from, 3, 3}, out, 9 * from);
      Norm(name + norm, out);
    }
  }
  std::vector<ParamSpec> Take() { return std::move(params_); }

 private:
  void Vector(std::string name, int64_t n, InitSpec::Kind kind) {
    params_.push_back({std::move(name), {n}, DType::kF32, {kind, 0}, /*weight_decay=*/false});
  }
  const UnetConfig& c_;
  std::vector<ParamSpec> params_;
};

class ParamReader {
 public:
  ParamReader(const UnetConfig& c, const Tensors& params) : c_(c), params_(params) {}
  const at::Tensor& Next() { return params_.at(next_++); }
  at::Tensor NormRelu(const at::Tensor& x) {
    BatchNormParams p;
    for (at::Tensor* t : {&p.weight, &p.bias, &p.running_mean, &p.running_var}) *t = Next();
    return BatchNorm(x, p, {.training = c_.training, .relu = true});
  }
  at::Tensor Double(at::Tensor x, int64_t level) {
    for (int i = 0; i < 2; ++i) {
      const at::Tensor &weight = Next(), &bias = Next();
      x = Convolution(x, weight, bias, c_.grid(level), SamePadding({3, 3}));
      x = NormRelu(x);
    }
    return x;
  }

 private:
  const UnetConfig& c_;
  const Tensors& params_;
  size_t next_ = 0;
};

// Images [B, C, H, W] -> tokens [B, N, C] of the padded grid.
at::Tensor Tokens(const UnetConfig& c, const at::Tensor& images) {
  at::Tensor x = images;
  if (c.rows(0) != c.height || c.columns(0) != c.width) {
    x = at::constant_pad_nd(x, {0, c.columns(0) - c.width, 0, c.rows(0) - c.height});
  }
  return x.permute({0, 2, 3, 1}).reshape({c.batch, c.tokens(0), c.channels});
}

// Tokens [B, N, classes] of the padded grid -> logits [B, classes, H, W].
at::Tensor Logits(const UnetConfig& c, const at::Tensor& x) {
  return x.view({c.batch, c.rows(0), c.columns(0), c.classes})
      .slice(1, 0, c.height)
      .slice(2, 0, c.width)
      .permute({0, 3, 1, 2})
      .contiguous();
}

StageDef Encoder(const UnetConfig& c, int64_t level) {
  StageDef s;
  s.name = s.class_key = absl::StrCat("enc", level + 1);
  const int64_t in = level == 0 ? c.channels : c.features(level - 1);
  ParamList params(c);
  params.Double(s.name, in, c.features(level));
  s.params = params.Take();
  if (level == 0) {
    s.batch = {0};
  } else {
    s.inputs = {c.Hidden("pooled", level, in)};
    s.sources = {{static_cast<int>(level) - 1, 1}};
  }
  s.outputs = {c.Hidden("skip", level, c.features(level)),
               c.Hidden("pooled", level + 1, c.features(level))};
  s.forward = [c, level](const Tensors& inputs, const Tensors& params) -> Tensors {
    at::Tensor x = inputs[0];
    if (level == 0) x = Tokens(c, x).to(params[0].scalar_type());
    at::Tensor skip = ParamReader(c, params).Double(std::move(x), level);
    at::Tensor pooled = MaxPool2x2(skip, c.rows(level), c.columns(level));
    return {std::move(skip), std::move(pooled)};
  };
  return s;
}

StageDef Bottleneck(const UnetConfig& c) {
  StageDef s;
  s.name = s.class_key = "bottleneck";
  ParamList params(c);
  params.Double(s.name, c.features(kLevels - 1), c.features(kLevels));
  s.params = params.Take();
  s.inputs = {c.Hidden("pooled", kLevels, c.features(kLevels - 1))};
  s.sources = {{static_cast<int>(kLevels) - 1, 1}};
  s.outputs = {c.Hidden("hidden", kLevels, c.features(kLevels))};
  s.forward = [c](const Tensors& inputs, const Tensors& params) -> Tensors {
    return {ParamReader(c, params).Double(inputs[0], kLevels)};
  };
  return s;
}

// `before`: the stage whose output is taken to this level.
StageDef Decoder(const UnetConfig& c, int64_t level, int before) {
  StageDef s;
  s.name = s.class_key = absl::StrCat("dec", level + 1);
  const int64_t in = c.features(level + 1), out = c.features(level);
  ParamList params(c);
  params.Convolution(s.name + ".0", {in, out, 2, 2}, out, in);
  params.Norm(s.name + ".1", out);
  params.Double(absl::StrCat("fuse", level + 1), 2 * out, out);
  s.params = params.Take();
  s.inputs = {c.Hidden("hidden", level + 1, in), c.Hidden("skip", level, out)};
  s.sources = {{before, 0}, {static_cast<int>(level), 0}};
  s.outputs = {c.Hidden("hidden", level, out)};
  s.forward = [c, level](const Tensors& inputs, const Tensors& params) -> Tensors {
    ParamReader p(c, params);
    const at::Tensor &weight = p.Next(), &bias = p.Next();
    at::Tensor x = UpConvolution(inputs[0], weight, bias, c.grid(level + 1), {2, 2});
    x = p.NormRelu(x);
    x = at::cat({x, inputs[1]}, 2);
    return {p.Double(std::move(x), level)};
  };
  return s;
}

StageDef Head(const UnetConfig& c, int before) {
  StageDef s;
  s.name = s.class_key = "head";
  ParamList params(c);
  params.Convolution("final_conv", {c.classes, c.base, 1, 1}, c.classes, 2 * c.base);
  s.params = params.Take();
  s.inputs = {c.Hidden("hidden", 0, c.base)};
  s.sources = {{before, 0}};
  s.batch = {1};
  s.outputs = {{"loss", DType::kF32, {}},
               {"logits", DType::kF32, {c.batch, c.classes, c.height, c.width}}};
  s.forward = [c](const Tensors& inputs, const Tensors& params) -> Tensors {
    const at::Tensor x = Convolution(layers::Wide(inputs[0]), layers::Wide(params[0]),
                                     layers::Wide(params[1]), c.grid(0), SamePadding({1, 1}));
    at::Tensor logits = Logits(c, x);
    at::Tensor loss = BceDiceLoss(logits, inputs.at(1));
    return {std::move(loss), std::move(logits)};
  };
  return s;
}

absl::StatusOr<ModelDef> BuildUnet(const Attrs& args, const ModelRequest& request) {
  absl::StatusOr<UnetConfig> config = Parse(args, request);
  if (!config.ok()) return config.status();
  const UnetConfig& c = *config;
  ModelDef m;
  m.name = "unet";
  m.task = Task::kSegmentation;
  m.batch = {{"images", DType::kF32, {c.batch, c.channels, c.height, c.width}},
             {"masks", DType::kU8, {c.batch, c.height, c.width}}};
  for (int64_t level = 0; level < kLevels; ++level) m.stages.push_back(Encoder(c, level));
  m.stages.push_back(Bottleneck(c));
  for (int64_t level = kLevels; level-- > 0;) {
    m.stages.push_back(Decoder(c, level, static_cast<int>(m.stages.size()) - 1));
  }
  m.stages.push_back(Head(c, static_cast<int>(m.stages.size()) - 1));
  return m;
}

REGISTER_MODEL("unet", "U-Net for segmentation; 31 M parameters at width 64.",
               {
                   {"image_size", int64_t{256}, "height of an image in pixels, at least 16"},
                   {"image_width", int64_t{0}, "its width; 0 means image_size"},
                   {"channels", int64_t{3}, "colour channels of an image"},
                   {"width", int64_t{64}, "features of the first level; each level doubles them"},
                   {"num_classes", int64_t{1}, "masks; 1: whatever is not background"},
                   {"batch_norm_momentum", 0.1, "share of a step's statistics in running ones"},
               },
               BuildUnet);

}  // namespace
}  // namespace millrace
