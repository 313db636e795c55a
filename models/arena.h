// Memory for what a plan did not foresee: one block, sized beforehand, cut by best fit.
//
// LibTorch's kernels on a device choose by shapes, alignment and free memory; now and then one asks for scratch that
// the probe did not see. Such a request is served from here, so that a step still calls no allocator of the device.
//
//   Arena arena(memory, bytes);
//   void* p = arena.Allocate(1000);       // nullptr: nothing of that size is left
//   arena.Free(p);
//
// It never touches the memory itself, which may be a device's. A freed block is given out again at once: on a device
// that is right as long as all its users are issued into one stream. Thread-safe.
#ifndef MILLRACE_MODELS_ARENA_H_
#define MILLRACE_MODELS_ARENA_H_

#include <algorithm>
#include <cstdint>
#include <map>
#include <mutex>

namespace millrace {

class Arena {
 public:
  static constexpr int64_t kAlignment = 512;  // that of CUDA's own allocations inside LibTorch

  // `base` aligned as its users need it.
  Arena(void* base, int64_t bytes) : base_(static_cast<char*>(base)), bytes_(bytes) {
    if (bytes > 0) free_[0] = bytes;
  }
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  void* Allocate(int64_t bytes) {
    const int64_t size = std::max<int64_t>(1, (bytes + kAlignment - 1) / kAlignment) * kAlignment;
    const std::lock_guard<std::mutex> lock(mutex_);
    auto best = free_.end();
    for (auto it = free_.begin(); it != free_.end(); ++it) {
      if (it->second >= size && (best == free_.end() || it->second < best->second)) best = it;
    }
    if (best == free_.end()) return nullptr;
    const int64_t offset = best->first, rest = best->second - size;
    free_.erase(best);
    if (rest > 0) free_[offset + size] = rest;
    used_[offset] = size;
    in_use_ += size;
    peak_ = std::max(peak_, in_use_);
    return base_ + offset;
  }

  // False: `p` is none of its blocks.
  bool Free(void* p) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto it = used_.find(static_cast<char*>(p) - base_);
    if (it == used_.end()) return false;
    int64_t offset = it->first, size = it->second;
    in_use_ -= size;
    used_.erase(it);
    auto after = free_.lower_bound(offset);
    if (after != free_.end() && after->first == offset + size) {
      size += after->second;
      after = free_.erase(after);
    }
    if (after != free_.begin()) {
      const auto before = std::prev(after);
      if (before->first + before->second == offset) {
        before->second += size;
        return true;
      }
    }
    free_[offset] = size;
    return true;
  }

  int64_t bytes() const { return bytes_; }
  int64_t in_use() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return in_use_;
  }
  // What it would have needed so far, if nothing was refused and blocks fitted without gaps.
  int64_t peak() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return peak_;
  }

 private:
  char* const base_;
  const int64_t bytes_;
  mutable std::mutex mutex_;
  std::map<int64_t, int64_t> free_, used_;  // offset -> size
  int64_t in_use_ = 0, peak_ = 0;
};

}  // namespace millrace

#endif  // MILLRACE_MODELS_ARENA_H_
