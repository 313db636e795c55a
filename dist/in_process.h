// Groups whose members are threads of one process: data moves by direct reads and writes of each
// other's memory, in rank order, so that results are bit-identical for any cut of a buffer. The
// default on one machine, and the reference that other back ends are compared with.
//
//   ASSIGN_OR_RETURN(auto members, InProcessGroup::Create(4, {.name = "data"}));
//   // members[r] goes to rank r's thread.
//
// Every member has a worker thread that does its share of a collective once all members have joined
// it, and sleeps otherwise. A collective so small that waking the workers (some 50 us) would cost
// more than doing it is done at once by the thread that completes it. Calls that do not agree are
// found by the thread whose call does not fit, before any byte moves; a Start costs 0.3 us with
// this, so it is always on.
//
// Destroying a member that others still wait for, or with calls pending, ends the group
// (kCancelled).
#ifndef MILLRACE_DIST_IN_PROCESS_H_
#define MILLRACE_DIST_IN_PROCESS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "dist/communicator.h"

namespace millrace {

struct InProcessOptions {
  enum class Execution {
    kThreaded,  // a worker per member
    kInline,    // no threads: the call that completes a collective does all of it, then all `done`s
  };
  Execution execution = Execution::kThreaded;
  std::string name = "group";  // for messages and thread names
  // Calls that write at most this many bytes over all members are done at once by whoever completes
  // them. 64 KiB take about as long as one wake-up.
  int64_t inline_bytes = 64 << 10;
};

class InProcessGroup {
 public:
  // One communicator per rank, in rank order. kInvalidArgument for a size below 1;
  // kResourceExhausted when there are no more threads.
  static absl::StatusOr<std::vector<std::unique_ptr<Communicator>>> Create(
      int size, const InProcessOptions& options = {});
};

}  // namespace millrace

#endif  // MILLRACE_DIST_IN_PROCESS_H_
