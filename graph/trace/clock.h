// Time as an argument. Whoever waits, times out or stamps takes a Clock, so that a test of a 60 second
// deadline runs in no time and says exactly when it fires.
//
//   VirtualClock clock;
//   Executor e(..., {.stuck_seconds = 60, .clock = &clock});
//   clock.Advance(61.0);                    // from any thread; the deadline has passed
#ifndef MILLRACE_GRAPH_TRACE_CLOCK_H_
#define MILLRACE_GRAPH_TRACE_CLOCK_H_

#include <atomic>
#include <chrono>
#include <cstdint>

namespace millrace {

// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  // Nanoseconds since some fixed moment; never goes back.
  virtual int64_t Nanoseconds() const = 0;
  // The machine's monotonic clock.
  static const Clock* Real();
};

class RealClock final : public Clock {
 public:
  int64_t Nanoseconds() const override {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
  }
};

inline const Clock* Clock::Real() {
  static const RealClock clock;
  return &clock;
}

// Stands still until told to go on.
class VirtualClock final : public Clock {
 public:
  int64_t Nanoseconds() const override { return now_.load(); }
  void Advance(double seconds) { now_.fetch_add(static_cast<int64_t>(seconds * 1e9)); }

 private:
  std::atomic<int64_t> now_{0};
};

}  // namespace millrace

#endif  // MILLRACE_GRAPH_TRACE_CLOCK_H_
