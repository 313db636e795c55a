// See fake_nccl.h. Here is the table; what calls do in their streams is in fake_nccl_world.cc.
#include "dist/fake_nccl.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "dist/fake_nccl_world.h"

namespace millrace {
namespace {

using namespace fake_nccl;  // NOLINT: one program in two files

// Of a thread between GroupStart and GroupEnd.
thread_local int depth = 0;
thread_local std::vector<Op> grouped;
thread_local std::vector<Comm*> grouped_inits;

// All below with the world's lock held, where not said otherwise.

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
