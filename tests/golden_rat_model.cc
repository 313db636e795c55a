// Kinds rat_seg, rat_det and rat_train: the registered model `rat` with its heads, and five steps of training.
#include <ATen/ops/zeros.h>

#include <map>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "graph/base/status.h"
#include "models/model_run.h"
#include "ops/exact_norm.h"
#include "ops/optimizer_kernels.h"
#include "tests/golden_case.h"
#include "tests/golden_function.h"
#include "tests/golden_rat_config.h"

namespace millrace {
namespace {

using Json = nlohmann::json;
using Grid = std::vector<int64_t>;

// The model of a case's arguments, and its batch as far as the case has it: images and spacing; targets are zeros.
struct Setup {
  ModelDef model;
  std::vector<Tensors> params;
  Tensors batch;
  size_t scales;
};

// "7" or "5x3".
std::string Text(const Grid& grid) { return absl::StrJoin(grid, "x"); }

absl::StatusOr<Setup> SetUp(const GoldenCase& c, GoldenArgs& args, Attrs attrs) {
  const Json ctor_json = args.Get("ctor", Json::object());
  const auto images = args.Get("images", std::vector<Grid>{});
  const Json spacings = args.Get("spacings", Json());
  const int64_t batch = args.Get("batch", int64_t{1});
  RETURN_IF_ERROR(args.AllWereRead());
  GoldenArgs ctor(ctor_json);
  ASSIGN_OR_RETURN(const rat::GroupingConfig g, ReadGrouping(ctor, "sga_kernel_size"));
  attrs["blocks"] = ctor.Get("num_blocks", int64_t{4});
  RETURN_IF_ERROR(ctor.AllWereRead());
  std::vector<std::string> sizes;
  for (const Grid& image : images) sizes.push_back(Text(image));
  const char* starts[] = {"none", "log", "rope"};
  attrs["image_size"] = absl::StrJoin(sizes, ",");
  attrs["dims"] = g.width;
  attrs["heads"] = g.heads;
  attrs["kernel"] = Text(g.kernel);
  attrs["stride"] = Text(g.stride);
  attrs["head_layout"] = std::string("reference");
  attrs["learnable_rose"] = g.rose.learnable;
  attrs["learnable_scale"] = g.rose.learnable_spacing;
  attrs["initial_scaling"] = std::string(starts[static_cast<int>(g.rose.start)]);
  attrs["rotary_ratio"] = g.rose.ratio;
  Setup s;
  s.scales = images.size();
  ASSIGN_OR_RETURN(s.model, BuildModel("rat", attrs, {.micro_batch = batch}));
  ASSIGN_OR_RETURN(s.params, GoldenParams(c, s.model));
  for (size_t i = 0; i < s.scales; ++i) {
    ASSIGN_OR_RETURN(at::Tensor image, GoldenTensor(c, absl::StrCat("input.image", i)));
    s.batch.push_back(std::move(image));
  }
  const int64_t scales = static_cast<int64_t>(s.scales);
  s.batch.push_back(SpacingTensor(spacings, scales, 2).expand({batch, scales, 2}).contiguous());
  for (size_t i = s.batch.size(); i < s.model.batch.size(); ++i) {
    const TensorSpec& spec = s.model.batch[i];
    const auto type = spec.dtype == DType::kU8    ? at::kByte
                      : spec.dtype == DType::kI64 ? at::kLong
                                                  : at::kFloat;
    s.batch.push_back(at::zeros(spec.shape, type));
  }
  return s;
}

// Runs the model with probes on the outputs after the loss.
absl::StatusOr<GoldenOutputs> RunProbed(const GoldenCase& c, const Setup& s,
                                        const std::vector<std::string>& names) {
  GoldenRunArgs args;
  args.batch = s.batch;
  args.batch_grads = true;
  ASSIGN_OR_RETURN(args.grad_outputs, Probes(c, names));
  args.grad_outputs.insert(args.grad_outputs.begin(), at::Tensor());
  ASSIGN_OR_RETURN(const GoldenRun run, RunStages(s.model, s.params, args));
  GoldenOutputs outputs;
  for (size_t i = 0; i < names.size(); ++i) {
    PutTensor(outputs, "output." + names[i], run.outputs.back().at(i + 1));
  }
  for (size_t i = 0; i < s.scales; ++i) {
    PutTensor(outputs, absl::StrCat("grad_input.image", i), run.batch_grads.at(i));
  }
  RETURN_IF_ERROR(PutParamGradients(c, s.model, run, outputs));
  return outputs;
}

absl::StatusOr<GoldenOutputs> RatSeg(const GoldenCase& c) {
  GoldenArgs args(c.args);
  const Attrs attrs{{"num_classes", args.Get("classes", int64_t{1})}};
  ASSIGN_OR_RETURN(const Setup s, SetUp(c, args, attrs));
  std::vector<std::string> names;
  for (size_t i = 0; i < s.scales; ++i) names.push_back(absl::StrCat("logits_", i));
  return RunProbed(c, s, names);
}

absl::StatusOr<GoldenOutputs> RatDet(const GoldenCase& c) {
  GoldenArgs args(c.args);
  const Attrs attrs{{"task", std::string("detection")},
                    {"num_classes", args.Get("classes", int64_t{1})},
                    {"queries", args.Get("queries", int64_t{1})}};
  ASSIGN_OR_RETURN(const Setup s, SetUp(c, args, attrs));
  return RunProbed(c, s, {"pred_logits", "pred_boxes"});
}

// AdamW on gradients clipped to a global norm; parameters without gradient stay as they are.
absl::StatusOr<GoldenOutputs> RatTrain(const GoldenCase& c) {
  GoldenArgs args(c.args);
  AdamScalars adam;
  adam.lr = args.Get("lr", 1e-3);
  adam.weight_decay = args.Get("weight_decay", 0.0);
  const double clip = args.Get("clip", 1.0);
  const int64_t steps = args.Get("steps", int64_t{1});
  ASSIGN_OR_RETURN(Setup s, SetUp(c, args, {}));
  for (size_t i = 0; i < s.scales; ++i) {
    ASSIGN_OR_RETURN(const at::Tensor mask, GoldenTensor(c, absl::StrCat("input.target", i)));
    s.batch[s.batch.size() - s.scales + i] = mask.squeeze(1).to(at::kByte);
  }
  std::vector<Tensors> first, second;
  for (const Tensors& stage : s.params) {
    first.emplace_back(), second.emplace_back();
    for (const at::Tensor& p : stage) {
      first.back().push_back(at::zeros(p.sizes(), at::kFloat));
      second.back().push_back(at::zeros(p.sizes(), at::kFloat));
    }
  }
  std::vector<float> losses, norms;
  for (adam.step = 1; adam.step <= steps; ++adam.step) {
    ASSIGN_OR_RETURN(ModelRun run, RunModel(s.model, s.params, s.batch, {.train = true}));
    losses.push_back(*run.outputs.back()[0].data_ptr<float>());
    ASSIGN_OR_RETURN(ModelGradients g, BackwardModel(s.model, std::move(run), {}));
    NormPartial total;
    for (Tensors& stage : g.params) {
      for (at::Tensor& grad : stage) {
        if (!grad.defined()) continue;
        grad = grad.contiguous();
        total.Add(PartialNorm(grad.data_ptr<float>(), grad.numel()));
      }
    }
    norms.push_back(static_cast<float>(total.Norm()));
    adam.grad_scale = ClipFactor(norms.back(), clip);
    for (size_t i = 0; i < g.params.size(); ++i) {
      for (size_t k = 0; k < g.params[i].size(); ++k) {
        if (!g.params[i][k].defined()) continue;
        AdamUpdate(s.params[i][k].data_ptr<float>(), g.params[i][k].data_ptr<float>(),
                   first[i][k].data_ptr<float>(), second[i][k].data_ptr<float>(),
                   s.params[i][k].numel(), adam);
      }
    }
  }
  GoldenOutputs outputs;
  outputs.Put("output.losses", {steps}, losses.data());
  outputs.Put("output.grad_norms", {steps}, norms.data());
  std::map<std::string, at::Tensor> after;
  for (size_t i = 0; i < s.params.size(); ++i) {
    for (size_t k = 0; k < s.params[i].size(); ++k) {
      const std::string& name = s.model.stages[i].params[k].name;
      after[name] = s.params[i][k];
      PutTensor(outputs, "output.param_after." + name, s.params[i][k]);
    }
  }
  std::vector<float> sizes;
  for (const Json& name : c.meta.at("param_order")) {
    const at::Tensor& p = after.at(name.get<std::string>());
    sizes.push_back(static_cast<float>(PartialNorm(p.data_ptr<float>(), p.numel()).Norm()));
  }
  outputs.Put("output.param_norms_after", {static_cast<int64_t>(sizes.size())}, sizes.data());
  return outputs;
}

REGISTER_GOLDEN_KIND(rat_seg, RatSeg);
REGISTER_GOLDEN_KIND(rat_det, RatDet);
REGISTER_GOLDEN_KIND(rat_train, RatTrain);

}  // namespace
}  // namespace millrace
