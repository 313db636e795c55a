// Which samples could not be read and were left out (data.on_error SKIP): each once, reported when
// it is met and kept for the run's summary.
//
//   BadSamples bad(source->size(), [](const BadSample& b) { std::cerr << b.message << "\n"; });
//   if (!bad.Contains(i) && !read.ok()) bad.Add(i, source->NameOf(i), read);
//
// Thread-safe. Training and evaluation each have their own: indices are a source's.
#ifndef MILLRACE_DATA_BAD_SAMPLES_H_
#define MILLRACE_DATA_BAD_SAMPLES_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"

namespace millrace {

// What becomes of a sample that cannot be read.
enum class OnError { kFail, kSkip };

struct BadSample {
  int64_t index = 0;
  std::string name;     // the source's NameOf
  std::string message;  // what was wrong
};

class BadSamples {
 public:
  using Report = std::function<void(const BadSample&)>;
  explicit BadSamples(Report report = nullptr) : report_(std::move(report)) {}

  bool Contains(int64_t index) const {
    if (count_ == 0) return false;
    std::lock_guard<std::mutex> lock(mutex_);
    return samples_.count(index) > 0;
  }
  void Add(int64_t index, const std::string& name, const absl::Status& why) {
    std::lock_guard<std::mutex> lock(mutex_);
    const BadSample bad{index, name, std::string(why.message())};
    if (!samples_.emplace(index, bad).second) return;
    ++count_;
    if (report_) report_(bad);
  }
  int64_t count() const { return count_; }
  // By index.
  std::vector<BadSample> list() const {
    std::lock_guard<std::mutex> lock(mutex_);
    std::vector<BadSample> all;
    for (const auto& [index, bad] : samples_) all.push_back(bad);
    return all;
  }

 private:
  const Report report_;
  mutable std::mutex mutex_;
  std::map<int64_t, BadSample> samples_;
  std::atomic<int64_t> count_{0};
};

}  // namespace millrace

#endif  // MILLRACE_DATA_BAD_SAMPLES_H_
