// The fingerprint of one call, small and flat enough to be sent to other processes, and the
// comparison of two of them. Members whose programs have come apart otherwise hang, or add a
// gradient to a weight; here they are told which two calls do not belong together.
//
//   CallRecord mine = RecordOf(call, index);
//   RETURN_IF_ERROR(Agree(0, records[0], 1, records[1]));
//   // FAILED_PRECONDITION: rank 0 called all_gather 'g3' f32 x 1024 as call 7, rank 1 called ...
#ifndef MILLRACE_DIST_CALL_RECORD_H_
#define MILLRACE_DIST_CALL_RECORD_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "dist/communicator.h"

namespace millrace {

// Trivially copyable, no padding: compared and sent as bytes.
struct CallRecord {
  uint64_t index = 0;  // 1 for the member's first collective; 0 for send and recv
  int64_t count = 0;
  uint64_t tag = 0;
  uint64_t name_hash = 0;  // of the whole name, the same in every process
  int32_t root_or_peer = 0;
  CollectiveKind kind = CollectiveKind::kBarrier;
  DType dtype = DType::kF32;
  ReduceOp reduce = ReduceOp::kSum;
  uint8_t name_size = 0;  // letters kept in `name`
  char name[56] = {};     // the first letters, for messages
};
static_assert(sizeof(CallRecord) == 96, "CallRecord is sent as bytes");

// Fields that mean nothing to the kind of call are left 0, so that they cannot disagree.
CallRecord RecordOf(const Collective& call, uint64_t index);

// "all_gather 'g3' f32 x 1024"; what is 0 or does not apply is left out.
std::string ToText(const CallRecord& record);

// OK when the two belong together, else kFailedPrecondition naming both. Collectives must be the
// same in all; a send and its receive in dtype and count (their names may differ, they are two
// nodes).
absl::Status Agree(int rank_a, const CallRecord& a, int rank_b, const CallRecord& b);

}  // namespace millrace

#endif  // MILLRACE_DIST_CALL_RECORD_H_
