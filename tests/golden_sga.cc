// Kinds sga and sga_window, dense and sparse grouping attention, and seg_head and det_head.
#include <utility>

#include "absl/status/status.h"
#include "graph/base/status.h"
#include "models/rat/grouping_attention.h"
#include "models/rat/heads.h"
#include "tests/golden_case.h"
#include "tests/golden_function.h"
#include "tests/golden_rat_config.h"

namespace millrace {
namespace {

using Json = nlohmann::json;
using Grid = std::vector<int64_t>;

absl::StatusOr<GoldenOutputs> Sga(const GoldenCase& c) {
  GoldenArgs args(c.args);
  const Json ctor_json = args.Get("ctor", Json::object());
  const Grid grid = args.Get("grid", Grid{});
  const Json spacing_json = args.Get("spacing", Json());
  const bool masked = args.Get("mask", false);
  args.Get("batch", int64_t{2});
  args.Get("probe", Json());
  const Grid window = args.Get("window", Grid{});
  RETURN_IF_ERROR(args.AllWereRead());
  GoldenArgs ctor(ctor_json);
  ASSIGN_OR_RETURN(rat::GroupingConfig config, ReadGrouping(ctor, "kernel_size"));
  RETURN_IF_ERROR(ctor.AllWereRead());
  config.sparse = !window.empty();
  config.window = window;
  const int64_t axes = config.rose.axes;
  const at::Tensor spacing = SpacingTensor(Json::array({spacing_json}), 1, axes);
  const std::vector<double> factor(static_cast<size_t>(axes), 1.0);
  if (c.meta.contains("out_grid") &&
      OutputGrid(grid, config.geometry()) != c.meta["out_grid"].get<Grid>()) {
    return absl::InternalError("the coarse grid is not the reference's");
  }
  GoldenFunction f;
  rat::AddGroupingParams(f.params, "", config);
  f.inputs = {"x"};
  if (masked) f.inputs.push_back("mask");
  f.outputs = {"x_out", "attn_q", "attn_k"};
  f.forward = [=](const Tensors& in, const Tensors& params) -> Tensors {
    rat::ParamReader reader(params);
    const rat::GroupingParams p = rat::ReadGroupingParams(reader, config);
    at::Tensor hidden;
    if (masked) hidden = in.at(1).detach().flatten(1).to(at::kByte);
    const auto out = rat::GroupingAttention({{in[0], grid, spacing, 0, factor, hidden}}, config, p,
                                            {}, /*want_attention=*/true);
    return {out[0].tokens, out[0].attn_q, out[0].attn_k};
  };
  return RunFunction(c, f);
}

absl::StatusOr<GoldenOutputs> SegHead(const GoldenCase& c) {
  GoldenArgs args(c.args);
  const Grid grid = args.Get("grid", Grid{}), size = args.Get("size", Grid{});
  GoldenFunction f;
  rat::AddSegmentationParams(f.params, "", args.Get("dims", int64_t{0}),
                             args.Get("classes", int64_t{0}));
  RETURN_IF_ERROR(args.AllWereRead());
  f.inputs = {"tokens"}, f.outputs = {"logits"};
  f.forward = [=](const Tensors& in, const Tensors& params) -> Tensors {
    rat::ParamReader reader(params);
    return rat::SegmentationHeads(in, {grid}, {size}, rat::ReadSegmentationParams(reader));
  };
  return RunFunction(c, f);
}

absl::StatusOr<GoldenOutputs> DetHead(const GoldenCase& c) {
  GoldenArgs args(c.args);
  rat::DetectionConfig config;
  config.width = args.Get("dims", int64_t{0});
  config.logits = args.Get("classes", int64_t{0}) + 1;
  config.queries = args.Get("queries", int64_t{0});
  const int64_t tokens = args.Get("tokens", int64_t{0});
  RETURN_IF_ERROR(args.AllWereRead());
  GoldenFunction f;
  rat::AddDetectionParams(f.params, "", config);
  f.inputs = {"tokens"}, f.outputs = {"pred_logits", "pred_boxes"};
  f.forward = [=](const Tensors& in, const Tensors& params) -> Tensors {
    rat::ParamReader reader(params);
    const auto p = rat::ReadDetectionParams(reader, config);
    const rat::Detections d = rat::DetectionHead(in[0], {1, tokens}, config, p, {});
    return {d.class_logits, d.boxes};
  };
  return RunFunction(c, f);
}

REGISTER_GOLDEN_KIND(sga, Sga);
REGISTER_GOLDEN_KIND(sga_window, Sga);
REGISTER_GOLDEN_KIND(seg_head, SegHead);
REGISTER_GOLDEN_KIND(det_head, DetHead);

}  // namespace
}  // namespace millrace
