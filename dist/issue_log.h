// What the members of one group that live in this process have put into their devices' streams. A
// device that waits for a peer says nothing; this is what can be told then. It also compares: the
// k-th collective of all of them must be the same, before the library sees it.
//
//   IssueLog log("data", 8, {0, 1, 2, 3});          // ranks 4-7 are in other processes
//   RETURN_IF_ERROR(log.Add(1, call));              // FAILED_PRECONDITION: rank 0 called ... as ...
//   log.Complete(1, 12);                            // an event behind the 12th call was reached
//   LOG(ERROR) << log.Describe();                   // rank 1 has not issued all_gather 'block_7' ...
//
// Sends and receives: these libraries know no tags, so the k-th send from a to b meets the k-th
// receive; when both are here they must agree in dtype, count and tag.
//
// Any thread.
#ifndef MILLRACE_DIST_ISSUE_LOG_H_
#define MILLRACE_DIST_ISSUE_LOG_H_

#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "dist/call_record.h"
#include "dist/communicator.h"

namespace millrace {

class IssueLog {
 public:
  // `local` in rising order.
  IssueLog(std::string name, int size, const std::vector<int>& local);

  // kFailedPrecondition for a call that does not fit a peer's, kCancelled for one that a member
  // that has left will never join. The call counts as issued.
  absl::Status Add(int rank, const Collective& call);
  // The first `calls` calls of the member are known to be complete.
  void Complete(int rank, uint64_t calls);
  // The member issues nothing more.
  void Leave(int rank);

  uint64_t issued(int rank) const;
  // Members that have issued more than is known complete, each with both numbers: what to compare
  // with a while later.
  struct Standing {
    int rank;
    uint64_t issued, completed;
    bool operator==(const Standing& o) const {
      return rank == o.rank && issued == o.issued && completed == o.completed;
    }
  };
  std::vector<Standing> Waiting() const;

  // First who has not come to a call that others are in, then a line per member.
  std::string Describe() const;

 private:
  struct Member {
    uint64_t calls = 0, collectives = 0, completed = 0;
    bool told = false;  // Complete was ever called
    bool left = false;
    std::deque<CallRecord> last;  // the newest at the back
  };
  // A collective that some local members have issued and others have not.
  struct Open {
    CallRecord record;
    int first = 0;  // who issued it first
    std::vector<bool> joined;
    int missing = 0;
  };
  // Sends not yet received, or receives not yet sent, between two members.
  using Halves = std::deque<CallRecord>;

  int IndexOf(int rank) const;  // in members_
  absl::Status AddCollective(int rank, const CallRecord& record);
  absl::Status AddHalf(int rank, const CallRecord& record);

  const std::string name_;
  const int size_;
  const std::vector<int> local_;
  mutable std::mutex mu_;
  absl::Status broken_;  // the first error: what comes behind it cannot be numbered
  std::vector<Member> members_;
  uint64_t done_collectives_ = 0;  // issued by all local members; open_ begins behind them
  std::deque<Open> open_;
  std::map<std::pair<int, int>, Halves> halves_;  // (source, destination)
};

}  // namespace millrace

#endif  // MILLRACE_DIST_ISSUE_LOG_H_
