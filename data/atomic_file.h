// A file that appears whole or not at all: bytes go to `<path>.tmp.<pid>`, Commit syncs them, renames the
// file to its name and syncs the folder. Without Commit the temporary file is removed and what lay at
// `path` before stays.
//
//   ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::Create("out/metrics.json"));
//   RETURN_IF_ERROR(file.Append(text.data(), text.size()));
//   return file.Commit();
#ifndef MILLRACE_DATA_ATOMIC_FILE_H_
#define MILLRACE_DATA_ATOMIC_FILE_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace millrace {

class AtomicFile {
 public:
  static absl::StatusOr<AtomicFile> Create(const std::string& path);
  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&&) = delete;
  ~AtomicFile();

  absl::Status Append(const void* data, int64_t bytes);
  absl::Status Commit();

 private:
  AtomicFile(std::string path, std::string temporary, int fd);
  absl::Status Error(absl::string_view what) const;
  std::string path_, temporary_;
  int fd_ = -1;
};

// Flushes a folder's entries (renames, new files) to storage.
absl::Status SyncFolder(const std::string& path);

}  // namespace millrace

#endif  // MILLRACE_DATA_ATOMIC_FILE_H_
