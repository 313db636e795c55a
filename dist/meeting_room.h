// Where the members of an in-process group meet: pairs the k-th collectives of all members and the
// sends with their receives, hands the work to the workers or does it at once, and ends calls. All
// state of a group is here, under one lock that is never held while data moves or a `done` runs.
//
// A private part of in_process.cc, apart from it so that each can be read at one sitting.
#ifndef MILLRACE_DIST_MEETING_ROOM_H_
#define MILLRACE_DIST_MEETING_ROOM_H_

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <vector>

#include "absl/status/status.h"
#include "dist/call_record.h"
#include "dist/communicator.h"
#include "dist/in_process.h"

namespace millrace {
namespace in_process {

using Done = std::function<void(absl::Status)>;
using Lock = std::unique_lock<std::mutex>;

class MeetingRoom {
 public:
  MeetingRoom(int size, const InProcessOptions& options);

  int size() const { return static_cast<int>(members_.size()); }
  void Start(int rank, const Collective& call, Done done);
  void Abort(const absl::Status& why);
  std::string Describe() const;

  // Rank's worker thread: returns after Dismiss(rank).
  void Work(int rank);
  // No more calls come from `rank`: ends what waits for it, then waits until nobody uses its
  // buffers.
  void Leave(int rank);
  void Dismiss(int rank);

 private:
  // The k-th collective of all members. Ready when all have joined; then each member's share is
  // done by its worker, or all of them by one thread.
  struct Meeting {
    explicit Meeting(int size) : calls(size), dones(size), here(size, false), shares_left(size) {}
    std::vector<Collective> calls;
    std::vector<Done> dones;
    std::vector<bool> here;
    int joined = 0;
    int shares_left;
    bool begun = false;    // a worker has taken its share
    bool skipped = false;  // a share was left out, the group being aborted
    int first_rank = 0;    // who joined first, and with what: the others are compared with it
    CallRecord first;
  };
  struct Post {
    Collective call;
    Done done;
  };
  using ChannelKey = std::tuple<int, int, uint64_t>;  // source, destination, tag
  struct Channel {
    std::deque<Post> sends, recvs;
    bool busy = false;  // one transfer at a time, so that they end in order
  };
  struct Transfer {
    ChannelKey key;
    Post send, recv;
  };
  struct Member {
    std::condition_variable wake;
    uint64_t started = 0;            // collectives
    uint64_t next = 0;               // the meeting whose share its worker does next
    std::deque<Transfer> transfers;  // to be copied into its memory by its worker
    int transfers_open = 0;          // matched, not yet ended, it being source or destination
    bool has_last = false;
    CallRecord last;  // the last collective it started
    bool left = false, dismissed = false;
  };

  // All below need the lock; those that take it as a parameter let go of it meanwhile.
  void Join(int rank, const Collective& call, Done done);
  void PostTransfer(int rank, const Collective& call, Done done);
  void Match(const ChannelKey& key);
  void Close(const Transfer& transfer);
  void AbortLocked(const absl::Status& why);
  void Advance(Lock& lock);
  void DoShareOf(int rank, Lock& lock);
  void RunTransfer(Transfer transfer, Lock& lock);
  void End(Meeting& meeting, Lock& lock);
  bool DoneAtOnce(const Collective& call) const;
  bool HasWork(const Member& member) const;
  std::string Absence(const Meeting& meeting, uint64_t index) const;

  const InProcessOptions options_;
  mutable std::mutex mu_;
  std::vector<std::unique_ptr<Member>> members_;
  std::deque<std::unique_ptr<Meeting>> meetings_;  // numbers first_, first_ + 1, ...: not yet ended
  uint64_t first_ = 0;
  uint64_t ready_ = 0;  // meetings below this number have been joined by all
  std::map<ChannelKey, Channel> channels_;
  absl::Status why_;  // of the abort; OK before
  // Work for the one thread in Advance. A `done` that starts the next call finds the thread busy,
  // leaves the work here and returns: chains of calls need no stack.
  bool advancing_ = false;
  std::deque<Transfer> transfers_;
  std::deque<std::pair<Done, absl::Status>> endings_;
  int endings_running_ = 0;
  std::condition_variable settled_;  // something ended: for Leave
};

}  // namespace in_process
}  // namespace millrace

#endif  // MILLRACE_DIST_MEETING_ROOM_H_
