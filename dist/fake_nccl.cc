// See fake_nccl.h.
#include "dist/fake_nccl.h"

#include <atomic>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "dist/fake_stream.h"
#include "dist/kernels.h"

namespace millrace {

struct NcclComm {};  // what the table's opaque pointer points to

namespace {

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
World* world = nullptr;

// Of a thread between GroupStart and GroupEnd.
thread_local int depth = 0;
thread_local std::vector<Op> grouped;
thread_local std::vector<Comm*> grouped_inits;

DType TypeOf(NcclType type) {
  switch (type) {
    case NcclType::kInt8:
      return DType::kI8;
    case NcclType::kInt32:
      return DType::kI32;
    case NcclType::kInt64:
      return DType::kI64;
    case NcclType::kFloat16:
      return DType::kF16;
    case NcclType::kFloat32:
      return DType::kF32;
    case NcclType::kFloat64:
      return DType::kF64;
    case NcclType::kBfloat16:
      return DType::kBF16;
    case NcclType::kUint8:
      break;
  }
  return DType::kU8;
}

// All below with the world's lock held, where not said otherwise.

void Misuse(std::string what) { world->misuse.push_back(std::move(what)); }

// Counts the call; whether a fault was asked for.
bool Faulty(const char* function, NcclResult* result) {
  ++world->calls[function];
  const auto it = world->faults.find(function);
  if (it == world->faults.end() || --it->second.first > 0) return false;
  *result = it->second.second;
  world->faults.erase(it);
  return true;
}

// Enters a function of one communicator (without the lock) and leaves it: two threads at once are
// misuse.
class Entry {
 public:
  Entry(const char* function, NcclComm* comm) : comm_(static_cast<Comm*>(comm)) {
    const bool alone = comm == nullptr || comm_->inside.fetch_add(1) == 0;
    lock_ = std::unique_lock<std::mutex>(world->mu);
    if (!alone) Misuse(absl::StrCat(function, ": two threads in rank ", comm_->rank));
    if (comm == nullptr) Misuse(absl::StrCat(function, ": no communicator"));
    if (comm != nullptr && comm_->dead()) {
      Misuse(absl::StrCat(function, ": rank ", comm_->rank, " was aborted or destroyed"));
    }
    usable_ = comm != nullptr && !comm_->dead();
    faulty_ = Faulty(function, &fault_);
  }
  ~Entry() {
    if (comm_ != nullptr) comm_->inside.fetch_sub(1);
  }
  // What to return at once, kSuccess to go on.
  NcclResult refused() const {
    return !usable_ ? NcclResult::kInvalidUsage : faulty_ ? fault_ : NcclResult::kSuccess;
  }
  Comm& comm() const { return *comm_; }

 private:
  Comm* const comm_;
  std::unique_lock<std::mutex> lock_;
  bool usable_ = false, faulty_ = false;
  NcclResult fault_ = NcclResult::kSuccess;
};

void Move(Meeting& meeting) {
  const Op& any = meeting.joined.begin()->second;
  const DType dtype = TypeOf(any.type);
  const int64_t n = static_cast<int64_t>(any.count), bytes = n * SizeOf(dtype);
  const int size = static_cast<int>(meeting.joined.size());
  const bool gathers = any.kind == Kind::kAllGather;
  const bool scatters = any.kind == Kind::kReduceScatter;
  std::vector<std::vector<char>> sent;  // copies, so that in place is no matter
  for (const auto& [rank, op] : meeting.joined) {
    const char* from = static_cast<const char*>(op.send);
    sent.emplace_back(from, from + bytes * (scatters ? size : 1));
  }
  for (const auto& [rank, op] : meeting.joined) {
    if (gathers) {
      for (int r = 0; r < size; ++r) {
        std::memcpy(static_cast<char*>(op.recv) + r * bytes, sent[r].data(), bytes);
      }
    } else if (any.kind == Kind::kBroadcast) {
      std::memcpy(op.recv, sent[any.root].data(), bytes);
    } else {
      std::vector<const void*> from;
      for (const auto& s : sent) from.push_back(s.data() + (scatters ? rank * bytes : 0));
      void* const to = op.recv;
      ReduceInRankOrder(dtype, any.reduce == NcclRedOp::kMax ? ReduceOp::kMax : ReduceOp::kSum,
                        from, {to}, n, Store::kCached);
    }
  }
}

void Meet(std::unique_lock<std::mutex>& lock, const Op& op) {
  Comm& comm = *op.comm;
  Meeting& meeting = comm.clique->meetings[op.index];
  if (!meeting.joined.empty() && meeting.joined.begin()->second.what() != op.what()) {
    Misuse(absl::StrCat("rank ", comm.rank, ": collective ", op.index, " differs from a peer's"));
    meeting.broken = true;
  }
  meeting.joined[comm.rank] = op;
  if (static_cast<int>(meeting.joined.size()) == comm.clique->size && !meeting.broken) {
    Move(meeting);
    meeting.done = true;
    world->changed.notify_all();
  }
  world->changed.wait(lock, [&] { return meeting.done || comm.dead(); });
  // An aborted member's buffers are gone for the others.
  if (!meeting.done) meeting.broken = true;
}

void Exchange(std::unique_lock<std::mutex>& lock, const Op& op) {
  Comm& comm = *op.comm;
  std::vector<Transfer*> transfers;
  for (const Part& part : op.parts) {
    const int from = part.sends ? comm.rank : part.peer, to = part.sends ? part.peer : comm.rank;
    Transfer& t = comm.clique->transfers[{from, to, part.number}];
    (part.sends ? t.send : t.recv) = &part;
    transfers.push_back(&t);
    if (t.send == nullptr || t.recv == nullptr) continue;
    if (t.send->count != t.recv->count || t.send->type != t.recv->type) {
      Misuse(absl::StrCat("transfer ", part.number, " of ", from, " to ", to, " differs"));
      continue;
    }
    std::memcpy(t.recv->data, t.send->data, t.send->count * SizeOf(TypeOf(t.send->type)));
    t.done = true;
    world->changed.notify_all();
  }
  world->changed.wait(lock, [&] {
    for (const Transfer* t : transfers) {
      if (!t->done && !comm.dead()) return false;
    }
    return true;
  });
  for (size_t i = 0; i < transfers.size(); ++i) {
    if (!transfers[i]->done)
      (op.parts[i].sends ? transfers[i]->send : transfers[i]->recv) = nullptr;
  }
}

// In the stream's thread, without the lock.
void Execute(const Op& op) {
  std::unique_lock<std::mutex> lock(world->mu);
  Comm& comm = *op.comm;
  world->changed.wait(lock, [&] { return comm.finished == op.ticket || comm.dead(); });
  if (comm.dead()) return;
  op.kind == Kind::kTransfers ? Exchange(lock, op) : Meet(lock, op);
  ++comm.finished;
  world->changed.notify_all();
}

void Push(Op op) {
  FakeStream* const stream = op.stream;
  stream->Push([op = std::move(op)] { Execute(op); });
}

// A call comes into its stream, at once or after some polls.
NcclResult Launch(Op op) {
  Comm& comm = *op.comm;
  op.ticket = comm.issued++;
  if (op.kind != Kind::kTransfers) op.index = comm.collectives++;
  for (Part& part : op.parts) part.number = comm.transfers[{part.peer, part.sends}]++;
  if (comm.fails_at >= 0 && static_cast<int>(comm.issued) >= comm.fails_at) {
    comm.error = comm.error_then;
  }
  if (world->call_polls == 0) {
    Push(std::move(op));
    return NcclResult::kSuccess;
  }
  comm.polls = world->call_polls;
  comm.waiting.push_back(std::move(op));
  return NcclResult::kInProgress;
}

NcclResult Call(const char* function, NcclComm* handle, void* stream, Op op) {
  const Entry entry(function, handle);
  if (entry.refused() != NcclResult::kSuccess) return entry.refused();
  op.comm = &entry.comm();
  op.stream = FakeStream::Of(stream);
  if (op.stream == nullptr) {
    Misuse(absl::StrCat(function, ": not a stream"));
    return NcclResult::kInvalidArgument;
  }
  if (op.comm->state != State::kReady || !op.comm->waiting.empty()) {
    Misuse(absl::StrCat(function, ": rank ", op.comm->rank, " is not ready for a call"));
    return NcclResult::kInvalidUsage;
  }
  if (depth == 0) return Launch(std::move(op));
  // Transfers of one communicator and stream are one operation.
  if (op.kind == Kind::kTransfers) {
    for (Op& other : grouped) {
      if (other.kind != Kind::kTransfers || other.comm != op.comm) continue;
      other.parts.push_back(op.parts[0]);
      return NcclResult::kSuccess;
    }
  }
  grouped.push_back(std::move(op));
  return NcclResult::kSuccess;
}

Op Joint(Kind kind, const void* send, void* recv, size_t count, NcclType type,
         NcclRedOp reduce = NcclRedOp::kSum, int root = 0) {
  Op op;
  op.kind = kind;
  op.send = send;
  op.recv = recv;
  op.count = count;
  op.type = type;
  op.reduce = reduce;
  op.root = root;
  return op;
}

Op Half(bool sends, void* data, size_t count, NcclType type, int peer) {
  Op op;
  op.parts = {{sends, peer, 0, data, count, type}};
  return op;
}

// Whether all have come and nobody is held back.
bool Complete(const Clique& clique) {
  int come = 0;
  for (const auto& [rank, comm] : clique.members) {
    if (world->held.count(rank) > 0 || comm->dead()) return false;
    come += comm->come;
  }
  return come == clique.size;
}

NcclResult StateOf(Comm& comm) {
  if (comm.error != NcclResult::kSuccess) return comm.error;
  if (comm.state == State::kInit) {
    if (!Complete(*comm.clique) || comm.polls-- > 0) return NcclResult::kInProgress;
    comm.state = State::kReady;
  }
  if (!comm.waiting.empty()) {
    if (comm.polls-- > 0) return NcclResult::kInProgress;
    for (Op& op : comm.waiting) Push(std::move(op));
    comm.waiting.clear();
  }
  const bool busy = comm.state == State::kFinalizing && comm.finished < comm.issued;
  return busy ? NcclResult::kInProgress : NcclResult::kSuccess;
}

// ---- The table. Functions without a communicator take the lock themselves.

NcclResult Plain(const char* function) {
  std::lock_guard<std::mutex> lock(world->mu);
  NcclResult fault = NcclResult::kSuccess;
  Faulty(function, &fault);
  return fault;
}

NcclResult GetVersion(int* version) {
  *version = kNcclConfigVersion;
  return Plain("GetVersion");
}
const char* GetErrorString(NcclResult result) {
  switch (result) {
    case NcclResult::kSuccess:
      return "no error";
    case NcclResult::kUnhandledCudaError:
      return "cuda error";
    case NcclResult::kSystemError:
      return "system error";
    case NcclResult::kRemoteError:
      return "remote error";
    default:
      return "some error";
  }
}
const char* GetLastError(NcclComm*) { return "said by the fake"; }

NcclResult GetUniqueId(NcclUniqueId* id) {
  std::lock_guard<std::mutex> lock(world->mu);
  NcclResult fault;
  if (Faulty("GetUniqueId", &fault)) return fault;
  std::memset(id, 0, sizeof(*id));
  const std::string text = absl::StrCat("clique ", ++world->ids);
  std::memcpy(id->internal, text.data(), text.size());
  return NcclResult::kSuccess;
}

NcclResult CommInitRankConfig(NcclComm** out, int size, NcclUniqueId id, int rank,
                              NcclConfig* config) {
  std::lock_guard<std::mutex> lock(world->mu);
  *out = nullptr;
  NcclResult fault;
  if (Faulty("CommInitRankConfig", &fault)) return fault;
  const NcclConfig proper;
  if (config->size != proper.size || config->magic != proper.magic ||
      config->version != proper.version || config->blocking != 0 || config->min_ctas < 1) {
    Misuse("CommInitRankConfig: config");
    return NcclResult::kInvalidArgument;
  }
  Clique& clique = world->cliques[std::string(id.internal, strnlen(id.internal, 128))];
  if (std::strncmp(id.internal, "clique ", 7) != 0 || rank < 0 || rank >= size ||
      (clique.size != 0 && clique.size != size) || clique.members.count(rank) > 0) {
    Misuse(absl::StrCat("CommInitRankConfig: rank ", rank, " of ", size));
    return NcclResult::kInvalidArgument;
  }
  Comm& comm = world->comms.emplace_back();
  comm.rank = rank;
  comm.clique = &clique;
  comm.polls = world->init_polls;
  const auto later = world->later.find(rank);
  if (later != world->later.end()) {
    comm.fails_at = later->second.first;
    comm.error_then = later->second.second;
    if (comm.fails_at == 0) comm.error = comm.error_then;
  }
  clique.size = size;
  clique.members[rank] = &comm;
  *out = &comm;
  if (depth > 0) {
    grouped_inits.push_back(&comm);
  } else {
    comm.come = true;
  }
  return NcclResult::kInProgress;
}

NcclResult CommGetAsyncError(NcclComm* handle, NcclResult* error) {
  const Entry entry("CommGetAsyncError", handle);
  *error = NcclResult::kSuccess;
  if (entry.refused() != NcclResult::kSuccess) return entry.refused();
  *error = StateOf(entry.comm());
  return NcclResult::kSuccess;
}

NcclResult CommFinalize(NcclComm* handle) {
  const Entry entry("CommFinalize", handle);
  if (entry.refused() != NcclResult::kSuccess) return entry.refused();
  if (entry.comm().state != State::kReady) Misuse("CommFinalize: not ready");
  entry.comm().state = State::kFinalizing;
  return NcclResult::kInProgress;
}

NcclResult CommDestroy(NcclComm* handle) {
  const Entry entry("CommDestroy", handle);
  if (entry.refused() != NcclResult::kSuccess) return entry.refused();
  Comm& comm = entry.comm();
  if (comm.state != State::kFinalizing || comm.finished < comm.issued) {
    Misuse("CommDestroy: not finalized");
  }
  comm.state = State::kDestroyed;
  return NcclResult::kSuccess;
}

NcclResult CommAbort(NcclComm* handle) {
  const Entry entry("CommAbort", handle);
  if (handle == nullptr || entry.comm().dead()) return NcclResult::kInvalidUsage;
  entry.comm().state = State::kAborted;  // even when a fault was asked for: nothing is left of it
  entry.comm().waiting.clear();
  world->changed.notify_all();
  return entry.refused();
}

NcclResult GroupStart() {
  const NcclResult fault = Plain("GroupStart");
  if (fault == NcclResult::kSuccess) ++depth;
  return fault;
}

NcclResult GroupEnd() {
  const NcclResult fault = Plain("GroupEnd");
  std::lock_guard<std::mutex> lock(world->mu);
  if (depth == 0) {
    Misuse("GroupEnd without GroupStart");
    return NcclResult::kInvalidUsage;
  }
  if (--depth > 0) return fault;
  const std::vector<Op> ops = std::exchange(grouped, {});
  const std::vector<Comm*> inits = std::exchange(grouped_inits, {});
  if (fault != NcclResult::kSuccess) return fault;
  NcclResult result = inits.empty() ? NcclResult::kSuccess : NcclResult::kInProgress;
  for (Comm* comm : inits) comm->come = true;
  for (const Op& op : ops) {
    if (Launch(op) == NcclResult::kInProgress) result = NcclResult::kInProgress;
  }
  return result;
}

NcclResult AllGather(const void* send, void* recv, size_t count, NcclType type, NcclComm* comm,
                     void* stream) {
  return Call("AllGather", comm, stream, Joint(Kind::kAllGather, send, recv, count, type));
}
NcclResult ReduceScatter(const void* send, void* recv, size_t count, NcclType type, NcclRedOp op,
                         NcclComm* comm, void* stream) {
  return Call("ReduceScatter", comm, stream,
              Joint(Kind::kReduceScatter, send, recv, count, type, op));
}
NcclResult AllReduce(const void* send, void* recv, size_t count, NcclType type, NcclRedOp op,
                     NcclComm* comm, void* stream) {
  return Call("AllReduce", comm, stream, Joint(Kind::kAllReduce, send, recv, count, type, op));
}
NcclResult Broadcast(const void* send, void* recv, size_t count, NcclType type, int root,
                     NcclComm* comm, void* stream) {
  return Call("Broadcast", comm, stream,
              Joint(Kind::kBroadcast, send, recv, count, type, NcclRedOp::kSum, root));
}
NcclResult Send(const void* send, size_t count, NcclType type, int peer, NcclComm* comm,
                void* stream) {
  return Call("Send", comm, stream, Half(true, const_cast<void*>(send), count, type, peer));
}
NcclResult Recv(void* recv, size_t count, NcclType type, int peer, NcclComm* comm, void* stream) {
  return Call("Recv", comm, stream, Half(false, recv, count, type, peer));
}

}  // namespace

FakeNccl::FakeNccl() {
  world = new World;
#define MILLRACE_NCCL_FAKE(name, result, parameters) api_.name = &millrace::name;
  MILLRACE_NCCL_FUNCTIONS(MILLRACE_NCCL_FAKE)
#undef MILLRACE_NCCL_FAKE
}
FakeNccl::~FakeNccl() {
  delete world;
  world = nullptr;
}

void FakeNccl::Fail(const std::string& function, int nth, NcclResult result) {
  std::lock_guard<std::mutex> lock(world->mu);
  world->faults[function] = {nth, result};
}
void FakeNccl::FailLater(int rank, int calls, NcclResult result) {
  std::lock_guard<std::mutex> lock(world->mu);
  world->later[rank] = {calls, result};
}
void FakeNccl::HoldInit(int rank) {
  std::lock_guard<std::mutex> lock(world->mu);
  world->held.insert(rank);
}
void FakeNccl::SetPolls(int init, int call) {
  std::lock_guard<std::mutex> lock(world->mu);
  world->init_polls = init;
  world->call_polls = call;
}
int FakeNccl::calls(const std::string& function) const {
  std::lock_guard<std::mutex> lock(world->mu);
  return world->calls[function];
}
int FakeNccl::living() const {
  std::lock_guard<std::mutex> lock(world->mu);
  int n = 0;
  for (const Comm& comm : world->comms) n += comm.dead() ? 0 : 1;
  return n;
}
std::vector<std::string> FakeNccl::misuse() const {
  std::lock_guard<std::mutex> lock(world->mu);
  std::vector<std::string> all = world->misuse;
  if (depth != 0) all.push_back("GroupStart without GroupEnd");
  return all;
}

}  // namespace millrace
