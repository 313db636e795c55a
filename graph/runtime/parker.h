// Waits for a flag that another thread sets: looks for it for 20 us, then sleeps. Waking a sleeper costs 5 to
// 60 us on a virtual machine, so short waits are worth looking for; the limit keeps a waiter from taking
// time away from threads that compute. It does not yield in between: where cores are scarce a yield
// gives the core away for a whole slice (milliseconds), whereas a sleeper gets it back when it is woken.
//
//   Parker parker;
//   waiter: parker.Wait([&] { return flag.load(); });
//   other:  flag.store(true); parker.Wake();
#ifndef MILLRACE_GRAPH_RUNTIME_PARKER_H_
#define MILLRACE_GRAPH_RUNTIME_PARKER_H_

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>

#include "graph/trace/clock.h"

namespace millrace {

class Parker {
 public:
  // Returns when ready() is true, or false after `limit`. ready() reads atomics that are set before Wake.
  template <typename Ready>
  bool WaitFor(const Ready& ready, std::chrono::nanoseconds limit) {
    if (Look(ready)) return true;
    std::unique_lock<std::mutex> lock(mutex_);
    sleeper_.store(true, std::memory_order_seq_cst);
    const bool result = wake_.wait_for(lock, limit, ready);
    sleeper_.store(false, std::memory_order_relaxed);
    return result;
  }
  template <typename Ready>
  void Wait(const Ready& ready) {
    if (Look(ready)) return;
    std::unique_lock<std::mutex> lock(mutex_);
    sleeper_.store(true, std::memory_order_seq_cst);
    wake_.wait(lock, ready);
    sleeper_.store(false, std::memory_order_relaxed);
  }
  void Wake() {
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (!sleeper_.load(std::memory_order_seq_cst)) return;
    std::lock_guard<std::mutex> lock(mutex_);
    wake_.notify_one();
  }

 private:
  template <typename Ready>
  static bool Look(const Ready& ready) {
    constexpr int64_t kLookNanoseconds = 20'000;
    static const bool alone = std::thread::hardware_concurrency() == 1;
    if (ready()) return true;
    if (alone) return false;
    const int64_t begin = Clock::Real()->Nanoseconds();
    do {
      for (int i = 0; i < 16; ++i) {
        if (ready()) return true;
        Pause();
      }
    } while (Clock::Real()->Nanoseconds() - begin < kLookNanoseconds);
    return false;
  }
  static void Pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<bool> sleeper_{false};
};

}  // namespace millrace

#endif  // MILLRACE_GRAPH_RUNTIME_PARKER_H_
