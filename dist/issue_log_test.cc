// What an IssueLog compares and what it can tell of a run that is stuck.
#include "dist/issue_log.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace millrace {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

Collective Make(CollectiveKind kind, const char* name, int peer = 0, int64_t count = 8) {
  Collective c;
  c.kind = kind;
  c.name = name;
  c.count = count;
  c.root_or_peer = peer;
  return c;
}

TEST(IssueLog, TellsTheFirstCallThatEachMemberHasNotComeTo) {
  IssueLog log("data", 6, {1, 2, 4});
  const Collective a = Make(CollectiveKind::kAllGather, "a"),
                   b = Make(CollectiveKind::kBarrier, "b");
  for (int rank : {1, 2, 4}) EXPECT_TRUE(log.Add(rank, a).ok());
  EXPECT_THAT(log.Describe(), Not(HasSubstr("has not issued")));
  EXPECT_TRUE(log.Add(4, b).ok());
  EXPECT_TRUE(log.Add(4, a).ok());
  EXPECT_TRUE(log.Add(1, b).ok());
  const std::string text = log.Describe();
  EXPECT_THAT(text, HasSubstr("group 'data' of 6, 3 in this process"));
  EXPECT_THAT(text, HasSubstr("rank 2 has not issued barrier 'b' (call 2); its last call was "
                              "all_gather 'a' f32 x 8\n"));
  EXPECT_THAT(text, HasSubstr("rank 1 has not issued all_gather 'a' f32 x 8 (call 3); its last "
                              "call was barrier 'b'\n"));
  EXPECT_THAT(text, Not(HasSubstr("rank 4 has not issued")));
}

TEST(IssueLog, WaitingIsWhatIsIssuedAndNotKnownComplete) {
  IssueLog log("g", 2, {0, 1});
  EXPECT_TRUE(log.Waiting().empty());
  for (int i = 0; i < 3; ++i) {
    for (int rank : {0, 1}) EXPECT_TRUE(log.Add(rank, Make(CollectiveKind::kBarrier, "b")).ok());
  }
  log.Complete(0, 2);
  log.Complete(0, 1);  // an older event is no step back
  log.Complete(1, 9);  // more than were issued are not complete
  ASSERT_EQ(log.Waiting().size(), 1u);
  EXPECT_EQ(log.Waiting()[0], (IssueLog::Standing{0, 3, 2}));
}

TEST(IssueLog, TheKthSendMeetsTheKthReceiveAndTheirTagsHaveToAgree) {
  IssueLog log("g", 3, {0, 1});
  Collective send = Make(CollectiveKind::kSend, "s", 1), recv = Make(CollectiveKind::kRecv, "r", 0);
  EXPECT_TRUE(
      log.Add(0, Make(CollectiveKind::kSend, "away", 2, 5)).ok());  // not here: not compared
  for (uint64_t tag : {3, 4}) {
    send.tag = tag;
    EXPECT_TRUE(log.Add(0, send).ok());
  }
  EXPECT_THAT(log.Describe(), HasSubstr("rank 1 has not issued its receive for send 's' f32 x 8 to "
                                        "rank 1 tag 3 of rank 0"));
  recv.tag = 3;
  EXPECT_TRUE(log.Add(1, recv).ok());
  recv.tag = 5;
  const absl::Status why = log.Add(1, recv);
  EXPECT_EQ(why.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(why.message(), HasSubstr("send 's' f32 x 8 to rank 1 tag 4, which meets recv 'r' f32 "
                                       "x 8 from rank 0 tag 5 of rank 1"));
  EXPECT_EQ(log.Add(0, send), why);  // nothing fits any more
}

TEST(IssueLog, ASendAndItsReceiveAgreeInTypeAndCount) {
  for (bool send_first : {false, true}) {
    IssueLog log("g", 2, {0, 1});
    const Collective send = Make(CollectiveKind::kSend, "s", 1, 8);
    const Collective recv = Make(CollectiveKind::kRecv, "r", 0, 9);
    EXPECT_TRUE((send_first ? log.Add(0, send) : log.Add(1, recv)).ok());
    EXPECT_EQ((send_first ? log.Add(1, recv) : log.Add(0, send)).message(),
              send_first
                  ? "g: rank 0 called send 's' f32 x 8 to rank 1, rank 1 called recv 'r' f32 x 9 "
                    "from rank 0"
                  : "g: rank 0 called send 's' f32 x 8 to rank 1, rank 1 called recv 'r' f32 x 9 "
                    "from rank 0");
  }
}

TEST(IssueLog, AMemberThatHasLeftIsOnlyMissedWhereItHasNotCome) {
  IssueLog log("g", 2, {0, 1});
  EXPECT_TRUE(log.Add(0, Make(CollectiveKind::kBarrier, "b")).ok());
  EXPECT_TRUE(log.Add(0, Make(CollectiveKind::kSend, "s", 1)).ok());
  log.Leave(0);
  EXPECT_TRUE(log.Add(1, Make(CollectiveKind::kBarrier, "b")).ok());
  EXPECT_TRUE(log.Add(1, Make(CollectiveKind::kRecv, "r", 0)).ok());
  EXPECT_EQ(log.Add(1, Make(CollectiveKind::kSend, "s", 0)).code(), absl::StatusCode::kCancelled);
}

}  // namespace
}  // namespace millrace
