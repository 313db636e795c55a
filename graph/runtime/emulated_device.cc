#include "graph/runtime/emulated_device.h"

#include <sys/mman.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <exception>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "graph/base/status.h"
#include "graph/trace/ticks.h"

namespace millrace {
namespace {

constexpr int64_t kPage = 4096;

int64_t Rounded(int64_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

}  // namespace

EmulatedDevice::EmulatedDevice(const EmulatedDeviceOptions& options)
    : options_(options), random_(options.seed), thread_([this] { Serve(); }) {}

EmulatedDevice::~EmulatedDevice() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

std::string EmulatedDevice::Describe() const {
  return absl::StrCat("emulated device of rank ", options_.rank);
}

absl::Status EmulatedDevice::Fault(const char* call) {
  if (++calls_ != options_.fail_call) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(Describe(), ": ", call, ": the fault"));
}

// ---- memory

absl::StatusOr<void*> EmulatedDevice::Allocate(Tier tier, int64_t bytes) {
  if (tier != Tier::kDevice && tier != Tier::kPinned) return nullptr;
  std::lock_guard<std::mutex> lock(mutex_);
  RETURN_IF_ERROR(Fault("Allocate"));
  const bool guarded = options_.guard_memory && tier == Tier::kDevice;
  void* base = mmap(nullptr, Rounded(bytes), guarded ? PROT_NONE : PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) {
    return absl::ResourceExhaustedError(absl::StrCat(Describe(), ": ", strerror(errno)));
  }
  if (guarded) arenas_[static_cast<char*>(base)] = Rounded(bytes);
  allocated_ += bytes;
  return base;
}

void EmulatedDevice::Release(Tier, void* base, int64_t bytes) {
  std::lock_guard<std::mutex> lock(mutex_);
  arenas_.erase(static_cast<char*>(base));
  munmap(base, Rounded(bytes));
  allocated_ -= bytes;
}

void EmulatedDevice::Open() {
  if (open_++ > 0) return;
  for (const auto& [base, bytes] : arenas_) mprotect(base, bytes, PROT_READ | PROT_WRITE);
}

void EmulatedDevice::Close() {
  if (--open_ > 0) return;
  for (const auto& [base, bytes] : arenas_) mprotect(base, bytes, PROT_NONE);
}

absl::Status EmulatedDevice::Read(void* host, const void* device, int64_t bytes) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    RETURN_IF_ERROR(Fault("Read"));
    Open();
  }
  std::memcpy(host, device, bytes);
  std::lock_guard<std::mutex> lock(mutex_);
  Close();
  return absl::OkStatus();
}

absl::Status EmulatedDevice::Write(void* device, const void* host, int64_t bytes) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    RETURN_IF_ERROR(Fault("Write"));
    Open();
  }
  std::memcpy(device, host, bytes);
  std::lock_guard<std::mutex> lock(mutex_);
  Close();
  return absl::OkStatus();
}

// ---- streams

absl::StatusOr<StreamId> EmulatedDevice::NewStream(const std::string& name) {
  std::lock_guard<std::mutex> lock(mutex_);
  RETURN_IF_ERROR(Fault("NewStream"));
  streams_.emplace_back();
  streams_.back().name = name;
  return static_cast<StreamId>(streams_.size() - 1);
}

absl::StatusOr<EventId> EmulatedDevice::NewEvent() {
  std::lock_guard<std::mutex> lock(mutex_);
  RETURN_IF_ERROR(Fault("NewEvent"));
  events_.emplace_back();
  return static_cast<EventId>(events_.size() - 1);
}

absl::Status EmulatedDevice::BeginIssue() {
  std::lock_guard<std::mutex> lock(mutex_);
  RETURN_IF_ERROR(Fault("BeginIssue"));
  broken_ = absl::OkStatus();
  return absl::OkStatus();
}

absl::Status EmulatedDevice::Push(StreamId stream, Item item, const char* call) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    RETURN_IF_ERROR(Fault(call));
    Stream& s = streams_[stream];
    if (s.capturing) {
      if (item.kind == Item::Kind::kWait) {
        return absl::FailedPreconditionError("an event cannot be waited for in a captured segment");
      }
      s.captured.push_back(std::move(item));
      return absl::OkStatus();
    }
    if (item.kind == Item::Kind::kRecord) item.generation = ++events_[item.event].recorded;
    if (item.kind == Item::Kind::kWait) {
      item.generation = events_[item.event].recorded;
      if (item.generation == 0) {
        return absl::FailedPreconditionError("waits for an event that was never recorded");
      }
    }
    s.items.push_back(std::move(item));
    if (options_.adversarial && Random(6) == 0) s.skip = static_cast<int>(Random(12));
  }
  wake_.notify_one();
  return absl::OkStatus();
}

absl::Status EmulatedDevice::Enqueue(StreamId stream, Work work) {
  return Push(stream, {Item::Kind::kWork, std::move(work)}, "Enqueue");
}

absl::Status EmulatedDevice::Copy(StreamId stream, void* to, const void* from, int64_t bytes) {
  return Push(stream,
              {Item::Kind::kWork,
               [to, from, bytes](auto done) {
                 std::memcpy(to, from, bytes);
                 done(absl::OkStatus());
               }},
              "Copy");
}

absl::Status EmulatedDevice::Record(StreamId stream, EventId event) {
  return Push(stream, {Item::Kind::kRecord, nullptr, event}, "Record");
}

absl::Status EmulatedDevice::Wait(StreamId stream, EventId event) {
  return Push(stream, {Item::Kind::kWait, nullptr, event}, "Wait");
}

absl::Status EmulatedDevice::BeginCapture(StreamId stream) {
  std::lock_guard<std::mutex> lock(mutex_);
  RETURN_IF_ERROR(Fault("BeginCapture"));
  streams_[stream].capturing = true;
  streams_[stream].captured.clear();
  return absl::OkStatus();
}

absl::StatusOr<GraphId> EmulatedDevice::EndCapture(StreamId stream) {
  std::lock_guard<std::mutex> lock(mutex_);
  streams_[stream].capturing = false;
  RETURN_IF_ERROR(Fault("EndCapture"));
  graphs_.push_back(std::move(streams_[stream].captured));
  return static_cast<GraphId>(graphs_.size() - 1);
}

absl::Status EmulatedDevice::Launch(StreamId stream, GraphId graph) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    RETURN_IF_ERROR(Fault("Launch"));
    ++launches_;
    for (Item item : graphs_[graph]) {
      if (item.kind == Item::Kind::kRecord) item.generation = ++events_[item.event].recorded;
      streams_[stream].items.push_back(std::move(item));
    }
  }
  wake_.notify_one();
  return absl::OkStatus();
}

// ---- completion

absl::StatusOr<bool> EmulatedDevice::Reached(EventId event) {
  std::lock_guard<std::mutex> lock(mutex_);
  Event& e = events_[event];
  if (e.reached < e.recorded) return false;
  if (e.hide > 0) {
    --e.hide;
    return false;
  }
  if (!e.status.ok()) return e.status;
  return true;
}

absl::StatusOr<int64_t> EmulatedDevice::TimeOf(EventId event) {
  std::lock_guard<std::mutex> lock(mutex_);
  RETURN_IF_ERROR(Fault("TimeOf"));
  const Event& e = events_[event];
  if (e.reached == 0 || e.reached < e.recorded) {
    return absl::FailedPreconditionError("an event that has not been reached has no time");
  }
  return e.ticks;
}

void EmulatedDevice::Abandon(const absl::Status& why) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (broken_.ok()) broken_ = why;
  }
  wake_.notify_one();
}

int64_t EmulatedDevice::calls() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return calls_;
}
int64_t EmulatedDevice::work_run() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return work_run_;
}
int64_t EmulatedDevice::launches() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return launches_;
}
int64_t EmulatedDevice::allocated_bytes() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return allocated_;
}
bool EmulatedDevice::idle() const {
  std::lock_guard<std::mutex> lock(mutex_);
  if (running_ > 0) return false;
  for (const Stream& s : streams_) {
    if (!s.items.empty()) return false;
  }
  return true;
}

// ---- the device's thread

bool EmulatedDevice::Runnable(const Stream& s) const {
  if (s.busy || s.items.empty()) return false;
  const Item& head = s.items.front();
  return head.kind != Item::Kind::kWait || events_[head.event].reached >= head.generation;
}

// -1: none.
int EmulatedDevice::Choose() {
  std::vector<int> ready, lying;
  for (int s = 0; s < static_cast<int>(streams_.size()); ++s) {
    if (!Runnable(streams_[s])) continue;
    if (streams_[s].skip > 0) {
      --streams_[s].skip;
      lying.push_back(s);
    } else {
      ready.push_back(s);
    }
  }
  if (ready.empty()) ready = lying;
  if (ready.empty()) return -1;
  return ready[options_.adversarial ? Random(ready.size()) : 0];
}

void EmulatedDevice::Finish(int s, const absl::Status& status) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    streams_[s].busy = false;
    --running_;
    Close();
    if (broken_.ok() && !status.ok()) broken_ = status;
    // Under the lock: the device may be gone as soon as it is idle.
    wake_.notify_one();
  }
}

void EmulatedDevice::RunHead(int s, std::unique_lock<std::mutex>& lock) {
  Stream& stream = streams_[s];
  Item item = std::move(stream.items.front());
  stream.items.pop_front();
  if (item.kind == Item::Kind::kWait) return;
  if (item.kind == Item::Kind::kRecord) {
    Event& e = events_[item.event];
    e.reached = item.generation;
    e.ticks = Ticks();
    e.status = broken_;
    e.hide = options_.adversarial && Random(4) == 0 ? static_cast<int>(Random(3)) : 0;
    return;
  }
  if (!broken_.ok()) return;  // nothing runs any more
  if (++work_seen_ == options_.fail_work) {
    broken_ = absl::InternalError(absl::StrCat(Describe(), ": a piece of work: the fault"));
    return;
  }
  ++work_run_;
  ++running_;
  stream.busy = true;
  Open();
  lock.unlock();
  const auto over = std::make_shared<std::atomic<bool>>(false);
  const auto finish = [this, s, over](const absl::Status& status) {
    if (!over->exchange(true)) {
      Finish(s, status);
    } else if (!status.ok()) {  // said it was over, and then threw
      std::lock_guard<std::mutex> again(mutex_);
      if (broken_.ok()) broken_ = status;
    }
  };
  try {
    item.work(finish);
  } catch (const std::exception& e) {
    finish(absl::InternalError(absl::StrCat("exception: ", e.what())));
  } catch (...) {
    finish(absl::InternalError("exception of unknown type"));
  }
  item.work = nullptr;
  lock.lock();
}

void EmulatedDevice::Serve() {
  if (options_.thread_start) options_.thread_start();
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    const int s = Choose();
    if (s >= 0) {
      if (options_.adversarial && Random(64) == 0) {
        const auto nap = std::chrono::microseconds(Random(100));
        lock.unlock();
        std::this_thread::sleep_for(nap);
        lock.lock();
        continue;
      }
      RunHead(s, lock);
      continue;
    }
    // What still waits for an event then, waits for ever; so may work whose end is never told.
    if (stop_ && running_ == 0) return;
    if (!stop_) {
      wake_.wait(lock);
    } else if (wake_.wait_for(lock, std::chrono::seconds(2)) == std::cv_status::timeout) {
      return;
    }
  }
}

}  // namespace millrace
