// The Resolution-Aware Transformer: one image at several scales becomes tokens, each block groups them into fewer
// (grouping_attention.h) and lets the scales see each other (multi_resolution.h), a head makes masks or boxes of them.
//
//   init_proj          images [B, C, H, W] of each scale  -> tokens [B, H * W, D]
//   sga_layers.i       tokens of each scale, spacing      -> tokens on the coarser grid
//   mr_attn_layers.i   tokens of each scale, spacing      -> the same shapes
//   seg_head           tokens of each scale, masks        -> loss [], logits [B, classes, H, W] of each scale
//   detection_head     tokens of the first scale, objects -> loss [], class_logits [B, Q, C], boxes [B, Q, 4]
//
// Parameters are named as in the published package. Within a stage all is f32; with 16-bit storage its inputs and
// parameters are widened and its outputs rounded. Off the host a stage computes in the storage's type.
#include <ATen/ops/empty.h>

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "graph/base/random.h"
#include "models/generic.h"
#include "models/layers.h"
#include "models/losses.h"
#include "models/rat/generic_parts.h"
#include "models/rat/rat_config.h"

namespace millrace::rat {
namespace {

std::string Scaled(const std::string& name, int64_t scale) {
  return scale == 0 ? name : absl::StrCat(name, ".", scale);
}

// Where a stage finds its tensors: inputs first, then what it reads of the batch.
struct StageReader {
  const Tensors& tensors;
  int64_t scales, next;
  StageReader(const Tensors& t, int64_t s) : tensors(t), scales(s), next(s) {}
  Tensors Tokens() const {
    Tensors wide;
    for (int64_t i = 0; i < scales; ++i) {
      wide.push_back(layers::Inside(tensors.at(static_cast<size_t>(i))));
    }
    return wide;
  }
  at::Tensor NextIf(bool present) {
    return present ? tensors.at(static_cast<size_t>(next++)) : at::Tensor();
  }
};

Tensors Narrow(const Tensors& tensors, at::ScalarType type) {
  Tensors out;
  for (const at::Tensor& t : tensors) out.push_back(t.to(type));
  return out;
}

// Adds to x [B, N, D] on a grid the sines and cosines of the physical position: half of the channels for each axis.
at::Tensor AddAbsolutePositions(at::Tensor x, const Grid& grid, const at::Tensor& spacing) {
  const int64_t width = x.size(2), per_axis = width / 2, n = x.size(1);
  if (!OnHost(x)) return x.add_(generic::AbsolutePositions(x, grid, spacing));
  at::Tensor positions = at::empty({spacing.size(0), n, width}, x.options().requires_grad(false));
  for (int64_t b = 0; b < spacing.size(0) && !x.is_meta(); ++b) {
    for (int64_t t = 0; t < n; ++t) {
      const int64_t index[2] = {t / grid[1], t % grid[1]};
      float* row = positions.data_ptr<float>() + (b * n + t) * width;
      for (int64_t c = 0; c < width; ++c) {
        const int64_t a = c / per_axis, j = c % per_axis / 2;
        const double step =
            spacing.data_ptr<float>()[b * spacing.stride(0) + a * spacing.stride(1)];
        const double f =
            std::pow(1e-4, 2.0 * static_cast<double>(j) / static_cast<double>(per_axis));
        const double angle = static_cast<double>(index[a]) * step * f;
        row[c] = static_cast<float>(c % 2 == 0 ? std::sin(angle) : std::cos(angle));
      }
    }
  }
  return x.add_(positions);
}

Dropout MakeDropout(const RatConfig& c, const std::string& stage, at::Tensor keys) {
  return {std::move(keys), c.dropout, HashString(stage)};
}

class Builder {
 public:
  Builder(RatConfig config, const ModelRequest& request)
      : c_(std::move(config)), batch_(request.micro_batch) {
    draws_ = c_.dropout > 0;
    if (request.evaluate) c_.dropout = 0;
  }

  ModelDef Build(std::string name) {
    m_.name = std::move(name);
    m_.task = c_.task;
    for (int64_t s = 0; s < c_.scales(); ++s) {
      const Grid& g = c_.images[static_cast<size_t>(s)];
      images_.push_back(
          AddBatch(Scaled("images", s), DType::kF32, {batch_, c_.channels, g[0], g[1]}));
    }
    if (c_.spacing) spacing_ = AddBatch("spacing", DType::kF32, {batch_, c_.scales(), 2});
    if (draws_) keys_ = AddBatch("keys", DType::kI64, {batch_});  // also where none reads them
    AddProjection();
    for (int64_t i = 0; i < c_.blocks(); ++i) {
      AddGrouping(i);
      AddMixing(i);
    }
    c_.task == Task::kSegmentation ? AddSegmentation() : AddDetection();
    return std::move(m_);
  }

 private:
  int AddBatch(std::string name, DType dtype, std::vector<int64_t> shape) {
    m_.batch.push_back({std::move(name), dtype, std::move(shape)});
    return static_cast<int>(m_.batch.size()) - 1;
  }
  // Tokens of each scale before block `block`.
  std::vector<TensorSpec> Tokens(int64_t block, int64_t scales) const {
    std::vector<TensorSpec> specs;
    for (int64_t s = 0; s < scales; ++s) {
      const Grid& g = c_.grids[static_cast<size_t>(block)][static_cast<size_t>(s)];
      specs.push_back({Scaled("tokens", s), DType::kF32, {batch_, g[0] * g[1], c_.width}});
    }
    return specs;
  }
  // Stages of equal key make the same allocations.
  std::string Key(const std::string& kind, int64_t block) const {
    std::string key = kind;
    for (int64_t b : {block, block + 1}) {
      for (const Grid& g : c_.grids[static_cast<size_t>(b)]) {
        absl::StrAppend(&key, " ", absl::StrJoin(g, "x"));
      }
    }
    return key;
  }

  void AddProjection() {
    StageDef s;
    s.name = s.class_key = "init_proj";
    AddFanIn(s.params, "backbone.init_proj",
             {c_.width, c_.channels, c_.projection_kernel, c_.projection_kernel});
    s.batch = images_;
    if (c_.absolute) s.batch.push_back(spacing_);
    s.outputs = Tokens(0, c_.scales());
    const RatConfig c = c_;
    s.forward = [c](const Tensors& inputs, const Tensors& params) -> Tensors {
      ParamReader reader(params);
      const at::Tensor weight = reader.Next(), bias = reader.Next();
      Uses weights(weight, c.scales()), biases(bias, c.scales());
      const ConvGeometry geometry = SamePadding({c.projection_kernel, c.projection_kernel});
      Tensors out;
      for (size_t i = 0; i < c.images.size(); ++i) {
        const at::Tensor& image = inputs.at(i);
        const at::Tensor pixels = image.permute({0, 2, 3, 1})
                                      .contiguous()
                                      .view({image.size(0), -1, image.size(1)})
                                      .to(weight.scalar_type());
        at::Tensor x = Convolution(pixels, weights.Next(), biases.Next(), c.images[i], geometry);
        if (c.absolute) {
          x = AddAbsolutePositions(x, c.images[i],
                                   inputs.at(c.images.size()).select(1, static_cast<int64_t>(i)));
        }
        out.push_back(x.to(params[0].scalar_type()));
      }
      return out;
    };
    Push(std::move(s));
  }

  void AddGrouping(int64_t i) {
    const size_t block = static_cast<size_t>(i);
    const GroupingConfig& g = c_.grouping[block];
    StageDef s;
    s.name = absl::StrCat("sga_layers.", i);
    s.class_key =
        Key(absl::StrCat(g.sparse ? "sparse " : "dense ", absl::StrJoin(g.kernel, "x"), " ",
                         absl::StrJoin(g.stride, "x"), " ", absl::StrJoin(g.window, "x")),
            i);
    AddGroupingParams(s.params, absl::StrCat("backbone.", s.name, "."), g);
    s.inputs = Tokens(i, c_.scales());
    s.outputs = Tokens(i + 1, c_.scales());
    ReadPositionsAndKeys(s);
    const RatConfig c = c_;
    s.forward = [c, block, name = s.name](const Tensors& inputs, const Tensors& params) -> Tensors {
      StageReader in(inputs, c.scales());
      const Tensors tokens = in.Tokens();
      const at::Tensor spacing = in.NextIf(c.RotatesBySpacing());
      const at::Tensor keys = in.NextIf(c.dropout > 0);
      ParamReader reader(params);
      const GroupingParams p = ReadGroupingParams(reader, c.grouping[block]);
      std::vector<GroupingInput> scales;
      for (size_t k = 0; k < tokens.size(); ++k) {
        scales.push_back({tokens[k], c.grids[block][k], spacing, static_cast<int64_t>(k),
                          c.factor[block], at::Tensor()});
      }
      Tensors out;
      for (GroupedTokens& t :
           GroupingAttention(scales, c.grouping[block], p, MakeDropout(c, name, keys))) {
        out.push_back(std::move(t.tokens));
      }
      return Narrow(out, params[0].scalar_type());
    };
    Push(std::move(s));
  }

  void AddMixing(int64_t i) {
    const size_t block = static_cast<size_t>(i);
    const int64_t kept = c_.task == Task::kDetection && i + 1 == c_.blocks() ? 1 : c_.scales();
    StageDef s;
    s.name = absl::StrCat("mr_attn_layers.", i);
    s.class_key = Key(absl::StrCat("mixing ", kept), i);
    AddMultiResolutionParams(s.params, absl::StrCat("backbone.", s.name, "."), c_.mixing);
    s.inputs = Tokens(i + 1, c_.scales());
    s.outputs = Tokens(i + 1, kept);
    ReadPositionsAndKeys(s);
    const RatConfig c = c_;
    s.forward = [c, block, kept, name = s.name](const Tensors& inputs,
                                                const Tensors& params) -> Tensors {
      StageReader in(inputs, c.scales());
      const Tensors tokens = in.Tokens();
      const at::Tensor spacing = in.NextIf(c.RotatesBySpacing());
      const at::Tensor keys = in.NextIf(c.dropout > 0);
      ParamReader reader(params);
      const MultiResolutionParams p = ReadMultiResolutionParams(reader, c.mixing);
      std::vector<TokenGrid> grids;
      for (size_t k = 0; k < tokens.size(); ++k) {
        grids.push_back({c.grids[block + 1][k], static_cast<int64_t>(k), c.factor[block + 1]});
      }
      Tensors out =
          MultiResolution(tokens, grids, spacing, c.mixing, p, MakeDropout(c, name, keys), kept);
      return Narrow(out, params[0].scalar_type());
    };
    Push(std::move(s));
  }

  void AddSegmentation() {
    StageDef s;
    s.name = s.class_key = "seg_head";
    AddSegmentationParams(s.params, "seg_head.", c_.width, c_.classes);
    s.inputs = Tokens(c_.blocks(), c_.scales());
    s.outputs = {{"loss", DType::kF32, {}}};
    for (int64_t k = 0; k < c_.scales(); ++k) {
      const Grid& g = c_.images[static_cast<size_t>(k)];
      s.batch.push_back(AddBatch(Scaled("masks", k), DType::kU8, {batch_, g[0], g[1]}));
      s.outputs.push_back({Scaled("logits", k), DType::kF32, {batch_, c_.classes, g[0], g[1]}});
    }
    const RatConfig c = c_;
    s.forward = [c](const Tensors& inputs, const Tensors& params) -> Tensors {
      StageReader in(inputs, c.scales());
      const Tensors tokens = in.Tokens();
      ParamReader reader(params);
      const SegmentationParams p = ReadSegmentationParams(reader);
      Tensors out{at::Tensor()}, losses;
      for (at::Tensor& logits : SegmentationHeads(tokens, c.grids.back(), c.images, p)) {
        losses.push_back(BceDiceLoss(logits, in.NextIf(true)));
        out.push_back(std::move(logits));
      }
      out[0] = Mean(losses);
      return out;
    };
    Push(std::move(s));
  }

  void AddDetection() {
    StageDef s;
    s.name = s.class_key = "detection_head";
    m_.host_only =
        "its loss matches objects and queries on the CPU, which a step on a device cannot wait for";
    const DetectionConfig& d = c_.detection;
    AddDetectionParams(s.params, "detection_head.", d);
    s.inputs = Tokens(c_.blocks(), 1);
    s.batch = {AddBatch("boxes", DType::kF32, {batch_, c_.max_objects, 4}),
               AddBatch("classes", DType::kI64, {batch_, c_.max_objects})};
    const bool drops = c_.dropout > 0 && d.decoder_layers > 0;
    if (drops) s.batch.push_back(keys_);
    s.outputs = {{"loss", DType::kF32, {}},
                 {"class_logits", DType::kF32, {batch_, d.queries, d.logits}},
                 {"boxes", DType::kF32, {batch_, d.queries, 4}}};
    const RatConfig c = c_;
    s.forward = [c, drops](const Tensors& inputs, const Tensors& params) -> Tensors {
      StageReader in(inputs, 1);
      const at::Tensor tokens = in.Tokens()[0];
      const at::Tensor boxes = in.NextIf(true), classes = in.NextIf(true), keys = in.NextIf(drops);
      ParamReader reader(params);
      const DetectionParams p = ReadDetectionParams(reader, c.detection);
      Detections found = DetectionHead(tokens, c.grids.back()[0], c.detection, p,
                                       MakeDropout(c, "detection_head", keys));
      SetLoss loss = DetectionSetLoss(found.class_logits, found.boxes, classes, boxes, c.loss);
      return {loss.total, found.class_logits, found.boxes};
    };
    Push(std::move(s));
  }

  void ReadPositionsAndKeys(StageDef& s) const {
    if (c_.RotatesBySpacing()) s.batch.push_back(spacing_);
    if (c_.dropout > 0) s.batch.push_back(keys_);
  }
  void Push(StageDef s) {
    const int from = static_cast<int>(m_.stages.size()) - 1;
    for (size_t i = 0; i < s.inputs.size(); ++i) s.sources.push_back({from, static_cast<int>(i)});
    m_.stages.push_back(std::move(s));
  }

  RatConfig c_;
  int64_t batch_;
  bool draws_ = false;
  ModelDef m_;
  std::vector<int> images_;
  int spacing_ = -1, keys_ = -1;
};

struct Preset {
  const char* name;
  const char* doc;
  Attrs defaults;
};

void RegisterPreset(const Preset& preset) {
  std::vector<ModelArg> args = RatArguments();
  for (ModelArg& arg : args) {
    const auto it = preset.defaults.find(arg.name);
    if (it != preset.defaults.end()) arg.default_value = it->second;
  }
  ModelRegistry::Global().Register(
      preset.name, preset.doc, args,
      [args, name = std::string(preset.name)](
          const Attrs& attrs, const ModelRequest& request) -> absl::StatusOr<ModelDef> {
        absl::StatusOr<RatConfig> config = ParseRat(attrs, args);
        if (!config.ok()) return config.status();
        return Builder(*std::move(config), request).Build(name);
      });
}

std::string Str(const char* s) { return s; }

[[maybe_unused]] const bool registered = [] {
  const Attrs optimized{
      {"image_size", Str("256,128")}, {"attention", Str("sparse,sparse,dense")}, {"dropout", 0.1}};
  const auto with = [](Attrs base, const Attrs& more) {
    for (const auto& [name, value] : more) base[name] = value;
    return base;
  };
  const Attrs detection{
      {"task", Str("detection")}, {"num_classes", int64_t{91}}, {"queries", int64_t{100}}};
  // A group of 4 x 4; three blocks coarsen the grid, the others keep it.
  const Attrs huge{{"dims", int64_t{1280}},    {"blocks", int64_t{32}},
                   {"image_size", Str("128")}, {"kernel", Str("4")},
                   {"stride", Str("2,2,2,1")}, {"attention", Str("sparse,sparse,sparse,dense")}};
  const auto sized = [&](int64_t dims, int64_t blocks, int64_t heads) {
    return with(optimized, {{"dims", dims}, {"blocks", blocks}, {"heads", heads}});
  };
  Attrs small = sized(128, 2, 8);
  small["attention"] = Str("sparse,dense");
  for (const Preset& p : {
           Preset{"rat", "Resolution-aware transformer: one image at several scales.", {}},
           Preset{"rat_optimized", "RAT of width 256 for masks, two scales, 19 M parameters.",
                  optimized},
           Preset{"rat_optimized_detection", "RAT of width 256 for boxes of 91 classes.",
                  with(with(optimized, detection), {{"image_size", Str("512,640")}})},
           Preset{"rat_small", "RAT of width 128, 2 blocks, 2.4 M parameters.", small},
           Preset{"rat_base", "RAT of width 256, 4 blocks, 19 M parameters.", sized(256, 4, 16)},
           Preset{"rat_large", "RAT of width 512, 6 blocks, 114 M parameters.", sized(512, 6, 32)},
           Preset{"rat_vit_huge", "RAT of ViT-Huge's width and depth, groups of 4 x 4 pixels.",
                  huge},
           Preset{"rat_vit_huge_reference",
                  "RAT of ViT-Huge's width and depth as published, 3.8 B parameters.",
                  {{"dims", int64_t{1280}}, {"blocks", int64_t{32}}, {"image_size", Str("128")}}},
           Preset{"rat_vit_huge_detection", "rat_vit_huge for boxes, two scales.",
                  with(with(huge, detection), {{"image_size", Str("512,256")}})},
       }) {
    RegisterPreset(p);
  }
  return true;
}();

}  // namespace
}  // namespace millrace::rat
