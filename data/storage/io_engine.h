// How requests reach the kernel: a queue that takes reads and writes of one file and tells, in any order, how each
// ended. Two back ends: io_uring, and threads that call pread and pwrite where io_uring is not permitted (many
// containers' seccomp profiles). Both return the kernel's own answer; continuing short transfers and trying again is
// the caller's (transfer_queue.h).
//
//   if (engine->Submit({.write = false, .tag = 3, .offset = 0, .memory = p, .bytes = 4096}) == 0) {
//     IoCompletion end = engine->Wait();   // end.tag == 3, end.result == 4096
//   }
//
// Used by one thread at a time. The file and all memory outlive the requests in flight.
#ifndef MILLRACE_DATA_STORAGE_IO_ENGINE_H_
#define MILLRACE_DATA_STORAGE_IO_ENGINE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace millrace {

struct IoRequest {
  bool write = false;
  int tag = 0;  // comes back with the completion
  int64_t offset = 0;
  void* memory = nullptr;
  int64_t bytes = 0;
};

struct IoCompletion {
  int tag = 0;
  int64_t result = 0;  // bytes moved, or -errno
};

class IoEngine {
 public:
  virtual ~IoEngine() = default;
  // 0, or -errno: then the request is not in flight and nothing will touch its memory.
  virtual int Submit(const IoRequest& request) = 0;
  // Blocks until a request ends. At least one must be in flight.
  virtual IoCompletion Wait() = 0;
  // "io_uring, registered buffers"
  virtual std::string name() const = 0;
};

// At most `depth` requests in flight. Memory within [staging, staging + staging_bytes) is registered with the kernel
// once, where it permits that, instead of being pinned by each request. An error says why the kernel refuses io_uring.
// MILLRACE_IO_URING=off in the environment is such a refusal, for tests and for machines whose io_uring misbehaves.
absl::StatusOr<std::unique_ptr<IoEngine>> MakeUringEngine(int fd, int depth, void* staging,
                                                          int64_t staging_bytes);

// `depth` threads.
std::unique_ptr<IoEngine> MakeThreadEngine(int fd, int depth);

}  // namespace millrace

#endif  // MILLRACE_DATA_STORAGE_IO_ENGINE_H_
