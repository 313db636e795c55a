#include "pipelines/runner/checkpoint.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "data/atomic_file.h"
#include "data/file.h"
#include "data/safetensors/safetensors.h"
#include "dist/kernels.h"
#include "graph/base/findings.h"
#include "graph/base/status.h"

namespace millrace {
namespace {

constexpr char kPrefix[] = "step-";
constexpr int kFormat = 1;

bool Exists(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

// Complete step folders, oldest first.
std::vector<std::string> StepFolders(const std::string& folder) {
  std::vector<std::string> names;
  if (DIR* dir = opendir(folder.c_str())) {
    while (const dirent* entry = readdir(dir)) {
      const std::string name = entry->d_name;
      if (absl::StartsWith(name, kPrefix) && !absl::StrContains(name, ".")) names.push_back(name);
    }
    closedir(dir);
  }
  std::sort(names.begin(), names.end());
  return names;
}

void RemoveFolder(const std::string& folder) {
  if (DIR* dir = opendir(folder.c_str())) {
    while (const dirent* entry = readdir(dir)) {
      const std::string name = entry->d_name;
      if (name != "." && name != "..") unlink((folder + "/" + name).c_str());
    }
    closedir(dir);
    rmdir(folder.c_str());
  }
}

// Read one by one while they are written: a copy of all would take the model's memory a second time. `state` and `from`
// outlive the result.
std::vector<NamedTensor> TensorsOf(const ModelState& state,
                                   const std::vector<ModelState::Tensor>& from) {
  std::vector<NamedTensor> tensors;
  for (const ModelState::Tensor& t : from) {
    tensors.push_back({.name = t.name, .dtype = t.dtype, .shape = t.shape});
    tensors.back().read = [&state, &t](void* out) { return state.Read(t, out); };
  }
  return tensors;
}

bool Floats(DType t) { return t == DType::kF32 || t == DType::kBF16 || t == DType::kF16; }

// `any_float`: another floating-point type will be converted.
void CheckTensor(const SafetensorsFile& file, const ModelState::Tensor& t, bool any_float,
                 Findings* findings) {
  const SafetensorsFile::Entry* entry = file.Find(t.name);
  if (entry == nullptr) {
    std::vector<std::string> names;
    for (const auto& e : file.entries()) names.push_back(e.name);
    const std::string near = Nearest(t.name, names);
    findings->Add({.check = "checkpoint",
                   .message = absl::StrCat("tensor '", t.name, "' is missing"),
                   .suggestion = near.empty() ? "" : absl::StrCat("the file has '", near, "'"),
                   .file = file.path()});
  } else if (entry->shape != t.shape ||
             (entry->dtype != t.dtype && !(any_float && Floats(entry->dtype)))) {
    findings->Add(
        {.check = "checkpoint",
         .message = absl::StrCat("tensor '", t.name, "' is ", Name(entry->dtype), " [",
                                 absl::StrJoin(entry->shape, ", "), "], the model has ",
                                 Name(t.dtype), " [", absl::StrJoin(t.shape, ", "), "]"),
         .suggestion = entry->shape == t.shape
                           ? "a run goes on in the precision it began with; load only the weights "
                             "with checkpoint.init_from"
                           : "",
         .file = file.path()});
  }
}

absl::Status WriteAll(const SafetensorsFile& file, const ModelState& state,
                      const std::vector<ModelState::Tensor>& tensors) {
  for (const ModelState::Tensor& t : tensors) {
    const SafetensorsFile::Entry& entry = *file.Find(t.name);
    RETURN_IF_ERROR(state.Write(t, entry.data));
    file.Release(entry);
  }
  return state.Close();
}

absl::StatusOr<RunPosition> ReadPosition(const std::string& path, std::string* sha256) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || json.value("format", 0) != kFormat) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": expected the state of a checkpoint of format ", kFormat));
  }
  const auto integer = [&](const char* key) {
    return json.contains(key) && json[key].is_number_integer() ? json[key].get<int64_t>()
                                                               : int64_t{-1};
  };
  const auto text_of = [&](const char* key) {
    return json.contains(key) && json[key].is_string() ? json[key].get<std::string>()
                                                       : std::string();
  };
  RunPosition p;
  p.step = integer("step");
  p.epoch = integer("epoch");
  p.batch = integer("batch");
  p.seed = integer("seed");
  p.global_batch = integer("global_batch");
  p.pipeline = text_of("pipeline");
  p.optimizer = text_of("optimizer");
  *sha256 = text_of("weights_sha256");
  if (p.step < 0 || p.epoch < 0 || p.batch < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": step, epoch and batch must be numbers >= 0"));
  }
  return p;
}

}  // namespace

absl::StatusOr<std::string> SaveCheckpoint(const std::string& folder, const ModelState& state,
                                           const RunPosition& position, int keep) {
  RETURN_IF_ERROR(MakeDirectories(folder));
  const std::string final_path =
      absl::StrCat(folder, "/", kPrefix, absl::StrFormat("%08d", position.step));
  const std::string temporary = absl::StrCat(final_path, ".tmp.", getpid());
  RemoveFolder(temporary);
  RETURN_IF_ERROR(MakeDirectories(temporary));
  const auto write = [&]() -> absl::Status {
    ASSIGN_OR_RETURN(const std::string sha256, state.WeightsSha256());
    RETURN_IF_ERROR(WriteSafetensors(temporary + "/model.safetensors",
                                     TensorsOf(state, state.params()), {{"format", "pt"}}));
    RETURN_IF_ERROR(WriteSafetensors(temporary + "/optimizer.safetensors",
                                     TensorsOf(state, state.states()), {}));
    RETURN_IF_ERROR(state.Close());
    const nlohmann::ordered_json json = {{"format", kFormat},
                                         {"step", position.step},
                                         {"epoch", position.epoch},
                                         {"batch", position.batch},
                                         {"seed", position.seed},
                                         {"global_batch", position.global_batch},
                                         {"pipeline", position.pipeline},
                                         {"optimizer", position.optimizer},
                                         {"weights_sha256", sha256}};
    return WriteFileAtomically(temporary + "/state.json", json.dump(2) + "\n");
  };
  absl::Status status = write();
  if (status.ok()) {
    RemoveFolder(final_path);  // the same step saved again
    if (std::rename(temporary.c_str(), final_path.c_str()) != 0) {
      status =
          absl::UnknownError(absl::StrCat(final_path, ": cannot rename: ", std::strerror(errno)));
    }
  }
  if (!status.ok()) {
    RemoveFolder(temporary);
    return Annotate(status, "saving the checkpoint of step ", position.step);
  }
  RETURN_IF_ERROR(SyncFolder(folder));
  const std::vector<std::string> steps = StepFolders(folder);
  for (int i = 0; i + keep < static_cast<int>(steps.size()); ++i)
    RemoveFolder(folder + "/" + steps[i]);
  return final_path;
}

absl::StatusOr<std::string> NewestCheckpoint(const std::string& folder) {
  const std::vector<std::string> steps = StepFolders(folder);
  if (steps.empty()) {
    return absl::NotFoundError(
        absl::StrCat(folder, ": holds no checkpoint (folders named ", kPrefix, "00000020)"));
  }
  return folder + "/" + steps.back();
}

absl::StatusOr<RunPosition> LoadCheckpoint(const std::string& path,
                                           const std::string& optimizer_kind,
                                           const ModelState& state) {
  std::string folder = path;
  if (!Exists(folder + "/state.json")) {
    ASSIGN_OR_RETURN(folder, NewestCheckpoint(path));
  }
  std::string sha256;
  ASSIGN_OR_RETURN(const RunPosition position, ReadPosition(folder + "/state.json", &sha256));
  if (position.optimizer != optimizer_kind) {
    return absl::InvalidArgumentError(
        absl::StrCat(folder, "/state.json: was trained with ", position.optimizer,
                     ", the pipeline has optimizer.kind: ", optimizer_kind,
                     "; help: load only the weights with checkpoint.init_from"));
  }
  ASSIGN_OR_RETURN(const SafetensorsFile model,
                   SafetensorsFile::Open(folder + "/model.safetensors"));
  ASSIGN_OR_RETURN(const SafetensorsFile optimizer,
                   SafetensorsFile::Open(folder + "/optimizer.safetensors"));
  Findings findings;
  for (const ModelState::Tensor& t : state.params()) CheckTensor(model, t, false, &findings);
  for (const ModelState::Tensor& t : state.states()) CheckTensor(optimizer, t, false, &findings);
  if (model.entries().size() > state.params().size() && findings.ok()) {
    findings.Add({.check = "checkpoint",
                  .message = absl::StrCat("holds ", model.entries().size(),
                                          " tensors, the model has ", state.params().size()),
                  .file = model.path()});
  }
  RETURN_IF_ERROR(findings.ToStatus());
  RETURN_IF_ERROR(WriteAll(model, state, state.params()));
  RETURN_IF_ERROR(WriteAll(optimizer, state, state.states()));
  ASSIGN_OR_RETURN(const std::string is, state.WeightsSha256());
  if (!sha256.empty() && is != sha256) {
    return absl::DataLossError(
        absl::StrCat(model.path(), ": the weights do not have the fingerprint in state.json (",
                     sha256, "): the file was changed or damaged"));
  }
  return position;
}

void CheckParameters(const std::string& path, const std::vector<ModelState::Tensor>& params,
                     Findings* findings) {
  const absl::StatusOr<SafetensorsFile> file = SafetensorsFile::Open(path);
  if (!file.ok()) {
    findings->Add({.check = "checkpoint", .message = std::string(file.status().message())});
    return;
  }
  for (const ModelState::Tensor& t : params) CheckTensor(*file, t, /*any_float=*/true, findings);
}

absl::Status LoadWeights(const std::string& path, const ModelState& state) {
  ASSIGN_OR_RETURN(const SafetensorsFile file, SafetensorsFile::Open(path));
  Findings findings;
  for (const ModelState::Tensor& t : state.params()) CheckTensor(file, t, true, &findings);
  RETURN_IF_ERROR(findings.ToStatus());
  std::vector<float> wide;
  for (const ModelState::Tensor& t : state.params()) {
    const SafetensorsFile::Entry* entry = file.Find(t.name);
    wide.resize(t.numel);
    if (entry->dtype == DType::kF32) {
      std::memcpy(wide.data(), entry->data, t.numel * sizeof(float));
    } else {
      Widen(entry->dtype, reinterpret_cast<const uint16_t*>(entry->data), wide.data(), t.numel);
    }
    RETURN_IF_ERROR(state.WriteParameter(t, wide.data()));
    file.Release(*entry);
  }
  return state.Close();
}

}  // namespace millrace
