// A model as a list of stages, and the registry in which models are found by name.
//
// A stage is a pure function: (inputs, parameters) -> outputs. It owns nothing. The schedule decides where
// parameters, activations and gradients lie and when they exist, so there are no modules here that would
// hold them. Stages with the same `class_key` are the same function with other parameter names: probing
// looks at one of them.
//
//   absl::StatusOr<ModelDef> vit = BuildModel("vit_tiny", {{"num_labels", int64_t{10}}}, {.micro_batch = 8});
//
// A new model is one .cc file:
//
//   absl::StatusOr<ModelDef> BuildMlp(const Attrs& args, const ModelRequest& request) { ... }
//   REGISTER_MODEL("mlp", "A perceptron.", {{"hidden_size", int64_t{64}, "width of the layers"}}, BuildMlp);
//
// The builder gets every declared argument, defaults filled in, types checked.
#ifndef MILLRACE_MODELS_MODEL_H_
#define MILLRACE_MODELS_MODEL_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "graph/ir/model_spec.h"

namespace millrace {

// The same types as in graph/ir/graph.h, which models do not include.
using AttrValue = std::variant<int64_t, double, std::string, bool>;
using Attrs = std::map<std::string, AttrValue>;

using Tensors = std::vector<at::Tensor>;

// What a model is trained for: decides what its data must give and how it is evaluated.
enum class Task { kClassification, kSegmentation, kDetection };
const char* TaskName(Task task);  // "classification", ...

struct StageDef {
  std::string name;       // "embeddings", "layers.3", "head"
  std::string class_key;  // stages of equal key differ in parameter names only
  std::vector<ParamSpec> params;
  // Outputs of earlier stages, which backward gives gradients of. Each output has one reader at most, so that no
  // gradients need to be summed.
  std::vector<TensorSpec> inputs;
  std::vector<StageSource> sources;  // one per input; empty: the outputs of the stage before
  // Indices into ModelDef::batch: these tensors follow `inputs` in the first argument of `forward`. They have no
  // gradients.
  std::vector<int> batch;
  std::vector<TensorSpec> outputs;  // of the last stage: "loss" (no dimensions), then what
                                    // evaluation reads
  std::function<Tensors(const Tensors& inputs, const Tensors& params)>
      forward;  // may throw c10::Error
};

// The batch's tensors are known by name to those who fill them:
//   images    [B, C, H, W] f32, further scales images.1, images.2, ...
//   labels    [B] i64, classes
//   masks     [B, H, W] u8, 0 is the background, one per scale like the images
//   boxes     [B, M, 4] f32, centre, width and height as shares of the image, and classes [B, M] i64, -1: no object
//   spacing   [B, scales, 2] f32, height and width of a pixel
//   keys      [B] i64, a random number of each sample and epoch, 0: nothing random, as in evaluation
struct ModelDef {
  std::string name;
  Task task = Task::kClassification;
  std::vector<TensorSpec> batch;
  std::vector<StageDef> stages;
  std::string host_only;            // why it runs on the CPU alone; empty: it runs on CUDA, too
  int64_t parameter_count() const;  // without running statistics
};

// What a model is built for.
struct ModelRequest {
  int64_t micro_batch = 1;
  bool evaluate = false;  // batch norm by running statistics
};

struct ModelArg {
  std::string name;
  AttrValue default_value;  // its alternative is the argument's type
  std::string doc;
};

using ModelBuilder =
    std::function<absl::StatusOr<ModelDef>(const Attrs& args, const ModelRequest& request)>;

struct ModelEntry {
  std::string name;
  std::string doc;
  std::vector<ModelArg> args;
  ModelBuilder build;
};

// Filled by static initialisers, read-only afterwards: safe from many threads once main runs.
class ModelRegistry {
 public:
  static ModelRegistry& Global();
  bool Register(std::string name, std::string doc, std::vector<ModelArg> args, ModelBuilder build);
  const ModelEntry* Find(absl::string_view name) const;  // nullptr when unknown
  std::vector<std::string> Names() const;                // sorted

 private:
  std::map<std::string, ModelEntry, std::less<>> entries_;
};

// Fills in defaults, checks names and types of `args` (an integer is taken where a number with a fraction
// is asked for) and builds. All mistakes are reported at once, with the nearest known name.
absl::StatusOr<ModelDef> BuildModel(absl::string_view name, const Attrs& args,
                                    const ModelRequest& request);

// Makes a model of f32 one whose parameters and boundary tensors between stages have another element type; the batch,
// the loss and the logits stay as they are. Its stages must be functions of any such type, as those made of models/layers.h.
void SetDType(DType dtype, ModelDef* model);

#define REGISTER_MODEL(name, doc, ...) REGISTER_MODEL_IMPL_(__COUNTER__, name, doc, __VA_ARGS__)
#define REGISTER_MODEL_IMPL_(counter, name, doc, ...) \
  REGISTER_MODEL_IMPL2_(counter, name, doc, __VA_ARGS__)
#define REGISTER_MODEL_IMPL2_(counter, name, doc, ...)            \
  [[maybe_unused]] static const bool model_registered_##counter = \
      ::millrace::ModelRegistry::Global().Register(name, doc, __VA_ARGS__)

}  // namespace millrace

#endif  // MILLRACE_MODELS_MODEL_H_
