#include "data/storage/preflight.h"

#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "data/storage/crc32c.h"
#include "data/storage/sizes.h"

namespace millrace {
namespace {

constexpr char kElsewhere[] = "choose a folder on a local drive";

}  // namespace

StorageFacts CheckStorageFolder(const StorageNeed& need, Findings* findings) {
  StorageFacts facts;
  auto add = [&](std::string message, std::string suggestion) {
    findings->Add({.check = "storage",
                   .message = std::move(message),
                   .suggestion = std::move(suggestion),
                   .file = need.folder});
  };
  struct stat info;
  if (stat(need.folder.c_str(), &info) != 0) {
    add(absl::StrCat("cannot use the folder: ", std::strerror(errno)),
        absl::StrCat("make it, or ", kElsewhere));
    return facts;  // nothing else can be tried
  }
  if (!S_ISDIR(info.st_mode)) {
    add("is not a folder", kElsewhere);
    return facts;
  }
  facts.free_bytes = FreeBytes(need.folder);
  if (facts.free_bytes < need.bytes) {
    add(absl::StrCat("has ", BytesText(facts.free_bytes), " free, the run needs ",
                     BytesText(need.bytes), ": ", need.bytes - facts.free_bytes,
                     " bytes are missing"),
        "free some, keep a larger part of the states in memory, or choose another drive");
  }
  StorageFile::Options options;
  static std::atomic<int> next{0};  // the ranks of a process may ask at the same time
  options.path = absl::StrCat(need.folder, "/.millrace_preflight.", getpid(), ".", next++);
  options.bytes = kPageBytes;
  options.block_bytes = kPageBytes;
  options.queue_depth = 1;
  absl::StatusOr<std::unique_ptr<StorageFile>> file = StorageFile::Create(options);
  if (!file.ok()) {
    add(absl::StrCat("a file cannot be made in it: ", file.status().message()), kElsewhere);
    return facts;
  }
  facts.direct = (*file)->direct();
  facts.io_uring = (*file)->io_uring_refusal().empty();
  if (need.direct && !facts.direct) {
    facts.notes.push_back(absl::StrCat(
        need.folder, ": the file system refuses O_DIRECT, so storage goes through the page cache, ",
        "which takes memory and a copy"));
  }
  if (need.engine == StorageFile::Engine::kIoUring && !facts.io_uring) {
    add((*file)->io_uring_refusal(), "let engine be chosen automatically, or use threads");
  } else if (need.engine == StorageFile::Engine::kAuto && !facts.io_uring) {
    facts.notes.push_back(
        absl::StrCat(need.folder, ": a thread pool is used, ", (*file)->io_uring_refusal()));
  }
  return facts;
}

}  // namespace millrace
