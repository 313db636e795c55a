// The one door to communication: collectives and point-to-point transfers of one member (rank) of
// one group, on raw spans. Back ends are the ranks of one process (in_process.h), MPI and NCCL;
// ops/ and the executor know only this interface, so a plan runs unchanged on any of them.
//
//   Collective c;
//   c.kind = CollectiveKind::kAllReduce; c.dtype = DType::kF32; c.count = n;
//   c.send = c.recv = grad;                          // in place
//   c.name = "reduce_block_7";                       // the node, for messages
//   comm->Start(c, [&](absl::Status s) { done.put(s); });
//   RETURN_IF_ERROR(Run(*comm, c));                  // or blocking
//
// Order. Collectives (everything but send and recv) of one member execute in the order they were
// started; the k-th collective of every member belongs together and must agree in kind, dtype,
// count, reduce, root, tag and name. Sends and receives stand outside that order: the k-th send of
// (source, destination, tag) meets the k-th receive of it, whatever else goes on, so two members
// that both send first do not deadlock.
//
// `done`. Called exactly once, on a thread of the communicator or within a call of Start or Abort
// by any member. For one member the `done`s of collectives come in call order, one returning before
// the next is called; those of one (source, destination, tag) likewise. After an abort the order is
// open. A `done` must be short and must not block; it may call Start, Abort and Describe, but not
// destroy a communicator.
//
// Buffers. From Start to `done` the caller neither writes what the call reads nor touches what it
// writes. With `done` no peer reads or writes the buffers any more: they may be reused or freed at
// once.
//
// Errors. An invalid call, or calls of two members that do not agree, end the group as Abort does,
// before any byte of the call has moved: from there on the members' programs are not the same.
//
// Threads. Start on one member: one thread at a time (the order of calls is their meaning);
// different members: any threads at the same time. Abort and Describe: any thread, any time.
#ifndef MILLRACE_DIST_COMMUNICATOR_H_
#define MILLRACE_DIST_COMMUNICATOR_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "graph/base/dtype.h"

namespace millrace {

enum class CollectiveKind : uint8_t {
  kAllGather,      // recv[p] = send of p, for all p
  kReduceScatter,  // recv = reduction over p of slice `rank` of send of p
  kAllReduce,      // recv = reduction over p of send of p
  kBroadcast,      // recv = send of root
  kAllToAll,       // recv[p] = slice `rank` of send of p
  kBarrier,        // ends when all members have started it; no buffers
  kSend,
  kRecv,
};

// Reductions are elementwise in rank order, ((r0 + r1) + r2) + ..., on back ends that promise it
// (in process, MPI), so the result does not depend on how a buffer is cut. bf16 and f16 are reduced
// in f32 and rounded once. Integers wrap. kMax hands on a NaN. Sums of i8, u8 and bool are refused:
// they overflow.
enum class ReduceOp : uint8_t { kSum, kMax };

// One call of one member. `count` is in elements of `dtype`; N is the size of the group.
//
//   kind            elements of send   elements of recv   in place when
//   all_gather      count              N * count          send == recv + rank * count
//   reduce_scatter  N * count          count              recv == send + rank * count
//   all_reduce      count              count              send == recv
//   broadcast       count (root only)  count              send == recv; the root may leave recv out
//   all_to_all      N * count          N * count          never
//   send / recv     count / -          - / count          -
//
// Any other overlap of the two is refused. Pointers are aligned to one element; they may be null
// when count is 0. In-place calls are safe because a back end lets only the one that overwrites an
// element read it, and only before.
struct Collective {
  CollectiveKind kind = CollectiveKind::kBarrier;
  DType dtype = DType::kF32;
  ReduceOp reduce = ReduceOp::kSum;  // all_reduce and reduce_scatter only
  const void* send = nullptr;
  void* recv = nullptr;
  int64_t count = 0;
  int root_or_peer = 0;  // root of a broadcast, destination of a send, source of a recv
  uint64_t tag = 0;      // below 2^63; for collectives only compared
  std::string name;      // the plan's node; the same on all members of a collective
};

class Communicator {
 public:
  // Calls still pending end as with Abort, for all members; waits for their `done`s.
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;

  // Never waits for other members. May do short work and call `done`s (of any member) before it
  // returns.
  virtual void Start(const Collective& call, std::function<void(absl::Status)> done) = 0;

  // For communicators of devices (native_streams() is true): puts the call at the end of the given native stream
  // (cudaStream_t) and returns; it is complete when the stream has come past it. Same order rules as Start. The
  // default is kUnimplemented.
  virtual bool native_streams() const { return false; }
  virtual absl::Status Issue(const Collective& call, void* native_stream);

  // Ends all pending and later calls of all members with `why`; a call whose data is already moving
  // may still end with OK. The first reason stays. The group is of no use afterwards and must be
  // rebuilt.
  virtual void Abort(const absl::Status& why) = 0;

  // What every member has started and what it waits for, a line each, for reports of a stuck run:
  // "rank 1 has not joined all_gather 'block_7' f32 x 1024 (call 12); its last call was barrier 'b'
  // (call 11)".
  virtual std::string Describe() const = 0;
};

// Starts and waits. Not for the only thread of an inline group: nobody would start the other
// members.
absl::Status Run(Communicator& communicator, const Collective& call);

// "all_gather".
absl::string_view Name(CollectiveKind kind);
inline bool IsPointToPoint(CollectiveKind kind) {
  return kind == CollectiveKind::kSend || kind == CollectiveKind::kRecv;
}
inline bool Reduces(CollectiveKind kind) {
  return kind == CollectiveKind::kAllReduce || kind == CollectiveKind::kReduceScatter;
}

// The rules above, as far as one member can see them; every back end asks this first.
// kInvalidArgument.
absl::Status Validate(const Collective& call, int rank, int size);

}  // namespace millrace

#endif  // MILLRACE_DIST_COMMUNICATOR_H_
