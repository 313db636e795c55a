// How processes find each other before they can communicate: a store of small values that all of
// them see (NCCL's unique ids, the hash of the plan), and the variables that torchrun sets.
//
//   ASSIGN_OR_RETURN(Launch launch, ReadLaunch());
//   ASSIGN_OR_RETURN(std::shared_ptr<RendezvousStore> store, ConnectTcpStore(launch));
//                                                                        // tcp_rendezvous.h
//   RETURN_IF_ERROR(CheckSamePlan(*store, launch.rank, launch.world, hash, minutes(5)));
#ifndef MILLRACE_DIST_RENDEZVOUS_H_
#define MILLRACE_DIST_RENDEZVOUS_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace millrace {

// Any thread, any time. Errors are of the way to the store, kUnavailable.
class RendezvousStore {
 public:
  virtual ~RendezvousStore() = default;

  // A key is set once, or always to the same value: who has read it does not look again.
  virtual absl::Status Set(const std::string& key, const std::string& value) = 0;
  // The value at once when it is there; kNotFound when it is not.
  virtual absl::StatusOr<std::string> Find(const std::string& key) = 0;
  // Adds to a number that begins with 0 and returns the sum. Keys of Set and of Add are two.
  virtual absl::StatusOr<int64_t> Add(const std::string& key, int64_t delta) = 0;
  virtual std::string Describe() const = 0;  // "tcp store at 10.0.0.1:29500"

  // Waits until the key is there; kDeadlineExceeded naming it. Asks again and again, a little more
  // slowly each time, so that a waiter never holds the connection.
  absl::StatusOr<std::string> Get(const std::string& key, std::chrono::milliseconds timeout);
};

// For ranks of one process, and for tests.
std::shared_ptr<RendezvousStore> MakeInProcessStore();

// One process of a run, as torchrun describes it: RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and
// MASTER_PORT.
struct Launch {
  int rank = 0;
  int world = 1;
  int local_rank = 0;
  std::string master_address;  // empty when the process was not launched by anybody
  int master_port = 0;
};

// None of the five set: a process of its own, Launch(). Otherwise all have to be there and make
// sense, but for LOCAL_RANK, which is 0 without (one process per machine); kInvalidArgument with
// everything that is wrong. `environment` is getenv, or a test's.
absl::StatusOr<Launch> ReadLaunch(
    const std::function<const char*(const char*)>& environment = nullptr);

// All processes tell each other the hash of their plan and wait for all others' (timeout).
// kFailedPrecondition on every process, naming the ranks and hashes, when they are not the same:
// such processes would wait for each other, or add a gradient to a weight. kDeadlineExceeded naming
// the ranks that have not come. `round` numbers the calls when there are several in one store.
absl::Status CheckSamePlan(RendezvousStore& store, int rank, int world, absl::string_view hash,
                           std::chrono::milliseconds timeout, int round = 0);

}  // namespace millrace

#endif  // MILLRACE_DIST_RENDEZVOUS_H_
