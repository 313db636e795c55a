#include "pipelines/runner/weights_evaluation.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "graph/base/status.h"
#include "models/allocator.h"
#include "models/model.h"
#include "pipelines/runner/batches.h"
#include "pipelines/runner/checkpoint.h"
#include "pipelines/runner/evaluator.h"
#include "pipelines/runner/model_state.h"
#include "pipelines/runner/ranks.h"

namespace millrace {
namespace {

constexpr char kSizes[] = "image_sizes", kSize[] = "image_size";

bool Exists(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

Arg* ArgOf(Model* model, const std::string& name) {
  for (Arg& arg : *model->mutable_arg()) {
    if (arg.name() == name) return &arg;
  }
  Arg* arg = model->add_arg();
  arg->set_name(name);
  return arg;
}

// "256,128" with the first becoming `size`; of "512x640" (height x width) the height, and the width by its ratio.
absl::StatusOr<std::string> Scaled(const std::string& sizes, int64_t size) {
  std::vector<std::string> scaled;
  double ratio = 0;
  for (const absl::string_view scale : absl::StrSplit(sizes, ',')) {
    std::vector<int64_t> axes;
    for (const absl::string_view text : absl::StrSplit(scale, 'x')) {
      int64_t value = 0;
      if (!absl::SimpleAtoi(text, &value) || value < 1) {
        return absl::InvalidArgumentError(
            absl::StrCat("the model's image size \"", sizes, "\" is not a list of sizes"));
      }
      if (ratio == 0) ratio = static_cast<double>(size) / static_cast<double>(value);
      axes.push_back(std::max<int64_t>(1, std::llround(ratio * static_cast<double>(value))));
    }
    scaled.push_back(absl::StrJoin(axes, "x"));
  }
  return absl::StrJoin(scaled, ",");
}

}  // namespace

absl::Status SetImageSize(int64_t size, LoadedPipeline* pipeline) {
  Pipeline& p = pipeline->proto;
  const ModelEntry* entry = ModelRegistry::Global().Find(p.model().name());
  if (entry == nullptr) return absl::OkStatus();  // said when it is compiled
  const auto declared = std::find_if(entry->args.begin(), entry->args.end(), [](const ModelArg& a) {
    return a.name == kSizes || a.name == kSize;
  });
  if (declared == entry->args.end()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "model '", p.model().name(), "' has neither an argument ", kSizes, " nor ", kSize));
  }
  Arg* arg = ArgOf(p.mutable_model(), declared->name);
  if (const auto* own = std::get_if<std::string>(&declared->default_value)) {
    ASSIGN_OR_RETURN(const std::string scaled,
                     Scaled(arg->value_case() == Arg::kS ? arg->s() : *own, size));
    arg->set_s(scaled);
  } else {
    arg->set_i(size);
  }
  if (p.data().format() == Data::IDX || p.data().format() == Data::CIFAR100) {
    p.mutable_data()->mutable_augment()->set_resize(static_cast<int>(size));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> FindWeights(const std::string& path) {
  constexpr char kFile[] = "/model.safetensors";
  struct stat info;
  if (stat(path.c_str(), &info) != 0) {
    return absl::NotFoundError(absl::StrCat(
        path, ": no such file or folder; expected a safetensors file or the folder of a run"));
  }
  if (!S_ISDIR(info.st_mode)) return path;
  if (Exists(path + kFile)) return path + kFile;
  const std::string steps = path + "/checkpoints";
  ASSIGN_OR_RETURN(const std::string step, NewestCheckpoint(Exists(steps) ? steps : path));
  return step + kFile;
}

void CheckWeights(const std::string& file, const ModelSpec& spec, Findings* findings) {
  std::vector<ModelState::Tensor> params;
  for (const StageSpec& stage : spec.stages) {
    for (const ParamSpec& p : stage.params) {
      ModelState::Tensor t;
      t.name = p.name;
      t.dtype = p.dtype;
      t.shape = p.shape;
      params.push_back(std::move(t));
    }
  }
  CheckParameters(file, params, findings);
}

absl::StatusOr<WeightsEvaluation> EvaluateWeights(const CompiledPipeline& c,
                                                  const std::string& file,
                                                  const std::vector<std::string>& data_folders) {
  const Pipeline& p = c.loaded.proto;
  const Plan& plan = *c.eval_plan;
  RanksOptions o;
  RETURN_IF_ERROR(CheckOnDevices(c));
  o.back_end = c.back_end;
  InstallAllocators();
  ASSIGN_OR_RETURN(const OpenedData data, OpenData(c.loaded, c.image_needs, data_folders));
  if (data.evaluate == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(
        c.loaded.file,
        ": names no evaluation data; help: data.eval_images, data.eval_split or data.eval_first"));
  }
  ASSIGN_OR_RETURN(const auto batches, EvalBatches::Create(data, c.eval_batch, plan.world_size));
  o.plan = &plan;
  o.reference = p.runtime().executor() == Runtime::REFERENCE;
  o.threads_per_rank = p.runtime().threads_per_rank();
  o.stuck_seconds = p.runtime().stuck_seconds();
  o.batches = batches.get();
  o.model = &c.eval_model;
  o.spec = &c.eval_spec;
  WeightsEvaluation result;
  ASSIGN_OR_RETURN(o.arenas, AllocateArenas({&plan}, o.back_end.get()));
  for (const auto& arenas : o.arenas) {
    result.device_bytes = std::max(result.device_bytes, arenas->bytes(Tier::kDevice));
  }
  if (!o.reference) {
    ASSIGN_OR_RETURN(o.threads,
                     MakeComputeThreads(plan.world_size, p.runtime().threads_per_rank()));
    o.lanes = LaneWorkers::Create({&plan}, /*devices=*/o.back_end != nullptr);
  }
  ASSIGN_OR_RETURN(const auto ranks, Ranks::Create(o));
  RETURN_IF_ERROR(LoadWeights(file, ModelState::OfModel(plan, c.eval_spec, ranks->all_buffers())));
  const auto begin = std::chrono::steady_clock::now();
  ASSIGN_OR_RETURN(result.metrics,
                   EvaluateOnce(*ranks, plan, c.eval_model, c.eval_spec, batches.get()));
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return result;
}

}  // namespace millrace
