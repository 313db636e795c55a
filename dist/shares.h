// What one member does of a collective whose buffers it can all reach: the data movement of
// in-process groups, apart from their threads. The shares of all members may run at the same time
// or one after the other, in any order; together they are the collective.
#ifndef MILLRACE_DIST_SHARES_H_
#define MILLRACE_DIST_SHARES_H_

#include <cstdint>

#include "absl/types/span.h"
#include "dist/communicator.h"

namespace millrace {

// `calls[r]` is the call of rank r; they agree (call_record.h). The share of a rank is
//   all_gather, broadcast, all_to_all   to fill its own recv from the peers' sends
//   reduce_scatter                      to reduce slice `rank` of all sends into its own recv
//   all_reduce                          to reduce chunk `rank` of all sends into every recv
// so an element that an in-place call overwrites is read by the share that overwrites it and by no
// other.
void DoShare(int rank, absl::Span<const Collective> calls);

// Copies a matched send into its receive.
void DoTransfer(const Collective& send, const Collective& recv);

// Bytes that all shares together write.
int64_t BytesWritten(const Collective& call, int size);

}  // namespace millrace

#endif  // MILLRACE_DIST_SHARES_H_
