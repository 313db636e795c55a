// The completion thread of a device: sees which ops of which streams have ended, and calls back those who wait for a
// set of points. Only where the host itself must act does anybody wait here; between nodes of the device nothing does.
//
//   StreamWatch watch(device, end_events);                 // per stream: the event at the end of every op, by seq
//   watch.BeginStep();
//   ... device.Record(stream, end_events[stream][seq]); watch.Issued(stream, seq + 1);
//   watch.Await({{stream, seq}}, [](const absl::Status& s) { ... });      // from the watch's thread, once
//
// While nobody waits it looks every millisecond (progress for the report of a stuck step), else all the time for some
// 50 us and then every 20 us: asking costs the driver a lock.
//
// Threads: BeginStep, Issued, Await and AwaitEvents by the issue thread; ended() by any. Callbacks are short, do not
// block and do not throw.
#ifndef MILLRACE_GRAPH_RUNTIME_STREAM_WATCH_H_
#define MILLRACE_GRAPH_RUNTIME_STREAM_WATCH_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "graph/runtime/device.h"
#include "graph/runtime/stream_program.h"

namespace millrace {

class StreamWatch {
 public:
  using Then = std::function<void(const absl::Status&)>;

  // Both outlive the watch.
  StreamWatch(Device* device, const std::vector<std::vector<EventId>>& end_events);
  ~StreamWatch();  // callbacks that are still due are not made
  StreamWatch(const StreamWatch&) = delete;
  StreamWatch& operator=(const StreamWatch&) = delete;

  // Nothing is awaited and nothing that was issued is unfinished.
  void BeginStep();
  // The first `count` ops of the stream have been issued, their end events recorded.
  void Issued(int32_t stream, int32_t count);
  // All points have been issued.
  void Await(const std::vector<StreamPoint>& points, Then then);
  // Events beside the ops', already recorded. An error ends the waiting for it as reaching it does.
  void AwaitEvents(std::vector<EventId> events, Then then);

  // Ops of the stream, from the first, that have ended.
  int32_t ended(int32_t stream) const {
    return streams_[stream].ended.load(std::memory_order_acquire);
  }
  int64_t ended_in_all() const;

 private:
  struct Stream {
    std::atomic<int32_t> issued{0};
    std::atomic<int32_t> ended{0};
  };
  struct Waiter {
    std::vector<StreamPoint> points;
    std::vector<EventId> events;
    Then then;
  };
  void Run();
  bool Look();                                            // whether anything has moved
  bool Over(const Waiter& waiter, absl::Status* status);  // with mutex_ held
  void Add(Waiter waiter);

  Device* const device_;
  const std::vector<std::vector<EventId>>& end_events_;
  std::unique_ptr<Stream[]> streams_;
  const int32_t count_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<Waiter> waiters_;  // guarded by mutex_
  absl::Status failure_;         // guarded by mutex_; of this step
  bool stop_ = false;            // guarded by mutex_
  std::atomic<int32_t> waiting_{0};
  std::thread thread_;  // last: it uses the others
};

}  // namespace millrace

#endif  // MILLRACE_GRAPH_RUNTIME_STREAM_WATCH_H_
