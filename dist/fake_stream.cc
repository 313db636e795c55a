// See fake_stream.h.
#include "dist/fake_stream.h"

#include <set>
#include <utility>

namespace millrace {
namespace {

std::mutex living_mu;
std::set<FakeStream*> living;

}  // namespace

FakeStream::FakeStream(uint64_t seed) : random_(seed), pauses_(seed != 0) {
  {
    std::lock_guard<std::mutex> lock(living_mu);
    living.insert(this);
  }
  thread_ = std::thread([this] { Main(); });
}

FakeStream::~FakeStream() {
  {
    std::lock_guard<std::mutex> lock(mu_);
    closed_ = true;
  }
  changed_.notify_all();
  thread_.join();
  std::lock_guard<std::mutex> lock(living_mu);
  living.erase(this);
}

FakeStream* FakeStream::Of(void* handle) {
  std::lock_guard<std::mutex> lock(living_mu);
  FakeStream* const stream = static_cast<FakeStream*>(handle);
  return living.count(stream) > 0 ? stream : nullptr;
}

void FakeStream::Push(std::function<void()> work) {
  {
    std::lock_guard<std::mutex> lock(mu_);
    queue_.push_back(std::move(work));
  }
  changed_.notify_all();
}

bool FakeStream::Synchronize(std::chrono::milliseconds timeout) {
  std::unique_lock<std::mutex> lock(mu_);
  return changed_.wait_for(lock, timeout, [this] { return queue_.empty() && !busy_; });
}

void FakeStream::Main() {
  std::unique_lock<std::mutex> lock(mu_);
  while (true) {
    changed_.wait(lock, [this] { return closed_ || !queue_.empty(); });
    if (queue_.empty()) return;
    const std::function<void()> work = std::move(queue_.front());
    queue_.pop_front();
    busy_ = true;
    const auto pause = std::chrono::microseconds(pauses_ ? random_() % 300 : 0);
    lock.unlock();
    if (pause.count() > 0) std::this_thread::sleep_for(pause);
    work();
    lock.lock();
    busy_ = false;
    changed_.notify_all();
  }
}

}  // namespace millrace
