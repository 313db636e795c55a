// Moves pieces between memory and a file through an engine: cuts them into requests of one block, keeps the queue
// full, continues what the kernel moved in part, and proves each page. After an error nothing new begins, what is in
// flight is waited for, and the queue can be used again.
//
//   TransferQueue queue(std::move(engine), config);
//   RETURN_IF_ERROR(queue.Run(/*write=*/true, {{0, memory, bytes}}));
//
// Memory that is aligned to pages goes to the drive and back without a copy. Other memory goes through the staging
// ring, one block of it for each request in flight: copies and sums of one block run while others are on the way.
//
// Used by one thread at a time.
#ifndef MILLRACE_DATA_STORAGE_TRANSFER_QUEUE_H_
#define MILLRACE_DATA_STORAGE_TRANSFER_QUEUE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "data/storage/io_engine.h"

namespace millrace {

// A range of memory and where in the file it lies. The offset is a multiple of 4096; memory and length are free. The
// rest of the last page belongs to the piece, too: it is filled with zeros.
struct StoragePiece {
  int64_t file_offset = 0;
  void* memory = nullptr;
  int64_t bytes = 0;
  absl::string_view what = {};  // for messages: "exp_avg/bucket_0"
};

class TransferQueue {
 public:
  struct Config {
    std::string path;  // for messages
    int fd = -1;       // asked for its size, to tell a shortened file from other short reads
    int64_t file_bytes = 0;
    int64_t block_bytes = 1 << 20;
    int queue_depth = 8;
    bool aligned_memory = true;  // what direct I/O demands
    bool checksum = true;
    char* staging = nullptr;  // queue_depth blocks
    std::function<absl::Status(bool write, int64_t offset, int64_t bytes)> fault;
  };

  TransferQueue(std::unique_ptr<IoEngine> engine, Config config);

  // Blocks until every request has ended; the first error.
  absl::Status Run(bool write, absl::Span<const StoragePiece> pieces);

  const IoEngine& engine() const { return *engine_; }
  int64_t checksum_bytes() const;

 private:
  // A request on its way.
  struct Flight {
    int64_t offset = 0;
    char* user = nullptr;     // the caller's memory
    int64_t user_bytes = 0;   // of it
    char* memory = nullptr;   // what the engine sees: the caller's memory or a staging block
    int64_t bytes = 0;        // whole pages
    int64_t moved = 0;        // whole pages
    int fruitless_tries = 0;  // in a row
    absl::string_view what;
  };
  // Where the next request begins.
  struct Cursor {
    size_t piece = 0;
    int64_t done = 0;
  };

  static bool Staged(const Flight& flight) { return flight.memory != flight.user; }
  absl::Status Check(bool write, const StoragePiece& piece) const;
  Flight Cut(const StoragePiece& piece, int slot, Cursor* cursor) const;
  absl::Status Begin(bool write, int slot);
  absl::Status Submit(bool write, int slot);
  // True when the request is complete, false when it must be submitted again.
  absl::StatusOr<bool> End(bool write, int slot, int64_t result);
  absl::Status Shortened(const Flight& flight) const;
  absl::Status Verify(const Flight& flight);
  absl::Status Failed(bool write, const Flight& flight, const absl::Status& why) const;

  const std::unique_ptr<IoEngine> engine_;
  const Config config_;
  std::vector<Flight> flights_;  // by slot
  std::vector<int> free_;        // slots
  std::vector<uint32_t> sums_;   // by page of the file
  std::vector<bool> written_;    // by page of the file
  std::vector<uint32_t> found_;  // sums of the block just read
};

}  // namespace millrace

#endif  // MILLRACE_DATA_STORAGE_TRANSFER_QUEUE_H_
