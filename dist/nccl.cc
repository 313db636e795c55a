// See nccl.h. Here are the members: what each kind of call is for NCCL. The group's life is in
// nccl_room.h.
#include "dist/nccl.h"

#include <pthread.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "dist/nccl_room.h"
#include "graph/base/findings.h"
#include "graph/base/status.h"

namespace millrace {
namespace {

using nccl_internal::Room;
using nccl_internal::Seat;

NcclType TypeOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return NcclType::kFloat32;
    case DType::kF64:
      return NcclType::kFloat64;
    case DType::kBF16:
      return NcclType::kBfloat16;
    case DType::kF16:
      return NcclType::kFloat16;
    case DType::kI64:
      return NcclType::kInt64;
    case DType::kI32:
      return NcclType::kInt32;
    case DType::kI8:
      return NcclType::kInt8;
    case DType::kU8:
    case DType::kBool:
      break;
  }
  return NcclType::kUint8;
}

// In a group of calls, a call that is only noted may say so.
bool Taken(NcclResult result) {
  return result == NcclResult::kSuccess || result == NcclResult::kInProgress;
}

class Member : public NcclCommunicator {
 public:
  Member(std::shared_ptr<Room> room, int seat) : room_(std::move(room)), seat_(room_->seat(seat)) {}
  ~Member() override { room_->log().Leave(seat_.rank); }

  int rank() const override { return seat_.rank; }
  int size() const override { return room_->size(); }

  void Start(const Collective& call, std::function<void(absl::Status)> done) override {
    done(absl::UnimplementedError(
        absl::StrCat(Name(call.kind), " '", call.name,
                     "': NCCL runs in the streams of devices; use Issue with one")));
  }

  absl::Status Issue(const Collective& call, void* stream) override {
    RETURN_IF_ERROR(room_->ended());
    absl::Status fits = Annotate(Validate(call, rank(), size()), "rank ", rank());
    if (fits.ok()) {
      fits = Annotate(seat_.device->CheckThread(), Name(call.kind), " '", call.name, "'");
    }
    if (fits.ok()) fits = room_->log().Add(rank(), call);
    if (!fits.ok()) {
      room_->End(fits);
      return room_->ended();
    }
    // Nothing to move; all members skip it, as they agree in the count.
    if (call.count == 0 && call.kind != CollectiveKind::kBarrier) return absl::OkStatus();
    return room_->Put(
        seat_, [&] { return absl::StrCat(Name(call.kind), " '", call.name, "'"); },
        [&](NcclComm* comm) { return HandOver(call, comm, stream); });
  }

  void Abort(const absl::Status& why) override { room_->End(why); }
  std::string Describe() const override { return room_->Describe(); }

  uint64_t issued() const override { return room_->log().issued(rank()); }
  void NoteComplete(uint64_t calls) override { room_->log().Complete(rank(), calls); }

 private:
  NcclResult HandOver(const Collective& c, NcclComm* comm, void* stream) const {
    const NcclApi& api = room_->api();
    const NcclType type = TypeOf(c.dtype);
    const NcclRedOp op = c.reduce == ReduceOp::kMax ? NcclRedOp::kMax : NcclRedOp::kSum;
    const size_t n = static_cast<size_t>(c.count);
    switch (c.kind) {
      case CollectiveKind::kAllGather:
        return api.AllGather(c.send, c.recv, n, type, comm, stream);
      case CollectiveKind::kReduceScatter:
        return api.ReduceScatter(c.send, c.recv, n, type, op, comm, stream);
      case CollectiveKind::kAllReduce:
        return api.AllReduce(c.send, c.recv, n, type, op, comm, stream);
      case CollectiveKind::kBroadcast: {
        // The root may leave recv out, the others send: NCCL wants both, and in place will do.
        const bool root = rank() == c.root_or_peer;
        void* recv = root && c.recv == nullptr ? const_cast<void*>(c.send) : c.recv;
        return api.Broadcast(root ? c.send : recv, recv, n, type, c.root_or_peer, comm, stream);
      }
      case CollectiveKind::kAllToAll:
        return AllToAll(c, type, comm, stream);
      case CollectiveKind::kBarrier:
        return api.AllReduce(seat_.device->scratch(), seat_.device->scratch(), 1, NcclType::kInt32,
                             NcclRedOp::kSum, comm, stream);
      case CollectiveKind::kSend:
        return api.Send(c.send, n, type, c.root_or_peer, comm, stream);
      case CollectiveKind::kRecv:
        return api.Recv(c.recv, n, type, c.root_or_peer, comm, stream);
    }
    return NcclResult::kInvalidUsage;
  }

  NcclResult AllToAll(const Collective& c, NcclType type, NcclComm* comm, void* stream) const {
    const NcclApi& api = room_->api();
    const size_t n = static_cast<size_t>(c.count);
    const int64_t bytes = c.count * SizeOf(c.dtype);
    NcclResult result = api.GroupStart();
    if (result != NcclResult::kSuccess) return result;
    for (int peer = 0; peer < size() && Taken(result); ++peer) {
      result =
          api.Send(static_cast<const char*>(c.send) + peer * bytes, n, type, peer, comm, stream);
      if (!Taken(result)) break;
      result = api.Recv(static_cast<char*>(c.recv) + peer * bytes, n, type, peer, comm, stream);
    }
    const NcclResult ended = api.GroupEnd();  // also after an error: the group of calls is open
    return Taken(result) ? ended : result;
  }

  const std::shared_ptr<Room> room_;
  Seat& seat_;
};

// Everything that is wrong with the lists.
absl::Status CheckMembers(const std::vector<int>& ranks, const std::vector<NcclMember>& local,
                          int here, RendezvousStore* store, const NcclOptions& options) {
  Findings findings;
  const auto wrong = [&](std::string message) {
    findings.Add(
        {.check = "nccl", .message = absl::StrCat("group '", options.name, "': ", message)});
  };
  std::set<int> seen;
  for (int rank : ranks) {
    if (!seen.insert(rank).second) wrong(absl::StrCat("rank ", rank, " is listed twice"));
  }
  if (ranks.empty()) wrong("a group has at least one member");
  std::map<int, int> rank_of_device;
  seen.clear();
  for (const NcclMember& member : local) {
    if (!seen.insert(member.rank).second) {
      wrong(absl::StrCat("rank ", member.rank, " is twice in this process"));
    }
    if (member.device == nullptr) {
      wrong(absl::StrCat("rank ", member.rank, " has no device"));
      continue;
    }
    if (member.device->scratch() == nullptr) {
      wrong(absl::StrCat("rank ", member.rank, " has no scratch memory for barriers"));
    }
    const auto other = rank_of_device.emplace(member.device->ordinal(), member.rank);
    if (!other.second) {
      wrong(absl::StrCat("ranks ", other.first->second, " and ", member.rank,
                         " share cuda:", member.device->ordinal(), "; NCCL needs one each"));
    }
  }
  if (here > 0 && here < static_cast<int>(ranks.size()) && store == nullptr) {
    wrong("some ranks are in other processes, so a store is needed to find them");
  }
  if (options.memory.channels < 1) {
    wrong(absl::StrCat("channels is ", options.memory.channels, ", expected at least 1"));
  }
  if (options.watch_every.count() < 1) wrong("watch_every must be at least 1 ms");
  return findings.ToStatus();
}

}  // namespace

NcclDevice::NcclDevice(int ordinal, void* scratch, std::function<absl::Status()> make_current)
    : ordinal_(ordinal), scratch_(scratch), make_current_(std::move(make_current)) {}

void NcclDevice::BeginStep() { thread_ = static_cast<uint64_t>(pthread_self()); }

absl::Status NcclDevice::CheckThread() {
  const uint64_t self = static_cast<uint64_t>(pthread_self());
  uint64_t bound = thread_.load();
  if (bound == self) return absl::OkStatus();
  if (bound == 0 && thread_.compare_exchange_strong(bound, self)) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("issued by another thread than the one that issues the step on cuda:", ordinal_,
                   "; calls of one device need one order, so one thread (BeginStep names it)"));
}

absl::StatusOr<std::vector<std::unique_ptr<NcclCommunicator>>> NcclGroup::Create(
    const NcclApi& api, const std::vector<int>& ranks, const std::vector<NcclMember>& local,
    RendezvousStore* store, const NcclOptions& options) {
  std::map<int, size_t> entry_of;  // by place in `ranks`: the entry of `local`
  for (size_t i = 0; i < local.size(); ++i) {
    const auto place = std::find(ranks.begin(), ranks.end(), local[i].rank);
    if (place != ranks.end()) entry_of[static_cast<int>(place - ranks.begin())] = i;
  }
  RETURN_IF_ERROR(CheckMembers(ranks, local, static_cast<int>(entry_of.size()), store, options));
  std::vector<std::unique_ptr<NcclCommunicator>> members(local.size());
  if (entry_of.empty()) return members;
  std::vector<std::pair<int, std::shared_ptr<NcclDevice>>> seats;
  for (const auto& [place, entry] : entry_of) seats.emplace_back(place, local[entry].device);
  auto room = std::make_shared<Room>(api, ranks, std::move(seats), store, options);
  RETURN_IF_ERROR(room->Open());
  int seat = 0;
  for (const auto& [place, entry] : entry_of) {
    members[entry] = std::make_unique<Member>(room, seat++);
  }
  return members;
}

}  // namespace millrace
