// Kinds rose, rose_freqs, rose_cross and mr_block: rotary spatial embeddings, and the attention block over several
// scales that is made of them.
#include <ATen/ops/from_blob.h>
#include <ATen/ops/matmul.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "graph/base/status.h"
#include "models/rat/multi_resolution.h"
#include "models/rat/rose.h"
#include "tests/golden_case.h"
#include "tests/golden_function.h"

namespace millrace {
namespace {

using Json = nlohmann::json;
using Grid = std::vector<int64_t>;

absl::StatusOr<rat::RoseConfig> ReadRose(GoldenArgs& ctor) {
  rat::RoseConfig c;
  c.heads = ctor.Get("num_heads", int64_t{1});
  c.head_width = ctor.Get("feature_dims", int64_t{2}) / c.heads;
  c.axes = ctor.Get("spatial_dims", int64_t{2});
  c.ratio = ctor.Get("rotary_ratio", 1.0);
  c.theta = ctor.Get("base_theta", 1e4);
  c.frequency_scaling = ctor.Get<std::string>("frequency_scaling", "sqrt");
  c.learnable = ctor.Get("learnable", true);
  c.learnable_spacing = ctor.Get("learnable_scale", false);
  ASSIGN_OR_RETURN(c.start, StartOf(ctor.Get("initial_scaling", Json())));
  return c;
}

std::vector<double> Ones(int64_t axes) {
  return std::vector<double>(static_cast<size_t>(axes), 1.0);
}

absl::StatusOr<GoldenOutputs> Rose(const GoldenCase& c) {
  GoldenArgs args(c.args);
  const Json ctor_json = args.Get("ctor", Json::object());
  const Grid grid = args.Get("grid", Grid{});
  const Json spacing_json = args.Get("spacing", Json());
  const bool flatten = args.Get("flatten", false);
  RETURN_IF_ERROR(args.AllWereRead());
  GoldenArgs ctor(ctor_json);
  ASSIGN_OR_RETURN(const rat::RoseConfig rose, ReadRose(ctor));
  RETURN_IF_ERROR(ctor.AllWereRead());
  const at::Tensor spacing = SpacingTensor(Json::array({spacing_json}), 1, rose.axes);
  GoldenFunction f;
  rat::AddRoseParams(f.params, "", rose);
  f.inputs = {"x"}, f.outputs = {"y"};
  f.forward = [=](const Tensors& in, const Tensors& params) -> Tensors {
    rat::ParamReader reader(params);
    const rat::RoseParams p = rat::ReadRoseParams(reader, rose);
    at::Tensor y =
        rat::Rotate(in[0], rose, {{0, grid, 0, Ones(rose.axes)}}, spacing, p, at::Tensor());
    if (flatten) return {y};
    return {y.view({y.size(0), y.size(1), rose.heads, rose.head_width})};
  };
  return RunFunction(c, f);
}

absl::StatusOr<GoldenOutputs> RoseTables(const GoldenCase& c) {
  GoldenOutputs outputs;
  const Json& tables = c.args.at("tables");
  for (size_t i = 0; i < tables.size(); ++i) {
    GoldenArgs table(tables[i]);
    ASSIGN_OR_RETURN(const rat::RoseConfig rose, ReadRose(table));
    RETURN_IF_ERROR(table.AllWereRead());
    const std::vector<float> freqs = rat::RoseFrequencies(rose);
    outputs.Put(absl::StrCat("output.freqs_", i), {rose.rotated_heads(), rose.planes(), rose.axes},
                freqs.data());
  }
  return outputs;
}

absl::StatusOr<GoldenOutputs> RoseCross(const GoldenCase& c) {
  GoldenArgs args(c.args);
  const Json ctor_json = args.Get("ctor", Json::object());
  const Grid q_grid = args.Get("q_grid", Grid{}), k_grid = args.Get("k_grid", Grid{});
  const Json spacings = Json::array({args.Get("q_spacing", Json()), args.Get("k_spacing", Json())});
  RETURN_IF_ERROR(args.AllWereRead());
  GoldenArgs ctor(ctor_json);
  ASSIGN_OR_RETURN(const rat::RoseConfig rose, ReadRose(ctor));
  RETURN_IF_ERROR(ctor.AllWereRead());
  const at::Tensor spacing = SpacingTensor(spacings, 2, rose.axes);
  GoldenFunction f;
  rat::AddRoseParams(f.params, "rose.", rose);
  f.inputs = {"q", "k"}, f.outputs = {"attn"};
  f.forward = [=](const Tensors& in, const Tensors& params) -> Tensors {
    rat::Uses freqs(params.at(0), 2);
    Tensors rotated;
    for (int64_t i = 0; i < 2; ++i) {
      const rat::RoseSegment segment{0, i == 0 ? q_grid : k_grid, i, Ones(rose.axes)};
      const at::Tensor y = rat::Rotate(in[static_cast<size_t>(i)], rose, {segment}, spacing,
                                       {freqs.Next(), {}}, at::Tensor());
      rotated.push_back(y.view({y.size(0), y.size(1), rose.heads, rose.head_width}));
    }
    return {at::matmul(rotated[0].transpose(1, 2), rotated[1].permute({0, 2, 3, 1}))};
  };
  return RunFunction(c, f);
}

absl::StatusOr<GoldenOutputs> MrBlock(const GoldenCase& c) {
  GoldenArgs args(c.args);
  const Json ctor_json = args.Get("ctor", Json::object());
  const auto grids_json = args.Get("grids", std::vector<Grid>{});
  const Json spacings = args.Get("spacings", Json());
  const bool leading = args.Get("leading", int64_t{0}) > 0;
  RETURN_IF_ERROR(args.AllWereRead());
  GoldenArgs ctor(ctor_json);
  rat::MultiResolutionConfig config;
  ASSIGN_OR_RETURN(config.rose, ReadRose(ctor));
  config.width = config.rose.heads * config.rose.head_width;
  config.mlp = static_cast<int64_t>(static_cast<double>(config.width) * ctor.Get("mlp_ratio", 4.0));
  config.qkv_bias = ctor.Get("qkv_bias", true);
  RETURN_IF_ERROR(ctor.AllWereRead());
  std::vector<rat::TokenGrid> grids;
  GoldenFunction f;
  if (leading) f.inputs = {"leading"}, f.outputs = {"y_leading"};
  for (size_t i = 0; i < grids_json.size(); ++i) {
    grids.push_back({grids_json[i], static_cast<int64_t>(i), Ones(config.rose.axes)});
    f.inputs.push_back(absl::StrCat("x", i));
    f.outputs.push_back(absl::StrCat("y_x", i));
  }
  const at::Tensor spacing =
      SpacingTensor(spacings, static_cast<int64_t>(grids.size()), config.rose.axes);
  rat::AddMultiResolutionParams(f.params, "", config);
  f.forward = [=](const Tensors& in, const Tensors& params) -> Tensors {
    rat::ParamReader reader(params);
    const auto p = rat::ReadMultiResolutionParams(reader, config);
    return rat::MultiResolution(in, grids, spacing, config, p, {});
  };
  return RunFunction(c, f);
}

REGISTER_GOLDEN_KIND(rose, Rose);
REGISTER_GOLDEN_KIND(rose_freqs, RoseTables);
REGISTER_GOLDEN_KIND(rose_cross, RoseCross);
REGISTER_GOLDEN_KIND(mr_block, MrBlock);

}  // namespace
}  // namespace millrace
