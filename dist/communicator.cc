// The part of the interface that is the same for all back ends: names, rules of one call, blocking
// Run.
#include "dist/communicator.h"

#include <condition_variable>
#include <limits>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"

namespace millrace {
namespace {

// Compared as integers: relational operators on pointers into different objects are not defined.
bool Overlap(const void* a, int64_t a_bytes, const void* b, int64_t b_bytes) {
  const uint64_t x = reinterpret_cast<uintptr_t>(a), y = reinterpret_cast<uintptr_t>(b);
  return a_bytes > 0 && b_bytes > 0 && x < y + b_bytes && y < x + a_bytes;
}

absl::Status Wrong(const Collective& call, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(Name(call.kind), " '", call.name, "' ",
                                                 Name(call.dtype), " x ", call.count, ": ", what));
}

// How many elements a call reads from send and writes to recv.
struct Extent {
  int64_t send = 0, recv = 0;
};

Extent ExtentOf(const Collective& c, int rank, int size) {
  switch (c.kind) {
    case CollectiveKind::kAllGather:
      return {c.count, c.count * size};
    case CollectiveKind::kReduceScatter:
      return {c.count * size, c.count};
    case CollectiveKind::kAllReduce:
      return {c.count, c.count};
    case CollectiveKind::kBroadcast:
      if (rank != c.root_or_peer) return {0, c.count};
      return {c.count, c.recv == nullptr ? 0 : c.count};
    case CollectiveKind::kAllToAll:
      return {c.count * size, c.count * size};
    case CollectiveKind::kSend:
      return {c.count, 0};
    case CollectiveKind::kRecv:
      return {0, c.count};
    case CollectiveKind::kBarrier:
      break;
  }
  return {};
}

bool InPlace(const Collective& c, int rank) {
  const int64_t slice = c.count * SizeOf(c.dtype) * rank;
  const uintptr_t send = reinterpret_cast<uintptr_t>(c.send);
  const uintptr_t recv = reinterpret_cast<uintptr_t>(c.recv);
  switch (c.kind) {
    case CollectiveKind::kAllGather:
      return send == recv + slice;
    case CollectiveKind::kReduceScatter:
      return recv == send + slice;
    case CollectiveKind::kAllReduce:
    case CollectiveKind::kBroadcast:
      return send == recv;
    default:
      return false;
  }
}

}  // namespace

absl::string_view Name(CollectiveKind kind) {
  switch (kind) {
    case CollectiveKind::kAllGather:
      return "all_gather";
    case CollectiveKind::kReduceScatter:
      return "reduce_scatter";
    case CollectiveKind::kAllReduce:
      return "all_reduce";
    case CollectiveKind::kBroadcast:
      return "broadcast";
    case CollectiveKind::kAllToAll:
      return "all_to_all";
    case CollectiveKind::kBarrier:
      return "barrier";
    case CollectiveKind::kSend:
      return "send";
    case CollectiveKind::kRecv:
      return "recv";
  }
  return "?";
}

absl::Status Validate(const Collective& call, int rank, int size) {
  const int64_t bytes = SizeOf(call.dtype);
  if (call.tag >> 63 != 0) return Wrong(call, "tag is not below 2^63");
  if (call.kind == CollectiveKind::kBarrier) return absl::OkStatus();
  if (call.count < 0) return Wrong(call, "count is negative");
  if (call.count > std::numeric_limits<int64_t>::max() / bytes / size) {
    return Wrong(call, "count is too large");
  }
  if (call.kind == CollectiveKind::kBroadcast || IsPointToPoint(call.kind)) {
    if (call.root_or_peer < 0 || call.root_or_peer >= size) {
      return Wrong(call,
                   absl::StrCat("root or peer ", call.root_or_peer, " is not in [0, ", size, ")"));
    }
    if (IsPointToPoint(call.kind) && call.root_or_peer == rank) {
      return Wrong(call, absl::StrCat("peer ", rank, " is the caller itself"));
    }
  }
  if (Reduces(call.kind) && call.reduce == ReduceOp::kSum && bytes == 1) {
    return Wrong(call, "sums of this type overflow; reduce in i32 or wider");
  }
  const Extent extent = ExtentOf(call, rank, size);
  if (extent.send > 0 && call.send == nullptr) return Wrong(call, "send is null");
  if (extent.recv > 0 && call.recv == nullptr) return Wrong(call, "recv is null");
  if ((extent.send > 0 && reinterpret_cast<uintptr_t>(call.send) % bytes != 0) ||
      (extent.recv > 0 && reinterpret_cast<uintptr_t>(call.recv) % bytes != 0)) {
    return Wrong(call, "a buffer is not aligned to one element");
  }
  if (!InPlace(call, rank) &&
      Overlap(call.send, extent.send * bytes, call.recv, extent.recv * bytes)) {
    return Wrong(call, "send and recv overlap in a way that is not the in-place form of the call");
  }
  return absl::OkStatus();
}

absl::Status Communicator::Issue(const Collective& call, void*) {
  return absl::UnimplementedError(
      absl::StrCat(Name(call.kind), " '", call.name, "': this communicator has no device streams"));
}

absl::Status Run(Communicator& communicator, const Collective& call) {
  std::mutex mu;
  std::condition_variable ended;
  bool over = false;
  absl::Status result;
  communicator.Start(call, [&](absl::Status status) {
    std::lock_guard<std::mutex> lock(mu);
    result = std::move(status);
    over = true;
    ended.notify_one();  // within the lock: the waiter frees all of this as soon as it may go on
  });
  std::unique_lock<std::mutex> lock(mu);
  ended.wait(lock, [&] { return over; });
  return result;
}

}  // namespace millrace
