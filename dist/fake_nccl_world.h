// The state of the fake NCCL (fake_nccl.h) and what its streams do with calls. Internal to it.
#ifndef MILLRACE_DIST_FAKE_NCCL_WORLD_H_
#define MILLRACE_DIST_FAKE_NCCL_WORLD_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "dist/fake_stream.h"
#include "dist/nccl_api.h"

namespace millrace {

struct NcclComm {};  // what the table's opaque pointer points to

namespace fake_nccl {

enum class Kind { kAllGather, kReduceScatter, kAllReduce, kBroadcast, kTransfers };
enum class State { kInit, kReady, kFinalizing, kAborted, kDestroyed };

struct Comm;

// Half of a transfer within one call.
struct Part {
  bool sends;
  int peer;
  uint64_t number;  // of this direction between the two
  void* data;
  size_t count;
  NcclType type;
};

// One call of one member, as its stream comes to it.
struct Op {
  Comm* comm = nullptr;
  FakeStream* stream = nullptr;
  uint64_t ticket = 0;  // calls of this communicator before it
  uint64_t index = 0;   // collectives before it
  Kind kind = Kind::kTransfers;
  NcclType type = NcclType::kUint8;
  NcclRedOp reduce = NcclRedOp::kSum;
  int root = 0;
  size_t count = 0;
  const void* send = nullptr;
  void* recv = nullptr;
  std::vector<Part> parts;

  std::tuple<Kind, NcclType, NcclRedOp, int, size_t> what() const {
    return {kind, type, reduce, root, count};
  }
};

struct Meeting {
  std::map<int, Op> joined;
  bool done = false, broken = false;
};
struct Transfer {
  const Part* send = nullptr;
  const Part* recv = nullptr;
  bool done = false;
};
struct Clique {
  int size = 0;
  std::map<int, Comm*> members;
  std::map<uint64_t, Meeting> meetings;
  std::map<std::tuple<int, int, uint64_t>, Transfer> transfers;
};

struct Comm : NcclComm {
  int rank = 0;
  Clique* clique = nullptr;
  State state = State::kInit;
  bool come = false;  // its init was handed over (the group of calls has ended)
  int polls = 0;
  NcclResult error = NcclResult::kSuccess;
  int fails_at = -1;  // calls after which `error_then` shows
  NcclResult error_then = NcclResult::kSuccess;
  uint64_t issued = 0, finished = 0, collectives = 0;
  std::map<std::pair<int, bool>, uint64_t> transfers;  // by peer and direction
  std::vector<Op> waiting;                             // taken when `polls` are over
  std::atomic<int> inside{0};

  bool dead() const { return state == State::kAborted || state == State::kDestroyed; }
};

struct World {
  std::mutex mu;
  std::condition_variable changed;
  std::deque<Comm> comms;  // never freed: late uses are found
  std::map<std::string, Clique> cliques;
  std::map<std::string, std::pair<int, NcclResult>> faults;
  std::map<int, std::pair<int, NcclResult>> later;
  std::set<int> held;
  std::map<std::string, int> calls;
  std::vector<std::string> misuse;
  int init_polls = 3, call_polls = 0;
  int ids = 0;
};
// Of the one FakeNccl that lives; null without one.
extern World* world;

// With the world's lock held.
void Misuse(std::string what);

// Puts the call into its stream. It runs when the calls of its communicator before it have ended, and
// ends when those of all peers have come, or with an abort. With the world's lock held.
void Push(Op op);

}  // namespace fake_nccl
}  // namespace millrace

#endif  // MILLRACE_DIST_FAKE_NCCL_WORLD_H_
