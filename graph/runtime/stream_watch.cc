#include "graph/runtime/stream_watch.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "graph/trace/clock.h"

namespace millrace {

StreamWatch::StreamWatch(Device* device, const std::vector<std::vector<EventId>>& end_events)
    : device_(device),
      end_events_(end_events),
      streams_(new Stream[end_events.size()]),
      count_(static_cast<int32_t>(end_events.size())),
      thread_([this] { Run(); }) {}

StreamWatch::~StreamWatch() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void StreamWatch::BeginStep() {
  std::lock_guard<std::mutex> lock(mutex_);
  for (int32_t s = 0; s < count_; ++s) {
    streams_[s].issued.store(0, std::memory_order_relaxed);
    streams_[s].ended.store(0, std::memory_order_relaxed);
  }
  failure_ = absl::OkStatus();
  waiters_.clear();
  waiting_.store(0);
}

void StreamWatch::Issued(int32_t stream, int32_t count) {
  streams_[stream].issued.store(count, std::memory_order_release);
}

void StreamWatch::Add(Waiter waiter) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    waiters_.push_back(std::move(waiter));
    waiting_.fetch_add(1);
  }
  wake_.notify_one();
}

void StreamWatch::Await(const std::vector<StreamPoint>& points, Then then) {
  Add({points, {}, std::move(then)});
}

void StreamWatch::AwaitEvents(std::vector<EventId> events, Then then) {
  Add({{}, std::move(events), std::move(then)});
}

int64_t StreamWatch::ended_in_all() const {
  int64_t sum = 0;
  for (int32_t s = 0; s < count_; ++s) sum += ended(s);
  return sum;
}

bool StreamWatch::Look() {
  bool moved = false;
  std::vector<std::pair<Then, absl::Status>> due;
  {
    // Held throughout: BeginStep must not come between the two counters of a stream.
    std::lock_guard<std::mutex> lock(mutex_);
    for (int32_t s = 0; s < count_; ++s) {
      Stream& stream = streams_[s];
      const int32_t issued = stream.issued.load(std::memory_order_acquire);
      int32_t ended = stream.ended.load(std::memory_order_relaxed);
      while (ended < issued) {
        const absl::StatusOr<bool> reached = device_->Reached(end_events_[s][ended]);
        if (!reached.ok() && failure_.ok()) failure_ = reached.status();
        if (!reached.ok() || !*reached) break;
        stream.ended.store(++ended, std::memory_order_release);
        moved = true;
      }
    }
    for (size_t w = 0; w < waiters_.size();) {
      absl::Status status;
      if (!Over(waiters_[w], &status)) {
        ++w;
        continue;
      }
      due.push_back({std::move(waiters_[w].then), std::move(status)});
      waiters_.erase(waiters_.begin() + static_cast<int64_t>(w));
      waiting_.fetch_sub(1);
    }
  }
  for (auto& [then, status] : due) then(status);
  return moved || !due.empty();
}

// Whether a waiter has waited long enough: all has come to pass, or cannot any more.
bool StreamWatch::Over(const Waiter& waiter, absl::Status* status) {
  for (const StreamPoint& p : waiter.points) {
    if (ended(p.stream) > p.seq) continue;
    *status = failure_;
    return !failure_.ok();
  }
  for (EventId e : waiter.events) {
    const absl::StatusOr<bool> reached = device_->Reached(e);
    if (!reached.ok()) {
      *status = reached.status();
    } else if (!*reached) {
      return false;
    }
  }
  return true;
}

void StreamWatch::Run() {
  int64_t idle_since = Clock::Real()->Nanoseconds();
  while (true) {
    if (Look()) idle_since = Clock::Real()->Nanoseconds();
    if (waiting_.load() > 0 && Clock::Real()->Nanoseconds() - idle_since < 50'000) continue;
    std::unique_lock<std::mutex> lock(mutex_);
    if (stop_) return;
    if (!waiters_.empty()) {
      wake_.wait_for(lock, std::chrono::microseconds(20), [this] { return stop_; });
    } else {
      bool unfinished = false;
      for (int32_t s = 0; s < count_; ++s) {
        unfinished |= streams_[s].issued.load(std::memory_order_acquire) > ended(s);
      }
      // Ops are issued without a wake-up; the step's end is always awaited, and then all is looked at.
      wake_.wait_for(lock, std::chrono::milliseconds(unfinished && failure_.ok() ? 1 : 20),
                     [this] { return stop_ || waiting_.load() > 0; });
    }
    if (stop_) return;
  }
}

}  // namespace millrace
