// Kind unet: the U-Net against a plain PyTorch one, in training and in evaluation: logits, every gradient, and
// running statistics after one step.
#include <ATen/ops/zeros.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "graph/base/status.h"
#include "models/model.h"
#include "tests/golden_case.h"
#include "tests/golden_stages.h"

namespace millrace {
namespace {

absl::StatusOr<GoldenOutputs> Unet(const GoldenCase& c) {
  GoldenArgs args(c.args);
  const auto size = args.Get("size", std::vector<int64_t>{32, 32});
  const Attrs attrs{{"image_size", size.at(0)},
                    {"image_width", size.at(1)},
                    {"width", args.Get("base", int64_t{64})},
                    {"num_classes", args.Get("classes", int64_t{1})}};
  const ModelRequest request{args.Get("batch", int64_t{1}), !args.Get("train", false)};
  args.Get("param_grads", std::string());  // the case's list of tensors says the same
  RETURN_IF_ERROR(args.AllWereRead());

  ASSIGN_OR_RETURN(const ModelDef model, BuildModel("unet", attrs, request));
  ASSIGN_OR_RETURN(const std::vector<Tensors> params, GoldenParams(c, model));
  GoldenRunArgs run_args;
  ASSIGN_OR_RETURN(at::Tensor images, GoldenTensor(c, "input.image"));
  ASSIGN_OR_RETURN(at::Tensor probe, GoldenTensor(c, "probe.logits"));
  // The head computes a loss anyway; nothing depends on it.
  run_args.batch = {std::move(images), at::zeros(model.batch[1].shape, at::kByte)};
  run_args.grad_outputs = {at::Tensor(), std::move(probe)};
  run_args.batch_grads = c.Asks("grad_input.image");
  ASSIGN_OR_RETURN(const GoldenRun run, RunStages(model, params, run_args));

  GoldenOutputs outputs;
  PutTensor(outputs, "output.logits", run.outputs.back().at(1));
  if (run_args.batch_grads) PutTensor(outputs, "grad_input.image", run.batch_grads[0]);
  RETURN_IF_ERROR(PutParamGradients(c, model, run, outputs));
  for (size_t i = 0; i < model.stages.size(); ++i) {
    for (size_t k = 0; k < params[i].size(); ++k) {
      const ParamSpec& p = model.stages[i].params[k];
      if (!p.statistic || !run.param_grads[i][k].defined()) continue;
      PutTensor(outputs, absl::StrCat("buffer_after.", p.name),
                params[i][k].sub(run.param_grads[i][k].mul(p.momentum)));
    }
  }
  return outputs;
}

REGISTER_GOLDEN_KIND(unet, Unet);

}  // namespace
}  // namespace millrace
