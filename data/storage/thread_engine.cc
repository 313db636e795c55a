// pread and pwrite on threads of their own: works on every kernel, costs two wake-ups a request.

#include <unistd.h>

#include <cerrno>
#include <deque>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "data/storage/io_engine.h"

namespace millrace {
namespace {

class ThreadEngine : public IoEngine {
 public:
  ThreadEngine(int fd, int depth) : fd_(fd) {
    for (int i = 0; i < depth; ++i) threads_.emplace_back([this] { Work(); });
  }

  ~ThreadEngine() override {
    {
      absl::MutexLock lock(&mutex_);
      stop_ = true;
    }
    for (std::thread& thread : threads_) thread.join();
  }

  int Submit(const IoRequest& request) override {
    absl::MutexLock lock(&mutex_);
    waiting_.push_back(request);
    return 0;
  }

  IoCompletion Wait() override {
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(this, &ThreadEngine::SomethingEnded));
    const IoCompletion completion = ended_.front();
    ended_.pop_front();
    return completion;
  }

  std::string name() const override { return "thread pool"; }

 private:
  bool SomethingEnded() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !ended_.empty(); }
  bool SomethingToDo() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return stop_ || !waiting_.empty();
  }

  void Work() {
    absl::MutexLock lock(&mutex_);
    for (;;) {
      mutex_.Await(absl::Condition(this, &ThreadEngine::SomethingToDo));
      if (waiting_.empty()) return;
      const IoRequest request = waiting_.front();
      waiting_.pop_front();
      mutex_.Unlock();
      const size_t bytes = static_cast<size_t>(request.bytes);
      const ssize_t moved = request.write ? pwrite(fd_, request.memory, bytes, request.offset)
                                          : pread(fd_, request.memory, bytes, request.offset);
      const int64_t result = moved < 0 ? -errno : moved;
      mutex_.Lock();
      ended_.push_back({request.tag, result});
    }
  }

  const int fd_;
  absl::Mutex mutex_;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<IoRequest> waiting_ ABSL_GUARDED_BY(mutex_);
  std::deque<IoCompletion> ended_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread> threads_;
};

}  // namespace

std::unique_ptr<IoEngine> MakeThreadEngine(int fd, int depth) {
  return std::make_unique<ThreadEngine>(fd, depth);
}

}  // namespace millrace
