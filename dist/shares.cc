// See shares.h.
#include "dist/shares.h"

#include <algorithm>

#include "absl/container/inlined_vector.h"
#include "dist/kernels.h"

namespace millrace {
namespace {

// Results that fill the last-level cache are not found there by whoever reads them.
constexpr int64_t kStreamBytes = 16 << 20;

// Chunks of an all_reduce begin at whole lines, so that no two shares write into one.
constexpr int64_t kLineElements = 64;

const char* At(const void* p, int64_t bytes) { return static_cast<const char*>(p) + bytes; }
char* At(void* p, int64_t bytes) { return static_cast<char*>(p) + bytes; }

int64_t ChunkBegin(int64_t count, int64_t rank, int64_t size) {
  const int64_t lines = (count + kLineElements - 1) / kLineElements;
  return std::min(count, (lines * rank / size) * kLineElements);
}

}  // namespace

int64_t BytesWritten(const Collective& call, int size) {
  const int64_t bytes = call.count * SizeOf(call.dtype);
  switch (call.kind) {
    case CollectiveKind::kAllGather:
    case CollectiveKind::kAllToAll:
      return bytes * size * size;
    case CollectiveKind::kBarrier:
      return 0;
    case CollectiveKind::kSend:
    case CollectiveKind::kRecv:
      return bytes;
    default:
      return bytes * size;
  }
}

void DoShare(int rank, absl::Span<const Collective> calls) {
  const Collective& mine = calls[rank];
  const int size = static_cast<int>(calls.size());
  const int64_t element = SizeOf(mine.dtype);
  const int64_t bytes = mine.count * element;
  if (mine.kind == CollectiveKind::kBarrier || bytes == 0) return;
  const Store store = BytesWritten(mine, size) >= kStreamBytes ? Store::kStream : Store::kCached;
  // Copies begin behind the own rank: otherwise all members read the memory of rank 0 first.
  switch (mine.kind) {
    case CollectiveKind::kAllGather:
      for (int i = 1; i <= size; ++i) {
        const int peer = (rank + i) % size;
        CopyBytes(At(mine.recv, peer * bytes), calls[peer].send, bytes, store);
      }
      return;
    case CollectiveKind::kAllToAll:
      for (int i = 1; i <= size; ++i) {
        const int peer = (rank + i) % size;
        CopyBytes(At(mine.recv, peer * bytes), At(calls[peer].send, rank * bytes), bytes, store);
      }
      return;
    case CollectiveKind::kBroadcast:
      if (mine.recv != nullptr) CopyBytes(mine.recv, calls[mine.root_or_peer].send, bytes, store);
      return;
    case CollectiveKind::kReduceScatter: {
      absl::InlinedVector<const void*, 16> srcs;
      for (const Collective& c : calls) srcs.push_back(At(c.send, rank * bytes));
      void* const dst[] = {mine.recv};
      ReduceInRankOrder(mine.dtype, mine.reduce, srcs, dst, mine.count, store);
      return;
    }
    case CollectiveKind::kAllReduce: {
      const int64_t begin = ChunkBegin(mine.count, rank, size);
      const int64_t end = rank + 1 == size ? mine.count : ChunkBegin(mine.count, rank + 1, size);
      absl::InlinedVector<const void*, 16> srcs;
      absl::InlinedVector<void*, 16> dsts;
      for (const Collective& c : calls) {
        srcs.push_back(At(c.send, begin * element));
        dsts.push_back(At(c.recv, begin * element));
      }
      ReduceInRankOrder(mine.dtype, mine.reduce, srcs, dsts, end - begin, store);
      return;
    }
    default:
      return;
  }
}

void DoTransfer(const Collective& send, const Collective& recv) {
  const int64_t bytes = send.count * SizeOf(send.dtype);
  CopyBytes(recv.recv, send.send, bytes, bytes >= kStreamBytes ? Store::kStream : Store::kCached);
}

}  // namespace millrace
