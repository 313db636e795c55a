// A scratch file on a drive that holds what does not fit in memory: parameter and optimizer shards. Its room is
// reserved when it is made, so a full disk is an error before a run begins; its pages are summed, so what comes back
// is what was written, or an error names file and offset.
//
//   StorageFile::Options options;
//   options.path = "/nvme/millrace.rank0";
//   options.bytes = int64_t{8} << 30;
//   ASSIGN_OR_RETURN(std::unique_ptr<StorageFile> file, StorageFile::Create(options));
//   RETURN_IF_ERROR(file->Write(0, shard.data(), shard_bytes));
//   RETURN_IF_ERROR(file->Read(0, shard.data(), shard_bytes));
//
// Memory aligned to 4096 bytes moves without a copy. The sums are kept in memory: the file means nothing to another
// process, and is removed with this object.
#ifndef MILLRACE_DATA_STORAGE_STORAGE_FILE_H_
#define MILLRACE_DATA_STORAGE_STORAGE_FILE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "data/storage/page_memory.h"
#include "data/storage/transfer_queue.h"

namespace millrace {

class StorageFile {
 public:
  // kAuto: io_uring where the kernel permits it, else threads; description() says which, and why.
  enum class Engine { kAuto, kIoUring, kThreads };

  struct Options {
    std::string
        path;  // made anew; the folder exists; a file that another StorageFile holds is an error
    int64_t bytes = 0;  // reserved at once, rounded up to pages
    Engine engine = Engine::kAuto;
    int64_t block_bytes = 1 << 20;  // of one request; a multiple of 4096
    int queue_depth = 8;            // requests in flight
    bool direct = true;             // O_DIRECT; buffered where the file system refuses it
    bool checksum = true;           // CRC32C per page
    bool keep = false;              // leave the file behind
    // The ring that requests pass through: block_bytes x queue_depth bytes, aligned to pages, that outlive the file.
    // Null: memory of its own.
    char* staging = nullptr;
    // For tests: asked before each request; an error is that request's failure. Where it is left out, tests of the whole
    // program reach it by MILLRACE_STORAGE_FAULT=read:N or write:N in the environment: the N-th such request of each file
    // fails with an I/O error.
    std::function<absl::Status(bool write, int64_t offset, int64_t bytes)> fault;
  };

  using Piece = StoragePiece;

  static absl::StatusOr<std::unique_ptr<StorageFile>> Create(const Options& options);
  StorageFile(const StorageFile&) = delete;
  StorageFile& operator=(const StorageFile&) = delete;
  ~StorageFile();

  // Block until every request has ended, error or not; calls from several threads take turns. After an error the
  // memory read into is undefined, and pages whose write failed cannot be read before they are written again. Pieces
  // of one call must not overlap in the file (write) or in memory (read).
  absl::Status Write(int64_t file_offset, const void* memory, int64_t bytes);
  absl::Status Read(int64_t file_offset, void* memory, int64_t bytes);
  absl::Status Write(absl::Span<const Piece> pieces);
  absl::Status Read(absl::Span<const Piece> pieces);

  // "io_uring, direct, 1 MiB x 8", with the reason for each thing that is not as asked for.
  const std::string& description() const { return description_; }
  const std::string& path() const { return options_.path; }
  bool direct() const { return direct_; }
  // Why threads are used though io_uring was allowed; empty otherwise.
  const std::string& io_uring_refusal() const { return io_uring_refusal_; }

  // Memory held while the object lives: the staging ring, and the sums (about 1 byte per 1000 of the file).
  int64_t staging_bytes() const { return options_.staging != nullptr ? 0 : StagingBytes(options_); }
  int64_t checksum_bytes() const;
  // The former before there is a file.
  static int64_t StagingBytes(const Options& options) {
    return options.block_bytes * options.queue_depth;
  }

 private:
  explicit StorageFile(const Options& options) : options_(options) {}
  absl::Status Open();
  absl::Status Reserve();
  absl::Status TurnDirectOn();
  absl::Status MakeQueue();

  Options options_;
  int fd_ = -1;
  bool direct_ = false;
  PageMemory staging_;
  std::string io_uring_refusal_, direct_refusal_, description_;
  absl::Mutex mutex_;
  std::unique_ptr<TransferQueue> queue_ ABSL_PT_GUARDED_BY(mutex_);
};

}  // namespace millrace

#endif  // MILLRACE_DATA_STORAGE_STORAGE_FILE_H_
