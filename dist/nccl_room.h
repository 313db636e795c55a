// The state of one NCCL group in this process: its communicators, their watchdog, and the end.
// Internal to nccl.h, which says what is promised.
#ifndef MILLRACE_DIST_NCCL_ROOM_H_
#define MILLRACE_DIST_NCCL_ROOM_H_

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "dist/issue_log.h"
#include "dist/nccl.h"

namespace millrace {
namespace nccl_internal {

// A local member. Every use of `comm` is under `mu`, so that it can be taken away at any time; NCCL's
// calls on such communicators do not wait for peers.
struct Seat {
  int rank = 0;  // in the group
  std::shared_ptr<NcclDevice> device;
  std::mutex mu;
  NcclComm* comm = nullptr;
};

// Between two questions to NCCL: soon at first, later so that a long wait costs nothing.
class Pause {
 public:
  void operator()() {
    if (++times_ <= 20) return std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::microseconds(20 * std::min(times_ - 20, 100)));
  }

 private:
  int times_ = 0;
};

class Room {
 public:
  // `seats` by rising rank.
  Room(const NcclApi& api, const std::vector<int>& ranks,
       std::vector<std::pair<int, std::shared_ptr<NcclDevice>>> seats, RendezvousStore* store,
       const NcclOptions& options);
  // Waits for the calls in the streams, then frees the communicators; aborts them when that fails.
  ~Room();

  // Makes the communicators, all at once, and starts the watchdog. After an error none is left.
  absl::Status Open();

  // Lets `call` hand something to NCCL and waits until NCCL has taken it. Ends the group when that
  // fails. `what` names it in messages.
  absl::Status Put(Seat& seat, absl::FunctionRef<std::string()> what,
                   absl::FunctionRef<NcclResult(NcclComm*)> call);

  // The first reason stays. Returns at once; the watchdog does the rest.
  void End(const absl::Status& why);
  // That reason, OK before.
  absl::Status ended() const;

  std::string Describe() const;

  const NcclApi& api() const { return api_; }
  int size() const { return static_cast<int>(ranks_.size()); }
  Seat& seat(int i) { return seats_[i]; }
  IssueLog& log() { return log_; }

 private:
  using Clock = std::chrono::steady_clock;

  std::string Key(absl::string_view what) const;
  bool HasRemote() const { return seats_.size() < ranks_.size(); }
  absl::Status ShareId(NcclUniqueId* id, Clock::time_point deadline);
  absl::Status Init(const NcclUniqueId& id);
  absl::Status WaitUntilReady(Clock::time_point deadline);
  absl::Status TooLate(const std::vector<int>& unready) const;
  absl::Status EndedElsewhere();
  void Publish(const absl::Status& why);
  absl::Status Error(const Seat& seat, absl::string_view what, NcclResult result,
                     NcclComm* comm) const;
  NcclResult AsyncState(NcclComm* comm) const;
  bool Close();
  void AbortAll(absl::FunctionRef<void()> meanwhile);

  static void* Main(void* self);
  void Watch();
  absl::Status LookAtDevices();
  absl::Status LookAtProgress(Clock::time_point now);

  const NcclApi& api_;
  const std::vector<int> ranks_;  // of the world
  RendezvousStore* const store_;
  const NcclOptions options_;
  std::deque<Seat> seats_;  // a deque: seats do not move
  IssueLog log_;

  mutable std::mutex mu_;
  std::condition_variable wake_;
  std::atomic<bool> has_ended_{false};
  absl::Status why_;
  bool from_elsewhere_ = false;
  bool closing_ = false;
  bool has_watchdog_ = false;
  pthread_t watchdog_{};
  // Of the watchdog: since when each waiting member stands where it stands.
  std::map<int, std::pair<IssueLog::Standing, Clock::time_point>> standing_;
};

}  // namespace nccl_internal
}  // namespace millrace

#endif  // MILLRACE_DIST_NCCL_ROOM_H_
