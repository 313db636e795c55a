#include "data/storage/storage_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "data/storage/crc32c.h"
#include "data/storage/io_engine.h"
#include "data/storage/page_memory.h"
#include "data/storage/sizes.h"
#include "graph/base/findings.h"
#include "graph/base/status.h"

namespace millrace {
namespace {

// Linux moves at most 2 GiB less a page in one request.
constexpr int64_t kMaxBlock = int64_t{1} << 30;
constexpr int kMaxDepth = 4096;

absl::Status ErrnoError(int error, const std::string& message) {
  return absl::Status(absl::ErrnoToStatusCode(error), message);
}

using Fault = std::function<absl::Status(bool write, int64_t offset, int64_t bytes)>;

// What MILLRACE_STORAGE_FAULT asks for; null: nothing.
absl::StatusOr<Fault> FaultOfEnvironment() {
  const char* text = std::getenv("MILLRACE_STORAGE_FAULT");
  if (text == nullptr || *text == 0) return Fault();
  const std::pair<std::string, std::string> parts = absl::StrSplit(text, absl::MaxSplits(':', 1));
  int64_t number = 0;
  if ((parts.first != "read" && parts.first != "write") ||
      !absl::SimpleAtoi(parts.second, &number) || number < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("MILLRACE_STORAGE_FAULT is '", text, "', expected read:N or write:N"));
  }
  auto left = std::make_shared<std::atomic<int64_t>>(number);
  return Fault([left, of_writes = parts.first == "write"](bool write, int64_t, int64_t) {
    if (write != of_writes || --*left != 0) return absl::OkStatus();
    return ErrnoError(EIO, absl::StrCat(std::strerror(EIO), " (MILLRACE_STORAGE_FAULT)"));
  });
}

absl::Status CheckOptions(const StorageFile::Options& o) {
  Findings findings;
  auto expect = [&](bool holds, const std::string& message) {
    if (!holds) findings.Add({.check = "storage", .message = message, .file = o.path});
  };
  expect(!o.path.empty(), "path is empty, expected the file to make");
  expect(o.bytes > 0, absl::StrCat("bytes is ", o.bytes, ", expected more than 0"));
  expect(o.block_bytes > 0 && o.block_bytes % kPageBytes == 0 && o.block_bytes <= kMaxBlock,
         absl::StrCat("block_bytes is ", o.block_bytes, ", expected a multiple of ", kPageBytes,
                      " up to ", kMaxBlock));
  expect(o.queue_depth > 0 && o.queue_depth <= kMaxDepth,
         absl::StrCat("queue_depth is ", o.queue_depth, ", expected 1 to ", kMaxDepth));
  return findings.ToStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<StorageFile>> StorageFile::Create(const Options& options) {
  RETURN_IF_ERROR(CheckOptions(options));
  std::unique_ptr<StorageFile> file(new StorageFile(options));
  file->options_.bytes = (options.bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
  RETURN_IF_ERROR(file->Open());
  RETURN_IF_ERROR(file->Reserve());
  if (options.direct) RETURN_IF_ERROR(file->TurnDirectOn());
  RETURN_IF_ERROR(file->MakeQueue());
  return file;
}

StorageFile::~StorageFile() {
  queue_.reset();  // io_uring lets go of the memory and the file
  if (fd_ < 0) return;
  // io_uring may hold the file a moment longer than us: its room and its lock are given back now.
  if (!options_.keep && unlink(options_.path.c_str()) == 0) (void)!ftruncate(fd_, 0);
  flock(fd_, LOCK_UN);
  close(fd_);
}

absl::Status StorageFile::Open() {
  const std::string& path = options_.path;
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) {
    const int error = errno;
    const char* help = error == ENOENT || error == ENOTDIR ? "; help: make its folder first" : "";
    return ErrnoError(
        error, absl::StrCat(path, ": cannot make the storage file: ", std::strerror(error), help));
  }
  // From here on the destructor removes the file; before, it may be another's.
  struct stat info;
  absl::Status status;
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    status = absl::InvalidArgumentError(
        absl::StrCat(path, ": is not a regular file; storage is a file in a folder of the drive"));
  } else if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    status = absl::FailedPreconditionError(
        absl::StrCat(path, ": in use by another run; help: give each run a folder of its own"));
  }
  if (!status.ok()) {
    close(fd);
    return status;
  }
  fd_ = fd;
  if (ftruncate(fd_, 0) != 0)
    return absl::ErrnoToStatus(errno, absl::StrCat(path, ": cannot empty"));
  return absl::OkStatus();
}

absl::Status StorageFile::Reserve() {
  const int64_t bytes = options_.bytes;
  const int64_t free = FreeBytes(options_.path);
  int error = free < bytes ? ENOSPC : EINTR;
  // A long reservation may be interrupted by a signal: it goes on where it was.
  while (error == EINTR) error = posix_fallocate(fd_, 0, bytes);
  if (error == 0) return absl::OkStatus();
  return ErrnoError(
      error,
      absl::StrCat(options_.path, ": cannot reserve ", BytesText(bytes), " (", bytes, " bytes): ",
                   std::strerror(error), "; free are ", BytesText(free), " (", free, " bytes)",
                   error == EFBIG ? "; help: raise the limit of a file's size (ulimit -f)"
                                  : "; help: free some or choose a folder on another drive"));
}

absl::Status StorageFile::TurnDirectOn() {
  // The page of zeros is how a file system says that it takes O_DIRECT but not I/O of single pages.
  alignas(kPageBytes) static const char kZeros[kPageBytes] = {};
  const int flags = fcntl(fd_, F_GETFL);
  if (fcntl(fd_, F_SETFL, flags | O_DIRECT) == 0 &&
      pwrite(fd_, kZeros, kPageBytes, 0) == kPageBytes) {
    direct_ = true;
    return absl::OkStatus();
  }
  const int error = errno;
  if (error != EINVAL && error != EOPNOTSUPP) {
    return absl::ErrnoToStatus(
        error, absl::StrCat(options_.path, ": write of ", kPageBytes, " bytes at offset 0 failed"));
  }
  fcntl(fd_, F_SETFL, flags);
  direct_refusal_ = " (the file system refuses O_DIRECT)";
  return absl::OkStatus();
}

absl::Status StorageFile::MakeQueue() {
  char* staging = options_.staging;
  if (staging == nullptr) {
    staging_ = PageMemory(staging_bytes(), /*populate=*/true);
    staging = staging_.data();
  }
  if (staging == nullptr) {
    return absl::ResourceExhaustedError(
        absl::StrCat(options_.path, ": no memory for the staging ring of ", staging_bytes(),
                     " bytes (block_bytes x queue_depth)"));
  }
  std::unique_ptr<IoEngine> engine;
  if (options_.engine != Engine::kThreads) {
    absl::StatusOr<std::unique_ptr<IoEngine>> uring =
        MakeUringEngine(fd_, options_.queue_depth, staging, StagingBytes(options_));
    if (uring.ok()) {
      engine = *std::move(uring);
    } else if (options_.engine == Engine::kIoUring) {
      return Annotate(uring.status(), options_.path);
    } else {
      io_uring_refusal_ = std::string(uring.status().message());
    }
  }
  if (engine == nullptr) engine = MakeThreadEngine(fd_, options_.queue_depth);
  const std::string refusal =
      io_uring_refusal_.empty() ? "" : absl::StrCat(" (", io_uring_refusal_, ")");
  description_ = absl::StrCat(engine->name(), refusal, ", ", direct_ ? "direct" : "buffered",
                              direct_refusal_, ", ", BytesText(options_.block_bytes), " x ",
                              options_.queue_depth, options_.checksum ? "" : ", no checksums");
  TransferQueue::Config config;
  config.path = options_.path;
  config.fd = fd_;
  config.file_bytes = options_.bytes;
  config.block_bytes = options_.block_bytes;
  config.queue_depth = options_.queue_depth;
  config.aligned_memory = direct_;
  config.checksum = options_.checksum;
  config.staging = staging;
  config.fault = options_.fault;
  if (config.fault == nullptr) {
    ASSIGN_OR_RETURN(config.fault, FaultOfEnvironment());
  }
  queue_ = std::make_unique<TransferQueue>(std::move(engine), std::move(config));
  return absl::OkStatus();
}

int64_t StorageFile::checksum_bytes() const { return queue_->checksum_bytes(); }

absl::Status StorageFile::Write(int64_t file_offset, const void* memory, int64_t bytes) {
  return Write({Piece{file_offset, const_cast<void*>(memory), bytes}});
}

absl::Status StorageFile::Read(int64_t file_offset, void* memory, int64_t bytes) {
  return Read({Piece{file_offset, memory, bytes}});
}

absl::Status StorageFile::Write(absl::Span<const Piece> pieces) {
  absl::MutexLock lock(&mutex_);
  return queue_->Run(/*write=*/true, pieces);
}

absl::Status StorageFile::Read(absl::Span<const Piece> pieces) {
  absl::MutexLock lock(&mutex_);
  return queue_->Run(/*write=*/false, pieces);
}

}  // namespace millrace
