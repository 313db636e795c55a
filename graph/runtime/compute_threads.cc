#include "graph/runtime/compute_threads.h"

#include <tbb/task_arena.h>

#include <atomic>
#include <exception>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "graph/base/status.h"
#include "graph/runtime/parker.h"

namespace millrace {

class ComputeThreads::Thread {
 public:
  Thread(int rank, const std::function<void(int)>& thread_start)
      : thread_([this, rank, thread_start] { Main(rank, thread_start); }) {}

  ~Thread() {
    Put({});
    thread_.join();
  }

  absl::Status WaitUntilStarted() {
    caller_.Wait([this] { return started_.load(std::memory_order_acquire); });
    return start_status_;
  }

  void Put(std::function<void()> job) {
    job_ = std::move(job);
    posted_.fetch_add(1, std::memory_order_release);
    worker_.Wake();
  }

 private:
  void Main(int rank, const std::function<void(int)>& thread_start) {
    try {
      if (thread_start) thread_start(rank);
    } catch (const std::exception& e) {
      start_status_ = absl::InternalError(e.what());
    } catch (...) {
      start_status_ = absl::InternalError("unknown exception");
    }
    start_status_ = Annotate(start_status_, "starting the compute thread of rank ", rank);
    started_.store(true, std::memory_order_release);
    caller_.Wake();
    // Every seat is reserved for threads that enter by themselves, and only this one does. Two, since TBB lends a worker to an arena whose only seat is reserved.
    tbb::task_arena arena(/*max_concurrency=*/2, /*reserved_for_masters=*/2);
    arena.execute([this] {
      for (uint64_t seen = 0;; ++seen) {
        worker_.Wait([&] { return posted_.load(std::memory_order_acquire) > seen; });
        const std::function<void()> job = std::move(job_);
        if (!job) return;
        job();
      }
    });
  }

  Parker worker_;
  Parker caller_;
  std::function<void()> job_;  // empty: end the thread
  std::atomic<uint64_t> posted_{0};
  std::atomic<bool> started_{false};
  absl::Status start_status_;
  std::thread thread_;
};

ComputeThreads::ComputeThreads() = default;
ComputeThreads::~ComputeThreads() = default;

absl::StatusOr<std::shared_ptr<ComputeThreads>> ComputeThreads::Create(
    const std::vector<int>& ranks, const std::function<void(int rank)>& thread_start) {
  std::shared_ptr<ComputeThreads> threads(new ComputeThreads);
  for (int rank : ranks) {
    std::unique_ptr<Thread>& thread = threads->threads_[rank];
    if (thread) return absl::InvalidArgumentError(absl::StrCat("rank ", rank, " is given twice"));
    thread = std::make_unique<Thread>(rank, thread_start);
  }
  for (auto& [rank, thread] : threads->threads_) RETURN_IF_ERROR(thread->WaitUntilStarted());
  return threads;
}

void ComputeThreads::Post(int rank, std::function<void()> job) {
  threads_.at(rank)->Put(std::move(job));
}

}  // namespace millrace
