// One thread per rank, made once, on which all of the rank's compute kernels run, whatever plan they belong to.
// Each sits in a task arena of its own in which no TBB worker can take a seat: a body that must run on this
// thread (torch and OpenMP keep a team per calling thread) runs nowhere else.
//
//   auto threads = ComputeThreads::Create({0, 1}, [](int rank) { SetThreads(1); });
//   threads->Post(rank, [&] { graph.wait_for_all(); });      // one job at a time per rank
//
// Post is thread-safe between ranks; for one rank the caller waits for the end of a job before the next Post.
// The destructor waits for running jobs.
#ifndef MILLRACE_GRAPH_RUNTIME_COMPUTE_THREADS_H_
#define MILLRACE_GRAPH_RUNTIME_COMPUTE_THREADS_H_

#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"

namespace millrace {

class ComputeThreads {
 public:
  // Returns when every thread has run `thread_start`; an exception from it is the error returned.
  static absl::StatusOr<std::shared_ptr<ComputeThreads>> Create(
      const std::vector<int>& ranks, const std::function<void(int rank)>& thread_start);
  ~ComputeThreads();
  ComputeThreads(const ComputeThreads&) = delete;
  ComputeThreads& operator=(const ComputeThreads&) = delete;

  bool Has(int rank) const { return threads_.count(rank) > 0; }
  // `job` must not throw.
  void Post(int rank, std::function<void()> job);

 private:
  class Thread;
  ComputeThreads();
  std::map<int, std::unique_ptr<Thread>> threads_;
};

}  // namespace millrace

#endif  // MILLRACE_GRAPH_RUNTIME_COMPUTE_THREADS_H_
