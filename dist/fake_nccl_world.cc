// See fake_nccl_world.h: calls that meet, and the data they move.
#include "dist/fake_nccl_world.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "dist/kernels.h"
#include "graph/base/dtype.h"

namespace millrace {
namespace fake_nccl {

World* world = nullptr;

void Misuse(std::string what) { world->misuse.push_back(std::move(what)); }

namespace {

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

}  // namespace

void Push(Op op) {
  FakeStream* const stream = op.stream;
  stream->Push([op = std::move(op)] { Execute(op); });
}

}  // namespace fake_nccl
}  // namespace millrace
