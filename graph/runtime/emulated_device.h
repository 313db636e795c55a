// A device without hardware: streams that run the CPU's kernels, as asynchronously as a test wants. What the engine,
// the kernels' wrappers and the runner do with a device is tested with it: any order that events do not forbid
// happens sooner or later, every call may fail, and memory of the device that the host touches is a fault.
//
//   EmulatedDeviceOptions options;
//   options.seed = 7;
//   EmulatedDevice device(options);
//
// One thread serves all streams. It takes, at random, one of the streams whose next piece can run; at random it leaves a
// stream lying for a while, sleeps, or does not admit yet that an event has been reached. Work that completes later (a
// collective) keeps its stream busy, not the thread.
//
// Faults: `fail_call` n: the n-th call of the interface that can fail, from 1, fails without doing anything.
// `fail_work` n: the n-th piece of work that would run, or copy, fails instead. From then on the device is broken: no
// further work runs, and events behind it are reached with the error, until the step is over (BeginIssue).
//
// Guarded memory: arenas of the device tier cannot be read or written but while some piece of work runs, and in Read
// and Write. (While work runs, others of the process may touch it unseen.)
#ifndef MILLRACE_GRAPH_RUNTIME_EMULATED_DEVICE_H_
#define MILLRACE_GRAPH_RUNTIME_EMULATED_DEVICE_H_

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "graph/runtime/device.h"

namespace millrace {

struct EmulatedDeviceOptions {
  int rank = 0;  // for messages
  uint64_t seed = 0;
  bool adversarial = true;  // false: streams in turn, nothing is delayed
  bool guard_memory = false;
  std::function<void()>
      thread_start;       // on the thread that runs the kernels (LibTorch's thread count)
  int64_t fail_call = 0;  // 0: none
  int64_t fail_work = 0;
};

class EmulatedDevice final : public Device {
 public:
  explicit EmulatedDevice(const EmulatedDeviceOptions& options);
  ~EmulatedDevice() override;  // waits for the work that has been issued

  std::string Describe() const override;
  absl::string_view kernels() const override { return ""; }
  absl::StatusOr<void*> Allocate(Tier tier, int64_t bytes) override;
  void Release(Tier tier, void* base, int64_t bytes) override;
  absl::Status Read(void* host, const void* device, int64_t bytes) override;
  absl::Status Write(void* device, const void* host, int64_t bytes) override;
  absl::StatusOr<StreamId> NewStream(const std::string& name) override;
  absl::StatusOr<EventId> NewEvent() override;
  void* native(StreamId) const override { return nullptr; }
  absl::Status BeginIssue() override;
  absl::Status Enqueue(StreamId stream, Work work) override;
  absl::Status Copy(StreamId stream, void* to, const void* from, int64_t bytes) override;
  absl::Status Record(StreamId stream, EventId event) override;
  absl::Status Wait(StreamId stream, EventId event) override;
  absl::Status BeginCapture(StreamId stream) override;
  absl::StatusOr<GraphId> EndCapture(StreamId stream) override;
  absl::Status Launch(StreamId stream, GraphId graph) override;
  absl::StatusOr<bool> Reached(EventId event) override;
  absl::StatusOr<int64_t> TimeOf(EventId event) override;
  void Abandon(const absl::Status& why) override;

  // What tests look at.
  int64_t calls() const;            // that could have failed
  int64_t work_run() const;         // pieces of work and copies that ran
  int64_t launches() const;         // of captured graphs
  bool idle() const;                // nothing is queued or running
  int64_t allocated_bytes() const;  // and not yet released

 private:
  struct Item {
    enum class Kind { kWork, kRecord, kWait } kind = Kind::kWork;
    Work work;
    EventId event = -1;
    int64_t generation = 0;  // of the event
  };
  struct Stream {
    std::string name;
    std::deque<Item> items;
    bool busy = false;
    int skip = 0;  // rounds in which it is left lying
    bool capturing = false;
    std::vector<Item> captured;
  };
  struct Event {
    int64_t recorded = 0, reached = 0;  // generations
    int64_t ticks = 0;
    int hide = 0;         // questions to which it is not admitted
    absl::Status status;  // of what ran before the point
  };

  absl::Status Fault(const char* call);  // with mutex_ held
  absl::Status Push(StreamId stream, Item item, const char* call);
  void Serve();
  bool Runnable(const Stream& stream) const;
  int Choose();
  void RunHead(int s, std::unique_lock<std::mutex>& lock);
  void Finish(int s, const absl::Status& status);
  void Open();  // the guarded memory, with mutex_ held
  void Close();
  uint64_t Random(uint64_t below) { return below == 0 ? 0 : random_() % below; }

  const EmulatedDeviceOptions options_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::mt19937_64 random_;
  std::deque<Stream> streams_;
  std::deque<Event> events_;
  std::vector<std::vector<Item>> graphs_;
  std::map<char*, int64_t> arenas_;  // guarded ones: bytes mapped
  int64_t allocated_ = 0;
  int open_ = 0;
  int64_t calls_ = 0, work_run_ = 0, work_seen_ = 0, launches_ = 0;
  int running_ = 0;
  absl::Status broken_;
  bool stop_ = false;
  std::thread thread_;  // last: it uses the others
};

}  // namespace millrace

#endif  // MILLRACE_GRAPH_RUNTIME_EMULATED_DEVICE_H_
