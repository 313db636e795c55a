// Kinds vit and vit_formula: the vision transformer against the public package, logits, last hidden state,
// cross-entropy and every gradient. The two differ in where parameters come from and in how much of the
// gradients is stored, which golden_stages.h settles.
#include <ATen/ops/zeros.h>

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "graph/base/status.h"
#include "models/model.h"
#include "tests/golden_case.h"
#include "tests/golden_stages.h"

namespace millrace {
namespace {

absl::StatusOr<ModelDef> BuildGoldenVit(const GoldenCase& c) {
  GoldenArgs cfg(c.args.at("cfg"));
  Attrs attrs;
  const std::pair<const char*, const char*> integers[] = {
      {"image_size", "image_size"},     {"num_channels", "channels"},
      {"patch_size", "patch_size"},     {"hidden_size", "hidden_size"},
      {"num_hidden_layers", "layers"},  {"num_attention_heads", "heads"},
      {"intermediate_size", "mlp_dim"}, {"num_labels", "num_labels"},
  };
  for (const auto& [theirs, ours] : integers) {
    if (cfg.Has(theirs)) attrs[ours] = cfg.Get<int64_t>(theirs, 0);
  }
  // The package's defaults, also where the model's own are the same.
  attrs["qkv_bias"] = cfg.Get("qkv_bias", true);
  attrs["layer_norm_eps"] = cfg.Get("layer_norm_eps", 1e-12);
  RETURN_IF_ERROR(cfg.AllWereRead());
  return BuildModel("vit", attrs, {.micro_batch = c.args.at("batch").get<int64_t>()});
}

// Gradients of the head's outputs (loss, logits): the probes, as loss = sum(probe.k * output.k).
absl::StatusOr<Tensors> Probes(const GoldenCase& c) {
  Tensors grads(2);
  for (const SafetensorsFile::Entry& e : c.inputs.entries()) {
    if (!absl::StartsWith(e.name, "probe.")) continue;
    if (e.name != "probe.ce_loss" && e.name != "probe.logits") {
      return absl::UnimplementedError(absl::StrCat("no gradient can be given for ", e.name));
    }
    ASSIGN_OR_RETURN(grads[e.name == "probe.ce_loss" ? 0 : 1], GoldenTensor(c, e.name));
  }
  return grads;
}

absl::StatusOr<GoldenOutputs> Vit(const GoldenCase& c) {
  GoldenArgs args(c.args);
  const bool labels = args.Get("labels", false);
  args.Get("cfg", nlohmann::json());
  args.Get("batch", int64_t{0});
  RETURN_IF_ERROR(args.AllWereRead());

  ASSIGN_OR_RETURN(const ModelDef model, BuildGoldenVit(c));
  ASSIGN_OR_RETURN(const std::vector<Tensors> params, GoldenParams(c, model));
  GoldenRunArgs run_args;
  ASSIGN_OR_RETURN(at::Tensor images, GoldenTensor(c, "input.image"));
  at::Tensor classes =
      at::zeros(model.batch[1].shape, at::kLong);  // the head computes a loss anyway
  if (labels) {
    ASSIGN_OR_RETURN(classes, GoldenTensor(c, "input.labels"));
  }
  run_args.batch = {std::move(images), std::move(classes)};
  ASSIGN_OR_RETURN(run_args.grad_outputs, Probes(c));
  run_args.batch_grads = c.Asks("grad_input.image");
  ASSIGN_OR_RETURN(const GoldenRun run, RunStages(model, params, run_args));

  GoldenOutputs outputs;
  if (labels) PutTensor(outputs, "output.ce_loss", run.outputs.back().at(0));
  PutTensor(outputs, "output.logits", run.outputs.back().at(1));
  PutTensor(outputs, "output.hidden_last", run.outputs.at(run.outputs.size() - 2).at(0));
  if (run_args.batch_grads) PutTensor(outputs, "grad_input.image", run.batch_grads[0]);
  RETURN_IF_ERROR(PutParamGradients(c, model, run, outputs));
  return outputs;
}

REGISTER_GOLDEN_KIND(vit, Vit);
REGISTER_GOLDEN_KIND(vit_formula, Vit);

}  // namespace
}  // namespace millrace
