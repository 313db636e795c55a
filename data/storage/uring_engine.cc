// io_uring: one system call hands over a request, none is needed to see it end. The staging memory and the file are
// registered where the kernel permits (RLIMIT_MEMLOCK may not); the results are the same without.

#include <liburing.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "data/storage/io_engine.h"

namespace millrace {
namespace {

constexpr uint64_t kDropped = ~uint64_t{0};  // user_data of a request taken back
constexpr int kSubmitTries = 100;  // a millisecond each, when the kernel is short of memory

absl::Status Refused(absl::string_view what, int error) {
  return absl::FailedPreconditionError(
      absl::StrCat("io_uring refused: ", what, ": ", std::strerror(error)));
}

class UringEngine : public IoEngine {
 public:
  ~UringEngine() override {
    if (registered_buffers_)
      io_uring_unregister_buffers(&ring_);  // unlocks them now, not soon after
    if (open_) io_uring_queue_exit(&ring_);
  }

  absl::Status Open(int fd, int depth, void* staging, int64_t staging_bytes) {
    const char* switched = std::getenv("MILLRACE_IO_URING");
    if (switched != nullptr && std::strcmp(switched, "off") == 0) {
      return absl::FailedPreconditionError("io_uring refused: MILLRACE_IO_URING=off");
    }
    // Completions are looked for by the waiting thread only: no interrupts between processors (5.19 and newer).
    int error = io_uring_queue_init(depth, &ring_, IORING_SETUP_COOP_TASKRUN);
    if (error == -EINVAL) error = io_uring_queue_init(depth, &ring_, 0);
    if (error != 0) return Refused("io_uring_setup", -error);
    open_ = true;
    io_uring_probe* probe = io_uring_get_probe_ring(&ring_);
    const bool supported = probe != nullptr && io_uring_opcode_supported(probe, IORING_OP_READ) &&
                           io_uring_opcode_supported(probe, IORING_OP_WRITE);
    if (probe != nullptr) io_uring_free_probe(probe);
    if (!supported) return Refused("the kernel is older than 5.6", ENOSYS);
    fd_ = fd;
    registered_file_ = io_uring_register_files(&ring_, &fd, 1) == 0;
    staging_ = static_cast<char*>(staging);
    staging_bytes_ = staging_bytes;
    const iovec whole = {staging, static_cast<size_t>(staging_bytes)};
    registered_buffers_ = io_uring_register_buffers(&ring_, &whole, 1) == 0;
    return absl::OkStatus();
  }

  int Submit(const IoRequest& request) override {
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    if (sqe ==
        nullptr) {  // full of requests taken back: the kernel takes them now, or still refuses
      const int result = io_uring_submit(&ring_);
      if (result < 0) return result;
      sqe = io_uring_get_sqe(&ring_);
      if (sqe == nullptr) return -EBUSY;
    }
    Prepare(request, sqe);
    int result = 0;
    for (int tries = 0; tries < kSubmitTries; ++tries) {
      result = io_uring_submit(&ring_);
      if (result > 0) return 0;
      if (result == 0) result = -EAGAIN;
      if (result == -EINTR) continue;
      if (result != -EAGAIN && result != -EBUSY) break;
      usleep(1000);
    }
    // It lies in the ring already, but the kernel has not taken it: make it one that does nothing.
    io_uring_prep_nop(sqe);
    sqe->user_data = kDropped;
    return result;
  }

  IoCompletion Wait() override {
    for (;;) {
      io_uring_cqe* cqe = nullptr;
      int result = io_uring_wait_cqe(&ring_, &cqe);
      if (result != 0 && result != -EINTR) {
        // The kernel does not let us wait. What is in flight ends all the same, and memory must not be given
        // back before.
        usleep(200);
        result = io_uring_peek_cqe(&ring_, &cqe);
      }
      if (result != 0 || cqe == nullptr) continue;
      const uint64_t tag = cqe->user_data;
      const int64_t moved = cqe->res;
      io_uring_cqe_seen(&ring_, cqe);
      if (tag != kDropped) return {static_cast<int>(tag), moved};
    }
  }

  std::string name() const override {
    return registered_buffers_ ? "io_uring" : "io_uring without registered buffers";
  }

 private:
  void Prepare(const IoRequest& request, io_uring_sqe* sqe) {
    const int file = registered_file_ ? 0 : fd_;
    const unsigned bytes = static_cast<unsigned>(request.bytes);
    char* memory = static_cast<char*>(request.memory);
    const bool fixed = registered_buffers_ && memory >= staging_ &&
                       memory + request.bytes <= staging_ + staging_bytes_;
    if (request.write && fixed) {
      io_uring_prep_write_fixed(sqe, file, memory, bytes, request.offset, 0);
    } else if (request.write) {
      io_uring_prep_write(sqe, file, memory, bytes, request.offset);
    } else if (fixed) {
      io_uring_prep_read_fixed(sqe, file, memory, bytes, request.offset, 0);
    } else {
      io_uring_prep_read(sqe, file, memory, bytes, request.offset);
    }
    if (registered_file_) sqe->flags |= IOSQE_FIXED_FILE;
    sqe->user_data = static_cast<uint64_t>(request.tag);
  }

  io_uring ring_{};
  bool open_ = false, registered_file_ = false, registered_buffers_ = false;
  int fd_ = -1;
  char* staging_ = nullptr;
  int64_t staging_bytes_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<IoEngine>> MakeUringEngine(int fd, int depth, void* staging,
                                                          int64_t staging_bytes) {
  auto engine = std::make_unique<UringEngine>();
  const absl::Status status = engine->Open(fd, depth, staging, staging_bytes);
  if (!status.ok()) return status;
  return std::unique_ptr<IoEngine>(std::move(engine));
}

}  // namespace millrace
