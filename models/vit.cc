// Vision transformer (Dosovitskiy et al., 2020) as the public checkpoints have it: pre-norm blocks, exact
// GELU, class token, learnt positions, logits from the class token's last layer norm, no pooler. Parameter
// names and shapes are those of the checkpoints, so that weights move both ways without a map.
//
//   embeddings    images [B, C, S, S]        -> hidden [B, N, D]       N = 1 + (S / patch)^2
//   layers.i      hidden [B, N, D]           -> hidden [B, N, D]
//   head          hidden [B, N, D], labels   -> loss [], logits [B, labels]
//
// Reached by name: vit (all arguments), and presets that differ in defaults only.
#include <ATen/ops/cat.h>

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "graph/base/findings.h"
#include "models/layers.h"
#include "models/model.h"

namespace millrace {
namespace {

struct VitConfig {
  int64_t image, channels, patch, hidden, layers, heads, mlp, labels;
  double eps, label_smoothing;
  bool qkv_bias;
  int64_t tokens() const { return 1 + (image / patch) * (image / patch); }
};

int64_t Int(const Attrs& args, const char* name) { return std::get<int64_t>(args.at(name)); }

absl::StatusOr<VitConfig> Parse(const Attrs& args) {
  VitConfig c{Int(args, "image_size"),
              Int(args, "channels"),
              Int(args, "patch_size"),
              Int(args, "hidden_size"),
              Int(args, "layers"),
              Int(args, "heads"),
              Int(args, "mlp_dim"),
              Int(args, "num_labels"),
              std::get<double>(args.at("layer_norm_eps")),
              std::get<double>(args.at("label_smoothing")),
              std::get<bool>(args.at("qkv_bias"))};
  Findings findings;
  for (const char* name :
       {"image_size", "channels", "patch_size", "hidden_size", "layers", "heads", "num_labels"}) {
    if (Int(args, name) < 1) {
      findings.Add(
          {.check = "model_arg",
           .message = absl::StrCat(name, " is ", Int(args, name), ", expected at least 1")});
    }
  }
  if (c.mlp < 0) {
    findings.Add({.check = "model_arg",
                  .message = absl::StrCat("mlp_dim is ", c.mlp, ", expected 0 or more"),
                  .suggestion = "0 means 4 x hidden_size"});
  }
  if (!(c.label_smoothing >= 0 && c.label_smoothing < 1)) {
    findings.Add({.check = "model_arg",
                  .message = absl::StrCat("label_smoothing is ", c.label_smoothing,
                                          ", expected 0 <= label_smoothing < 1")});
  }
  if (!findings.ok()) return findings.ToStatus();
  if (c.image % c.patch != 0) {
    findings.Add({.check = "model_arg",
                  .message = absl::StrCat("image_size ", c.image,
                                          " is not a multiple of patch_size ", c.patch)});
  }
  if (c.hidden % c.heads != 0) {
    findings.Add({.check = "model_arg",
                  .message = absl::StrCat("hidden_size ", c.hidden, " is not a multiple of heads ",
                                          c.heads)});
  }
  if (!findings.ok()) return findings.ToStatus();
  if (c.mlp == 0) c.mlp = 4 * c.hidden;
  return c;
}

ParamSpec Random(std::string name, std::vector<int64_t> shape) {
  return {std::move(name),
          std::move(shape),
          DType::kF32,
          {InitSpec::Kind::kTruncatedNormal, 0.02},
          /*weight_decay=*/true};
}
ParamSpec Filled(std::string name, std::vector<int64_t> shape, InitSpec::Kind kind) {
  return {std::move(name), std::move(shape), DType::kF32, {kind, 0}, /*weight_decay=*/false};
}

void AddLinear(std::vector<ParamSpec>& params, const std::string& name, int64_t out, int64_t in,
               bool bias = true) {
  params.push_back(Random(name + ".weight", {out, in}));
  if (bias) params.push_back(Filled(name + ".bias", {out}, InitSpec::Kind::kZeros));
}

void AddNorm(std::vector<ParamSpec>& params, const std::string& name, int64_t width) {
  params.push_back(Filled(name + ".weight", {width}, InitSpec::Kind::kOnes));
  params.push_back(Filled(name + ".bias", {width}, InitSpec::Kind::kZeros));
}

// Takes a stage's parameters in the order in which they were added.
class ParamReader {
 public:
  explicit ParamReader(const Tensors& params) : params_(params) {}
  const at::Tensor& Next() { return params_.at(next_++); }
  at::Tensor NextIf(bool present) { return present ? Next() : at::Tensor(); }

 private:
  const Tensors& params_;
  size_t next_ = 0;
};

StageDef Embeddings(const VitConfig& c, TensorSpec hidden) {
  StageDef s;
  s.name = s.class_key = "embeddings";
  ParamSpec positions = Random("vit.embeddings.position_embeddings", {1, c.tokens(), c.hidden});
  positions.weight_decay = false;
  s.params = {
      Filled("vit.embeddings.cls_token", {1, 1, c.hidden}, InitSpec::Kind::kZeros),
      std::move(positions),
      Random("vit.embeddings.patch_embeddings.projection.weight",
             {c.hidden, c.channels, c.patch, c.patch}),
      Filled("vit.embeddings.patch_embeddings.projection.bias", {c.hidden}, InitSpec::Kind::kZeros),
  };
  s.batch = {0};
  s.outputs = {std::move(hidden)};
  s.forward = [c](const Tensors& inputs, const Tensors& params) -> Tensors {
    ParamReader p(params);
    const int64_t batch = inputs.at(0).size(0);
    const at::Tensor& cls = p.Next();
    const at::Tensor& positions = p.Next();
    const at::Tensor& weight = p.Next();
    // In f32 whatever the parameters are: images come in f32, and only the sum is worth rounding.
    at::Tensor patches =
        layers::PatchEmbedding(inputs.at(0), layers::Wide(weight), layers::Wide(p.Next()));
    patches = patches.view({batch, c.tokens() - 1, c.hidden});
    at::Tensor x = at::cat({layers::Wide(cls).expand({batch, 1, c.hidden}), patches}, 1);
    return {x.add_(layers::Wide(positions)).to(cls.scalar_type())};
  };
  return s;
}

StageDef Layer(const VitConfig& c, int64_t index, const TensorSpec& hidden) {
  StageDef s;
  s.name = absl::StrCat("layers.", index);
  s.class_key = "layer";
  const std::string prefix = absl::StrCat("vit.layers.", index, ".");
  for (const char* name : {"q_proj", "k_proj", "v_proj"}) {
    AddLinear(s.params, absl::StrCat(prefix, "attention.", name), c.hidden, c.hidden, c.qkv_bias);
  }
  AddLinear(s.params, prefix + "attention.o_proj", c.hidden, c.hidden);
  AddNorm(s.params, prefix + "layernorm_before", c.hidden);
  AddNorm(s.params, prefix + "layernorm_after", c.hidden);
  AddLinear(s.params, prefix + "mlp.fc1", c.mlp, c.hidden);
  AddLinear(s.params, prefix + "mlp.fc2", c.hidden, c.mlp);
  s.inputs = {hidden};
  s.outputs = {hidden};
  s.forward = [c](const Tensors& inputs, const Tensors& params) -> Tensors {
    ParamReader p(params);
    layers::AttentionParams a;
    a.q_weight = p.Next(), a.q_bias = p.NextIf(c.qkv_bias);
    a.k_weight = p.Next(), a.k_bias = p.NextIf(c.qkv_bias);
    a.v_weight = p.Next(), a.v_bias = p.NextIf(c.qkv_bias);
    a.o_weight = p.Next(), a.o_bias = p.Next();
    const at::Tensor &before_weight = p.Next(), &before_bias = p.Next();
    const at::Tensor &after_weight = p.Next(), &after_bias = p.Next();
    const at::Tensor &fc1_weight = p.Next(), &fc1_bias = p.Next();
    const at::Tensor &fc2_weight = p.Next(), &fc2_bias = p.Next();
    const int64_t batch = inputs.at(0).size(0);
    const at::Tensor x = inputs.at(0).view({-1, c.hidden});
    at::Tensor middle;
    {
      layers::Branch branch = layers::LayerNormBranch(x, before_weight, before_bias, c.eps);
      middle = layers::SelfAttention(branch.normed, a, batch, c.heads);
      middle.add_(branch.residual);
    }
    layers::Branch branch = layers::LayerNormBranch(middle, after_weight, after_bias, c.eps);
    at::Tensor out = layers::Mlp(branch.normed, fc1_weight, fc1_bias, fc2_weight, fc2_bias);
    out.add_(branch.residual);
    return {out.view(inputs.at(0).sizes())};
  };
  return s;
}

StageDef Head(const VitConfig& c, int64_t batch, const TensorSpec& hidden) {
  StageDef s;
  s.name = s.class_key = "head";
  AddNorm(s.params, "vit.layernorm", c.hidden);
  AddLinear(s.params, "classifier", c.labels, c.hidden);
  s.inputs = {hidden};
  s.outputs = {{"loss", DType::kF32, {}}, {"logits", DType::kF32, {batch, c.labels}}};
  s.batch = {1};
  s.forward = [c](const Tensors& inputs, const Tensors& params) -> Tensors {
    ParamReader p(params);
    const at::Tensor &norm_weight = p.Next(), &norm_bias = p.Next();
    const at::Tensor &weight = p.Next(), &bias = p.Next();
    // In f32 whatever the parameters are: small, and the loss is f32.
    const at::Tensor cls = layers::Wide(inputs.at(0).select(1, 0).contiguous());
    at::Tensor logits = layers::Linear(
        layers::LayerNorm(cls, layers::Wide(norm_weight), layers::Wide(norm_bias), c.eps),
        layers::Wide(weight), layers::Wide(bias));
    at::Tensor loss = layers::CrossEntropy(logits, inputs.at(1), c.label_smoothing);
    return {std::move(loss), std::move(logits)};
  };
  return s;
}

absl::StatusOr<ModelDef> BuildVit(const std::string& name, const Attrs& args, int64_t batch) {
  absl::StatusOr<VitConfig> config = Parse(args);
  if (!config.ok()) return config.status();
  const VitConfig& c = *config;
  ModelDef m;
  m.name = name;
  m.batch = {{"images", DType::kF32, {batch, c.channels, c.image, c.image}},
             {"labels", DType::kI64, {batch}}};
  const TensorSpec hidden{"hidden", DType::kF32, {batch, c.tokens(), c.hidden}};
  m.stages.push_back(Embeddings(c, hidden));
  for (int64_t i = 0; i < c.layers; ++i) m.stages.push_back(Layer(c, i, hidden));
  m.stages.push_back(Head(c, batch, hidden));
  return m;
}

struct Preset {
  const char* name;
  const char* doc;
  int64_t image, channels, patch, hidden, layers, heads, labels;
};

bool RegisterPreset(const Preset& p) {
  const std::string name = p.name;
  return ModelRegistry::Global().Register(
      name, p.doc,
      {
          {"image_size", p.image, "height and width of an image in pixels"},
          {"channels", p.channels, "colour channels of an image"},
          {"patch_size", p.patch, "height and width of a patch; divides image_size"},
          {"hidden_size", p.hidden, "width of a token"},
          {"layers", p.layers, "transformer blocks"},
          {"heads", p.heads, "attention heads; divides hidden_size"},
          {"mlp_dim", int64_t{0}, "inner width of the MLP; 0 means 4 x hidden_size"},
          {"num_labels", p.labels, "classes"},
          {"layer_norm_eps", 1e-12, "added to the variance in layer norms"},
          {"qkv_bias", true, "whether query, key and value projections have biases"},
          {"label_smoothing", 0.0, "share of the target spread evenly over all classes"},
      },
      [name](const Attrs& args, const ModelRequest& request) {
        return BuildVit(name, args, request.micro_batch);
      });
}

constexpr Preset kPresets[] = {
    {"vit", "Vision transformer; the defaults are Base/16.", 224, 3, 16, 768, 12, 12, 1000},
    {"vit_tiny", "ViT of width 192 on 32-pixel images, 5.4 M parameters.", 32, 3, 4, 192, 12, 3,
     100},
    {"vit_small", "ViT of width 384 on 64-pixel images, 21 M parameters.", 64, 3, 8, 384, 12, 6,
     100},
    {"vit_base", "ViT-Base/16 at 224 pixels, 86 M parameters.", 224, 3, 16, 768, 12, 12, 100},
    {"vit_huge", "ViT-Huge/14 at 224 pixels, 631 M parameters.", 224, 3, 14, 1280, 32, 16, 101},
    {"digits_vit", "ViT for 8-pixel handwritten digits, 0.2 M parameters.", 8, 1, 2, 64, 4, 4, 10},
};

[[maybe_unused]] const bool registered = [] {
  for (const Preset& p : kPresets) RegisterPreset(p);
  return true;
}();

}  // namespace
}  // namespace millrace
