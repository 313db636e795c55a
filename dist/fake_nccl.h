// NCCL without GPUs, for tests: the table of nccl_api.h over threads and host memory. Streams are
// queues that a thread each works through; a call moves real data once the streams of all members
// have come to it; communicators are non-blocking, so that whatever NCCL may leave "in progress" is.
// It is as strict as NCCL can be: calls of one communicator run one after another whatever their
// streams, and what NCCL forbids is noted as misuse.
//
//   FakeNccl fake;                                     // one at a time
//   FakeStream stream(seed);                           // fake_stream.h
//   fake.Fail("AllGather", 3, NcclResult::kSystemError);
//   ... NcclGroup::Create(fake.api(), ...) ... Issue(call, stream.handle()) ...
//   EXPECT_TRUE(stream.Synchronize(seconds(10)));
//   EXPECT_THAT(fake.misuse(), IsEmpty());
#ifndef MILLRACE_DIST_FAKE_NCCL_H_
#define MILLRACE_DIST_FAKE_NCCL_H_

#include <string>
#include <vector>

#include "dist/nccl_api.h"

namespace millrace {

class FakeNccl {
 public:
  FakeNccl();
  ~FakeNccl();
  const NcclApi& api() const { return api_; }

  // ---- Faults.
  // The nth call of the function from now on (1: the next) returns this and does nothing.
  void Fail(const std::string& function, int nth, NcclResult result);
  // Communicators of this rank tell this error once they were given `calls` calls.
  void FailLater(int rank, int calls, NcclResult result);
  // Communicators that this rank belongs to never get ready.
  void HoldInit(int rank);
  // How often a communicator says "in progress" when all have come; after each call.
  void SetPolls(int init, int call);

  // ---- What was seen.
  int calls(const std::string& function) const;
  int living() const;  // communicators neither destroyed nor aborted
  std::vector<std::string> misuse() const;

 private:
  NcclApi api_;
};

}  // namespace millrace

#endif  // MILLRACE_DIST_FAKE_NCCL_H_
