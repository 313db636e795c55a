#include "models/cuda/torch_cuda.h"

#include <dlfcn.h>
#include <link.h>
#include <unistd.h>

#include <climits>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace millrace {
namespace {

constexpr const char* kTorch = "libtorch_cuda.so";
constexpr const char* kShim = "libmillrace_torch_cuda.so";

std::string FolderOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

// The path of a library that this process has loaded, "" when it has not.
std::string LoadedPath(const char* name) {
  struct Search {
    const char* name;
    std::string path;
  } search{name, ""};
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* data) {
        auto* s = static_cast<Search*>(data);
        const char* slash = std::strrchr(info->dlpi_name, '/');
        if (std::strcmp(slash == nullptr ? info->dlpi_name : slash + 1, s->name) != 0) return 0;
        s->path = info->dlpi_name;
        return 1;
      },
      &search);
  char real[PATH_MAX];  // libraries are often links into one folder that has all of them
  return realpath(search.path.c_str(), real) == nullptr ? search.path : real;
}

std::string Program() {
  char path[PATH_MAX];
  const ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
  return n <= 0 ? "" : std::string(path, static_cast<size_t>(n));
}

void AddFromEnvironment(const char* variable, const char* name, std::vector<std::string>* to) {
  const char* folder = std::getenv(variable);
  if (folder != nullptr && *folder != '\0') to->push_back(absl::StrCat(folder, "/", name));
}

absl::StatusOr<void*> Load(const char* name, const std::vector<std::string>& candidates, int flags,
                           const char* suggestion) {
  std::string tried;
  for (const std::string& path : candidates) {
    if (void* library = dlopen(path.c_str(), flags)) return library;
    const char* error = dlerror();
    absl::StrAppend(&tried, "\n  ", path, ": ", error == nullptr ? "unknown error" : error);
  }
  return absl::NotFoundError(absl::StrCat(
      "cannot load ", name, ", which a device of kind CUDA needs; tried", tried, "\n", suggestion));
}

}  // namespace

std::vector<std::string> TorchCudaCandidates() {
  std::vector<std::string> paths;
  AddFromEnvironment("MILLRACE_TORCH_LIB", kTorch, &paths);
  const std::string cpu = LoadedPath("libtorch_cpu.so");
  if (!cpu.empty()) paths.push_back(absl::StrCat(FolderOf(cpu), "/", kTorch));
  paths.push_back(kTorch);
  return paths;
}

std::vector<std::string> ShimCandidates() {
  std::vector<std::string> paths;
  AddFromEnvironment("MILLRACE_LIB", kShim, &paths);
  const std::string program = Program();
  if (!program.empty()) {
    paths.push_back(absl::StrCat(FolderOf(program), "/", kShim));
    paths.push_back(absl::StrCat(program, ".runfiles/millrace/models/cuda/", kShim));
  }
  return paths;
}

absl::StatusOr<const TorchCudaShim*> LoadTorchCuda() {
  static std::mutex mutex;
  static const TorchCudaShim* loaded = nullptr;
  const std::lock_guard<std::mutex> lock(mutex);
  if (loaded != nullptr) return loaded;
  // Global: the shim finds LibTorch's symbols, and so do libraries that LibTorch loads itself.
  absl::StatusOr<void*> torch =
      Load(kTorch, TorchCudaCandidates(), RTLD_NOW | RTLD_GLOBAL,
           "set MILLRACE_TORCH_LIB to the lib folder of an installed torch 2.11 with CUDA, where "
           "cuBLAS, cuDNN and NCCL are found, too");
  if (!torch.ok()) return torch.status();
  absl::StatusOr<void*> shim =
      Load(kShim, ShimCandidates(), RTLD_NOW | RTLD_LOCAL,
           "it is built by `./bazelw build --config=cuda //models/cuda:libmillrace_torch_cuda.so`; "
           "set MILLRACE_LIB to the folder that has it");
  if (!shim.ok()) return shim.status();
  const auto function =
      reinterpret_cast<TorchCudaShimFunction>(dlsym(*shim, MILLRACE_TORCH_CUDA_SHIM_SYMBOL));
  const TorchCudaShim* table = function == nullptr ? nullptr : function();
  if (table == nullptr || table->version != MILLRACE_TORCH_CUDA_SHIM_VERSION) {
    return absl::FailedPreconditionError(absl::StrCat(
        kShim, " is of another version than this program (", table == nullptr ? 0 : table->version,
        ", expected ", MILLRACE_TORCH_CUDA_SHIM_VERSION, "); build both from one source"));
  }
  loaded = table;
  return loaded;
}

absl::Status ShimStatus(const char* error, const char* what) {
  if (error == nullptr) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(what, ": ", error));
}

}  // namespace millrace
