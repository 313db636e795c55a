#include "data/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace millrace {
namespace {

absl::Status ErrnoError(const std::string& path, absl::string_view what) {
  const int code = errno;
  return absl::ErrnoToStatus(code, absl::StrCat(path, ": cannot ", what));
}

// Closes on every way out; Close() reports the error that a destructor cannot.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  bool ok() const { return fd_ >= 0; }
  bool Close() {
    const int fd = fd_;
    fd_ = -1;
    return close(fd) == 0;
  }

 private:
  int fd_;
};

std::string DirectoryOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

absl::Status WriteAndSync(const std::string& path, absl::Span<const uint8_t> bytes) {
  Descriptor file(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!file.ok()) return ErrnoError(path, "create");
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n = write(file.get(), bytes.data() + done, bytes.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoError(path, absl::StrCat("write at byte ", done));
    done += static_cast<size_t>(n);
  }
  if (fsync(file.get()) != 0) return ErrnoError(path, "sync");
  if (!file.Close()) return ErrnoError(path, "close");
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<uint8_t>> ReadFile(const std::string& path, absl::string_view help) {
  Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.ok()) {
    if (errno != ENOENT && errno != ENOTDIR) return ErrnoError(path, "open");
    return absl::NotFoundError(absl::StrCat(path, ": no such file; help: ", help));
  }
  struct stat info;
  if (fstat(file.get(), &info) != 0) return ErrnoError(path, "stat");
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": is ", S_ISDIR(info.st_mode) ? "a directory" : "not a regular file",
                     ", expected a file; help: ", help));
  }
  std::vector<uint8_t> bytes(static_cast<size_t>(info.st_size));
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n = read(file.get(), bytes.data() + done, bytes.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoError(path, absl::StrCat("read at byte ", done));
    if (n == 0) {
      return absl::DataLossError(absl::StrCat(path, ": ended at byte ", done, " of ", bytes.size(),
                                              ": it was shortened while it was read"));
    }
    done += static_cast<size_t>(n);
  }
  return bytes;
}

absl::Status WriteFileAtomically(const std::string& path, absl::Span<const uint8_t> bytes) {
  const std::string temporary = absl::StrCat(path, ".tmp.", getpid());
  absl::Status written = WriteAndSync(temporary, bytes);
  if (written.ok() && rename(temporary.c_str(), path.c_str()) != 0) {
    written = ErrnoError(path, absl::StrCat("rename ", temporary, " to it"));
  }
  if (!written.ok()) {
    unlink(temporary.c_str());
    return written;
  }
  const std::string directory = DirectoryOf(path);
  Descriptor parent(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!parent.ok()) return ErrnoError(directory, "open");
  // Some file systems cannot sync a directory and say EINVAL; the rename is then as durable as it
  // gets.
  if (fsync(parent.get()) != 0 && errno != EINVAL) return ErrnoError(directory, "sync");
  return absl::OkStatus();
}

absl::Status WriteFileAtomically(const std::string& path, absl::string_view text) {
  return WriteFileAtomically(
      path, absl::MakeConstSpan(reinterpret_cast<const uint8_t*>(text.data()), text.size()));
}

absl::Status MakeDirectories(const std::string& path) {
  for (size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
    const std::string part = path.substr(0, end);
    if (mkdir(part.c_str(), 0755) != 0 && errno != EEXIST)
      return ErrnoError(part, "make directory");
    if (end == std::string::npos) break;
  }
  struct stat info;
  if (stat(path.c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) {
    return absl::FailedPreconditionError(absl::StrCat(path, ": exists and is not a directory"));
  }
  return absl::OkStatus();
}

}  // namespace millrace
