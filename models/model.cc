#include "models/model.h"

#include <exception>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "graph/base/findings.h"
#include "graph/base/status.h"

namespace millrace {
namespace {

const char* TypeName(const AttrValue& v) {
  static constexpr const char* kNames[] = {"an integer", "a number", "a string", "true or false"};
  return kNames[v.index()];
}

std::string Help(const std::string& nearest, const std::vector<std::string>& known) {
  if (!nearest.empty()) return absl::StrCat("did you mean '", nearest, "'?");
  return absl::StrCat("known: ", absl::StrJoin(known, ", "));
}

// A stage that names no sources reads the outputs of the one before.
void FillSources(ModelDef* model) {
  for (size_t s = 0; s < model->stages.size(); ++s) {
    StageDef& stage = model->stages[s];
    for (size_t i = stage.sources.size(); i < stage.inputs.size(); ++i) {
      stage.sources.push_back({static_cast<int>(s) - 1, static_cast<int>(i)});
    }
  }
}

}  // namespace

const char* TaskName(Task task) {
  static constexpr const char* kNames[] = {"classification", "segmentation", "detection"};
  return kNames[static_cast<int>(task)];
}

int64_t ModelDef::parameter_count() const {
  int64_t n = 0;
  for (const StageDef& s : stages) {
    for (const ParamSpec& p : s.params) n += p.statistic ? 0 : p.numel();
  }
  return n;
}

ModelRegistry& ModelRegistry::Global() {
  static ModelRegistry* registry = new ModelRegistry;
  return *registry;
}

bool ModelRegistry::Register(std::string name, std::string doc, std::vector<ModelArg> args,
                             ModelBuilder build) {
  ModelEntry entry{name, std::move(doc), std::move(args), std::move(build)};
  return entries_.emplace(std::move(name), std::move(entry)).second;
}

const ModelEntry* ModelRegistry::Find(absl::string_view name) const {
  const auto it = entries_.find(std::string(name));
  return it == entries_.end() ? nullptr : &it->second;
}

std::vector<std::string> ModelRegistry::Names() const {
  std::vector<std::string> names;
  for (const auto& [name, entry] : entries_) names.push_back(name);
  return names;
}

void SetDType(DType dtype, ModelDef* model) {
  const auto set = [dtype](std::vector<TensorSpec>* tensors) {
    for (TensorSpec& t : *tensors) {
      if (t.dtype == DType::kF32) t.dtype = dtype;
    }
  };
  for (size_t i = 0; i < model->stages.size(); ++i) {
    StageDef& stage = model->stages[i];
    for (ParamSpec& p : stage.params) p.dtype = dtype;
    set(&stage.inputs);
    if (i + 1 < model->stages.size()) set(&stage.outputs);
  }
}

absl::StatusOr<ModelDef> BuildModel(absl::string_view name, const Attrs& args,
                                    const ModelRequest& request) {
  const ModelRegistry& registry = ModelRegistry::Global();
  const ModelEntry* entry = registry.Find(name);
  Findings findings;
  if (entry == nullptr) {
    findings.Add({.check = "model",
                  .message = absl::StrCat("unknown model '", name, "'"),
                  .suggestion = Help(Nearest(name, registry.Names()), registry.Names())});
    return findings.ToStatus();
  }
  if (request.micro_batch < 1) {
    findings.Add(
        {.check = "model",
         .message = absl::StrCat("micro_batch is ", request.micro_batch, ", expected at least 1")});
  }
  Attrs filled;
  std::vector<std::string> known;
  for (const ModelArg& arg : entry->args) {
    filled[arg.name] = arg.default_value;
    known.push_back(arg.name);
  }
  for (const auto& [key, value] : args) {
    const auto it = filled.find(key);
    if (it == filled.end()) {
      findings.Add({.check = "model_arg",
                    .message = absl::StrCat("model '", name, "' has no argument '", key, "'"),
                    .suggestion = Help(Nearest(key, known), known)});
    } else if (it->second.index() == value.index()) {
      it->second = value;
    } else if (std::holds_alternative<double>(it->second) &&
               std::holds_alternative<int64_t>(value)) {
      it->second = static_cast<double>(std::get<int64_t>(value));
    } else {
      findings.Add({.check = "model_arg",
                    .message = absl::StrCat("argument '", key, "' of model '", name, "' is ",
                                            TypeName(value), ", expected ", TypeName(it->second))});
    }
  }
  if (!findings.ok()) return findings.ToStatus();
  try {
    ASSIGN_OR_RETURN(ModelDef model, entry->build(filled, request));
    FillSources(&model);
    return model;
  } catch (const std::exception& e) {
    return absl::InternalError(absl::StrCat("building model '", name, "': ", e.what()));
  }
}

}  // namespace millrace
