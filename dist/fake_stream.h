// A CUDA stream without a GPU, for tests: a queue that a thread works through, one piece after the
// other, pausing at random before each, so that streams run apart as those of devices do.
//
//   FakeStream stream(seed);
//   stream.Push([] { ... });                           // what a library puts into stream.handle()
//   EXPECT_TRUE(stream.Synchronize(std::chrono::seconds(10)));
#ifndef MILLRACE_DIST_FAKE_STREAM_H_
#define MILLRACE_DIST_FAKE_STREAM_H_

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <random>
#include <thread>

namespace millrace {

class FakeStream {
 public:
  explicit FakeStream(uint64_t seed = 0);  // 0: no pauses
  ~FakeStream();                           // waits for all of its work
  void* handle() { return this; }
  // Whether it is the handle of a stream that lives; null when not.
  static FakeStream* Of(void* handle);
  void Push(std::function<void()> work);
  // Whether all that was pushed has run, waiting for it.
  bool Synchronize(std::chrono::milliseconds timeout);

 private:
  void Main();
  std::mutex mu_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> queue_;
  bool busy_ = false, closed_ = false;
  std::mt19937_64 random_;
  const bool pauses_;
  std::thread thread_;
};

}  // namespace millrace

#endif  // MILLRACE_DIST_FAKE_STREAM_H_
