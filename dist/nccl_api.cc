// See nccl_api.h.
#include "dist/nccl_api.h"

#include <dlfcn.h>
#include <link.h>

#include <mutex>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "graph/base/status.h"

namespace millrace {
namespace {

constexpr char kLibrary[] = "libnccl.so.2";

// The folders of libraries in this process whose file begins with libtorch or libc10.
int AddTorchFolder(dl_phdr_info* info, size_t, void* folders) {
  const absl::string_view path = info->dlpi_name;
  const size_t slash = path.rfind('/');
  if (slash == path.npos) return 0;
  const absl::string_view file = path.substr(slash + 1);
  if (file.substr(0, 8) != "libtorch" && file.substr(0, 6) != "libc10") return 0;
  auto& list = *static_cast<std::vector<std::string>*>(folders);
  const std::string folder(path.substr(0, slash));
  if (list.empty() || list.back() != folder) list.push_back(folder);
  return 0;
}

std::string Reason() {
  const char* text = dlerror();
  return text == nullptr ? "no reason given" : text;
}

absl::StatusOr<NcclApi> Fill(void* library) {
  NcclApi api;
  std::vector<std::string> missing;
#define MILLRACE_NCCL_FIND(name, result, parameters)                               \
  api.name = reinterpret_cast<result(*) parameters>(dlsym(library, "nccl" #name)); \
  if (api.name == nullptr) missing.push_back("nccl" #name);
  MILLRACE_NCCL_FUNCTIONS(MILLRACE_NCCL_FIND)
#undef MILLRACE_NCCL_FIND
  if (!missing.empty()) {
    return absl::UnavailableError(absl::StrCat("has no ", absl::StrJoin(missing, ", ")));
  }
  int version = 0;
  const NcclResult got = api.GetVersion(&version);
  if (got != NcclResult::kSuccess) {
    return absl::UnavailableError(absl::StrCat("ncclGetVersion: ", api.GetErrorString(got)));
  }
  if (version < kNcclOldestVersion) {
    return absl::UnavailableError(absl::StrCat("is version ", version, ", below ",
                                               kNcclOldestVersion, " (2.28), which is needed"));
  }
  return api;
}

}  // namespace

std::vector<std::string> NcclPlaces() {
  std::vector<std::string> torch;
  dl_iterate_phdr(&AddTorchFolder, &torch);
  std::vector<std::string> places = {kLibrary};
  for (const std::string& folder : torch) {
    places.push_back(absl::StrCat(folder, "/", kLibrary));
    places.push_back(absl::StrCat(folder, "/../../nvidia/nccl/lib/", kLibrary));
  }
  return places;
}

absl::StatusOr<NcclApi> LoadNcclFrom(const std::vector<std::string>& places) {
  std::vector<std::string> tried;
  for (const std::string& place : places) {
    // Never closed once it is NCCL: it has threads, and its functions are in the table.
    void* library = dlopen(place.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
      tried.push_back(absl::StrCat(place, ": ", Reason()));
      continue;
    }
    absl::StatusOr<NcclApi> api = Fill(library);
    if (api.ok()) return api;
    tried.push_back(absl::StrCat(place, ": ", api.status().message()));
    dlclose(library);
  }
  return absl::UnavailableError(absl::StrCat(
      "no NCCL of version 2.28 or newer; tried\n  ", absl::StrJoin(tried, "\n  "),
      "\nLibTorch for CUDA brings its own in nvidia/nccl/lib beside its package folder: put that "
      "folder into LD_LIBRARY_PATH"));
}

absl::StatusOr<const NcclApi*> LoadNccl() {
  static std::mutex mu;
  static const NcclApi* loaded = nullptr;
  std::lock_guard<std::mutex> lock(mu);
  if (loaded == nullptr) {
    // A failure is not kept: LibTorch's CUDA libraries may come later and bring theirs.
    ASSIGN_OR_RETURN(NcclApi api, LoadNcclFrom(NcclPlaces()));
    loaded = new NcclApi(api);
  }
  return loaded;
}

}  // namespace millrace
