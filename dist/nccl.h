// Communicators of GPUs: collectives and transfers that NCCL runs in the devices' streams. A group
// has one member per GPU, some of them in this process (one issuing thread each), the others in other
// processes.
//
//   ASSIGN_OR_RETURN(const NcclApi* nccl, LoadNccl());
//   auto gpu = std::make_shared<NcclDevice>(0, scratch, [] { return SetDevice(0); });
//   ASSIGN_OR_RETURN(auto members, NcclGroup::Create(*nccl, {0, 1, 2, 3}, {{0, gpu}, {1, gpu1}},
//                                                    store.get(), {.name = "data"}));
//   gpu->BeginStep();                                  // in the thread that issues this step
//   RETURN_IF_ERROR(members[0]->Issue(call, stream));  // complete when the stream has come past it
//   members[0]->NoteComplete(members[0]->issued());    // an event behind it was reached
//
// One order. All calls of one device, of all its groups, come from one thread per step; the order
// they are issued in has to be the same on all devices (as far as they share groups), or NCCL's
// kernels wait for each other on the devices. NcclDevice checks the thread; that the calls of a group
// agree is checked before NCCL sees them, for the members of this process (issue_log.h).
// NCCL runs the calls of one communicator one after another, whatever streams they are in, sends and
// receives too: two members that both send first may wait forever. Give every direction of a pair a
// group of its own.
//
// Issue puts a call into the stream and returns; where NCCL says "in progress" it waits until NCCL has
// taken the call. With FixNcclMemory (nccl_memory.h) this is the case in Create only; without, NCCL
// makes connections at the first calls and there waits for the peers.
//
// The end. A watchdog per group and process asks NCCL for errors that came up on the devices. Such an
// error, a call that does not fit, Abort of a member, a deadline, or an end in another process (told
// through the store) ends the group: all local communicators are aborted, which releases the streams
// that wait in their calls, and the first reason is what every later call returns. Destroying the last
// local member waits (close_deadline) for the calls in the streams, then frees; before that, no call
// of a member already destroyed is undone.
//
// Differences from communicator.h: Start is kUnimplemented (there is no host to call `done`); sums are
// in the order NCCL likes, so results differ from other back ends by rounding; kMax drops a NaN
// (NCCL uses fmax).
#ifndef MILLRACE_DIST_NCCL_H_
#define MILLRACE_DIST_NCCL_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "dist/communicator.h"
#include "dist/nccl_api.h"
#include "dist/nccl_memory.h"
#include "dist/rendezvous.h"

namespace millrace {

// One GPU of this process, shared by the members it has in several groups.
class NcclDevice {
 public:
  // `ordinal` for messages. `scratch`: 4 bytes of its memory that hold 0, for barriers. `make_current`
  // makes it the calling thread's device (cudaSetDevice); Create calls it, Issue does not.
  NcclDevice(int ordinal, void* scratch, std::function<absl::Status()> make_current);

  int ordinal() const { return ordinal_; }
  void* scratch() const { return scratch_; }
  absl::Status MakeCurrent() const { return make_current_ ? make_current_() : absl::OkStatus(); }

  // From here on the calling thread issues. The first thread that issues needs no BeginStep.
  void BeginStep();
  // kFailedPrecondition in any other thread.
  absl::Status CheckThread();

 private:
  const int ordinal_;
  void* const scratch_;
  const std::function<absl::Status()> make_current_;
  std::atomic<uint64_t> thread_{0};
};

struct NcclMember {
  int rank = 0;  // as in the list of ranks given to Create: of the world, not of the group
  std::shared_ptr<NcclDevice> device;
};

struct NcclOptions {
  std::string name = "world";  // groups of one name must not share their first rank
  int generation = 0;          // counts how often the group was made anew in one store
  NcclMemory memory;
  // Until all members have come.
  std::chrono::milliseconds init_deadline = std::chrono::minutes(5);
  // In which a call of Issue must be taken by NCCL.
  std::chrono::milliseconds issue_deadline = std::chrono::minutes(5);
  // A member that has calls not known complete, but neither issues nor completes one for this long,
  // ends the group. 0: never. Needs NoteComplete.
  std::chrono::milliseconds progress_deadline{0};
  std::chrono::milliseconds close_deadline = std::chrono::seconds(30);
  std::chrono::milliseconds watch_every{100};  // the watchdog; the store is asked every tenth time
};

class NcclCommunicator : public Communicator {
 public:
  bool native_streams() const override { return true; }
  // How many calls were issued; the number of the last one.
  virtual uint64_t issued() const = 0;
  // The first `calls` calls are complete. Makes Describe say more, and progress_deadline work.
  virtual void NoteComplete(uint64_t calls) = 0;
};

class NcclGroup {
 public:
  // Blocks until all of `ranks` have come, in any processes. The result has one entry per entry of
  // `local`, null for those that are not in `ranks`: every process can name its devices once and make
  // all groups of the plan, in the plan's order, by their lists of ranks. A member's rank() is its
  // place in `ranks`. `store` may be null when all ranks are local; it must outlive the group.
  // kInvalidArgument, kDeadlineExceeded naming who has not come, or what NCCL says; nothing of the
  // group is left then, here or in other processes.
  //
  // Sub-groups have unique ids of their own: ncclCommSplit would be a call of all ranks of the world,
  // also of those that are in no such group.
  static absl::StatusOr<std::vector<std::unique_ptr<NcclCommunicator>>> Create(
      const NcclApi& api, const std::vector<int>& ranks, const std::vector<NcclMember>& local,
      RendezvousStore* store, const NcclOptions& options);
};

}  // namespace millrace

#endif  // MILLRACE_DIST_NCCL_H_
