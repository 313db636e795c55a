// How groups of NCCL communicators fail and end: at every function of NCCL, by a peer that does not
// come, by calls that do not agree, by a deadline, by a member that is destroyed. What every such
// test asks besides: the streams go on, no communicator is left, NCCL was not misused.
#include <algorithm>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "dist/nccl_testing.h"

namespace millrace {
namespace {

using namespace testing_dist;  // NOLINT: tests of this folder
using namespace testing_nccl;  // NOLINT
using ::testing::HasSubstr;
using ::testing::Not;

// Two floats each, of every kind but send and recv.
Collective Small(CollectiveKind kind, std::vector<float>& send, std::vector<float>& recv) {
  return Make(kind, absl::StrCat("small_", Name(kind)), &send, &recv, 2);
}

TEST_F(NcclTest, AnInitThatFailsAtAnyCallLeavesNothingAndSaysWhere) {
  const struct {
    const char* function;
    int nth;
    const char* said;
  } cases[] = {{"GetUniqueId", 1, "ncclGetUniqueId"},
               {"GroupStart", 1, "ncclGroupStart"},
               {"CommInitRankConfig", 1, "rank 0 (cuda:0): ncclCommInitRankConfig"},
               {"CommInitRankConfig", 2, "rank 1 (cuda:1): ncclCommInitRankConfig"},
               {"CommInitRankConfig", 3, "rank 2 (cuda:2): ncclCommInitRankConfig"},
               {"GroupEnd", 1, "ncclGroupEnd"},
               {"CommGetAsyncError", 1, "rank 0 (cuda:0): making the communicator"},
               {"CommGetAsyncError", 5, "rank 1 (cuda:1): making the communicator"}};
  for (const auto& c : cases) {
    fake_.Fail(c.function, c.nth, NcclResult::kSystemError);
    const absl::Status status = CreateError(3);
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << c.function;
    EXPECT_THAT(status.message(), HasSubstr(c.said));
    EXPECT_THAT(status.message(), HasSubstr("system error (said by the fake)"));
    EXPECT_EQ(fake_.living(), 0) << c.function << " " << c.nth;
  }
  EXPECT_TRUE(CreateError(3).ok());  // and without a fault all is well
}

TEST_F(NcclTest, AnErrorThatComesUpLaterInTheInitIsFoundByAsking) {
  fake_.FailLater(2, 0, NcclResult::kRemoteError);
  EXPECT_THAT(CreateError(3).message(), HasSubstr("rank 2 (cuda:2): making the communicator: "
                                                  "remote error"));
}

TEST_F(NcclTest, ADeviceThatCannotBeMadeCurrentEndsTheInit) {
  auto local = Local(0, 2);
  local[1].device = std::make_shared<NcclDevice>(
      1, scratch_[1].get(), [] { return absl::NotFoundError("no such device"); });
  const absl::Status status =
      NcclGroup::Create(fake_.api(), {0, 1}, local, nullptr, Quick("data")).status();
  EXPECT_EQ(status.message(), "group 'data', rank 1: no such device");
}

TEST_F(NcclTest, AnInitThatNeverEndsIsGivenUpAndNamesWhoIsNotReady) {
  fake_.HoldInit(1);
  NcclOptions options = Quick();
  options.init_deadline = milliseconds(60);
  const absl::Status status = CreateError(2, options);
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(status.message(), HasSubstr("all ranks came, but NCCL did not finish for rank 0, 1"));
}

TEST_F(NcclTest, RanksThatDoNotComeAreNamedByThoseThatDid) {
  const auto store = MakeInProcessStore();
  NcclOptions options = Quick();
  options.init_deadline = milliseconds(300);
  const auto local = Local(0, 5);
  absl::Status first, second;
  // Rank 0 gives an id, so NCCL itself waits for 2 and 4.
  std::thread other([&] {
    second = NcclGroup::Create(fake_.api(), Ranks(5), {local[1], local[3]}, store.get(), options)
                 .status();
  });
  first = NcclGroup::Create(fake_.api(), Ranks(5), {local[0]}, store.get(), options).status();
  other.join();
  for (const absl::Status& s : {first, second}) {
    EXPECT_THAT(s.message(), HasSubstr("rank 2, 4 did not come to in-process store")) << s;
  }
  // Without rank 0 there is no id.
  options.name = "h";
  first = NcclGroup::Create(fake_.api(), Ranks(5), {local[1]}, store.get(), options).status();
  EXPECT_THAT(first.message(), HasSubstr("rank 0, 2, 3, 4 did not come"));
}

TEST_F(NcclTest, AnInitThatFailsInOneProcessFailsInTheOthersWithItsReason) {
  const auto store = MakeInProcessStore();
  auto local = Local(0, 3);
  local[2].device = std::make_shared<NcclDevice>(
      2, scratch_[2].get(), [] { return absl::NotFoundError("fell off the bus"); });
  std::vector<absl::Status> ends(3);
  std::vector<std::thread> threads;
  for (int r = 0; r < 3; ++r) {
    threads.emplace_back([&, r] {
      ends[r] = NcclGroup::Create(fake_.api(), Ranks(3), {local[r]}, store.get(), Quick()).status();
    });
  }
  for (std::thread& t : threads) t.join();
  for (const absl::Status& s : ends) EXPECT_THAT(s.message(), HasSubstr("fell off the bus"));
  EXPECT_THAT(ends[0].message(), HasSubstr("ended by another process"));
}

TEST_F(NcclTest, ListsThatMakeNoGroupAreRefusedWithAllThatIsWrong) {
  auto local = Local(0, 3);
  local[1].device = local[0].device;
  local[2].device = std::make_shared<NcclDevice>(2, nullptr, nullptr);
  NcclOptions options = Quick();
  options.memory.channels = 0;
  const absl::Status status =
      NcclGroup::Create(fake_.api(), {0, 1, 1, 2, 9}, local, nullptr, options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  for (const char* what : {"rank 1 is listed twice", "ranks 0 and 1 share cuda:0",
                           "rank 2 has no scratch memory", "a store is needed", "channels is 0"}) {
    EXPECT_THAT(status.message(), HasSubstr(what));
  }
}

TEST_F(NcclTest, ACallThatFailsAtAnyFunctionEndsTheGroupForAllMembers) {
  const struct {
    CollectiveKind kind;
    const char* function;
    int nth;
  } cases[] = {{CollectiveKind::kAllGather, "AllGather", 1},
               {CollectiveKind::kReduceScatter, "ReduceScatter", 2},
               {CollectiveKind::kAllReduce, "AllReduce", 2},
               {CollectiveKind::kBroadcast, "Broadcast", 1},
               {CollectiveKind::kBarrier, "AllReduce", 1},
               {CollectiveKind::kAllToAll, "GroupStart", 1},
               {CollectiveKind::kAllToAll, "Send", 3},
               {CollectiveKind::kAllToAll, "Recv", 2},
               {CollectiveKind::kAllToAll, "GroupEnd", 2}};
  for (const auto& c : cases) {
    SCOPED_TRACE(c.function);
    streams_.clear();
    const NcclMembers members = Group(2);
    std::vector<float> send[2], recv[2];
    fake_.Fail(c.function, c.nth, NcclResult::kUnhandledCudaError);
    absl::Status ends;
    for (int r = 0; r < 2; ++r) {
      send[r].resize(4);
      recv[r].resize(4);
      ends.Update(members[r]->Issue(Small(c.kind, send[r], recv[r]), stream(r)));
    }
    EXPECT_THAT(ends.message(), HasSubstr(absl::StrCat("small_", Name(c.kind), "': cuda error")));
    EXPECT_TRUE(AllFreed());
    EXPECT_TRUE(Synchronize());
    for (int r = 0; r < 2; ++r) {  // the first reason stays
      members[r]->Abort(absl::InternalError("another"));
      EXPECT_EQ(members[r]->Issue(Small(c.kind, send[r], recv[r]), stream(r)), ends);
    }
  }
}

TEST_F(NcclTest, AnErrorOnADeviceIsFoundByTheWatchdogAndReleasesTheStreams) {
  fake_.FailLater(1, 2, NcclResult::kRemoteError);
  const NcclMembers members = Group(3);
  for (int r = 0; r < 2; ++r) {  // rank 2 never comes, so both streams wait
    for (const char* name : {"a", "b"}) {
      members[r]->Issue(Make(CollectiveKind::kBarrier, name), stream(r)).IgnoreError();
    }
  }
  EXPECT_TRUE(Synchronize());
  const absl::Status why = members[2]->Issue(Make(CollectiveKind::kBarrier, "a"), stream(2));
  EXPECT_THAT(why.message(), HasSubstr("rank 1 (cuda:1): "));
  EXPECT_THAT(why.message(), HasSubstr("remote error"));
  EXPECT_THAT(members[0]->Describe(), HasSubstr("ended: group 'g', rank 1"));
}

TEST_F(NcclTest, AnErrorWhileNcclTakesACallEndsTheIssue) {
  fake_.SetPolls(1, 1 << 30);
  fake_.FailLater(0, 1, NcclResult::kInternalError);
  const NcclMembers members = Group(2);
  const absl::Status why = members[0]->Issue(Make(CollectiveKind::kBarrier, "a"), stream(0));
  EXPECT_THAT(why.message(), HasSubstr("group 'g', rank 0 (cuda:0): "));
}

TEST_F(NcclTest, ACallThatNcclDoesNotTakeIsGivenUpAtTheDeadline) {
  fake_.SetPolls(1, 1 << 30);
  NcclOptions options = Quick();
  options.issue_deadline = milliseconds(30);
  const NcclMembers members = Group(2, options);
  const absl::Status why = members[0]->Issue(Make(CollectiveKind::kBarrier, "a"), stream(0));
  EXPECT_EQ(why.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(why.message(), HasSubstr("NCCL has not taken barrier 'a' within 30 ms"));
  EXPECT_THAT(why.message(), HasSubstr("rank 1 has not issued barrier 'a' (call 1)"));
}

TEST_F(NcclTest, AbortReleasesStreamsAndIssuersOfAllMembers) {
  fake_.SetPolls(1, 1 << 30);
  const NcclMembers members = Group(4);
  std::vector<absl::Status> ends(4);
  std::vector<std::thread> threads;
  for (int r = 0; r < 3; ++r) {
    threads.emplace_back(
        [&, r] { ends[r] = members[r]->Issue(Make(CollectiveKind::kBarrier, "a"), stream(r)); });
  }
  while (members[0]->issued() + members[1]->issued() + members[2]->issued() < 3) {
    std::this_thread::sleep_for(milliseconds(1));
  }
  members[3]->Abort(absl::ResourceExhaustedError("out of memory on rank 3"));
  for (std::thread& t : threads) t.join();
  for (int r = 0; r < 3; ++r) EXPECT_EQ(ends[r].message(), "out of memory on rank 3");
  EXPECT_TRUE(Synchronize());
  EXPECT_TRUE(AllFreed());
}

TEST_F(NcclTest, AnAbortReachesTheOtherProcessesThroughTheStore) {
  const auto store = MakeInProcessStore();
  const auto local = Local(0, 3);
  std::vector<NcclMembers> members(3);
  std::vector<std::thread> threads;
  for (int r = 0; r < 3; ++r) {
    threads.emplace_back([&, r] {
      auto made = NcclGroup::Create(fake_.api(), Ranks(3), {local[r]}, store.get(), Quick());
      EXPECT_TRUE(made.ok()) << made.status();
      if (made.ok()) members[r] = *std::move(made);
      if (r != 1)
        members[r][0]->Issue(Make(CollectiveKind::kBarrier, "a"), stream(r)).IgnoreError();
    });
  }
  for (std::thread& t : threads) t.join();
  members[1][0]->Abort(absl::InternalError("rank 1 saw a NaN"));
  EXPECT_TRUE(Synchronize());
  EXPECT_TRUE(AllFreed());
  EXPECT_THAT(members[2][0]->Describe(), HasSubstr("ended by another process: rank 1 saw a NaN"));
}

TEST_F(NcclTest, WithoutProgressTheGroupEndsAndNamesWhoHasNotCome) {
  NcclOptions options = Quick();
  options.progress_deadline = milliseconds(100);
  const NcclMembers members = Group(3, options);
  for (int r = 0; r < 3; ++r) {
    ASSERT_TRUE(members[r]->Issue(Make(CollectiveKind::kBarrier, "b"), stream(r)).ok());
  }
  ASSERT_TRUE(Synchronize());
  for (const auto& member : members) member->NoteComplete(1);
  std::this_thread::sleep_for(milliseconds(250));  // nothing is waited for: no deadline
  std::vector<float> send(2), recv(6);
  const Collective gather = Make(CollectiveKind::kAllGather, "block_7", &send, &recv, 2);
  Collective second = gather;
  std::vector<float> recv2(6);
  second.recv = recv2.data();
  ASSERT_TRUE(members[0]->Issue(gather, stream(0)).ok());
  ASSERT_TRUE(members[2]->Issue(second, stream(2)).ok());
  EXPECT_TRUE(Synchronize());  // the streams are released
  const absl::Status why = members[1]->Issue(gather, stream(1));
  EXPECT_EQ(why.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(why.message(), HasSubstr("rank 0, 2 made no progress for 100 ms"));
  EXPECT_THAT(why.message(), HasSubstr("rank 1 has not issued all_gather 'block_7' f32 x 2 "
                                       "(call 2); its last call was barrier 'b'"));
  EXPECT_THAT(why.message(), HasSubstr("rank 0 has issued 2 calls, of which 1 are complete"));
}

TEST_F(NcclTest, TwoGroupsIssuedInOppositeOrdersAreStuckUntilTheWatchdogEndsThem) {
  NcclOptions options = Quick("data");
  options.progress_deadline = milliseconds(150);
  const auto local = Local(0, 2);
  auto a = NcclGroup::Create(fake_.api(), {0, 1}, local, nullptr, options);
  options.name = "tensor";
  auto b = NcclGroup::Create(fake_.api(), {0, 1}, local, nullptr, options);
  ASSERT_TRUE(a.ok() && b.ok());
  const auto issue = [&](NcclMembers& group, int r) {
    EXPECT_TRUE(group[r]->Issue(Make(CollectiveKind::kBarrier, "x"), stream(r)).ok());
  };
  issue(*a, 0);
  issue(*b, 0);
  issue(*b, 1);
  issue(*a, 1);
  EXPECT_TRUE(Synchronize());
  // The end of one lets the other go on.
  EXPECT_THAT(absl::StrCat((*a)[0]->Describe(), (*b)[0]->Describe()),
              HasSubstr("rank 0, 1 made no progress for 150 ms"));
}

TEST_F(NcclTest, CallsThatDoNotAgreeEndTheGroupBeforeNcclSeesThem) {
  std::vector<float> x(8), y(8);
  const Collective base = Make(CollectiveKind::kAllReduce, "grad", &x, &x, 4);
  std::vector<Collective> others(5, base);
  for (Collective& c : others) c.send = c.recv = y.data();
  others[0].kind = CollectiveKind::kBroadcast;
  others[1].dtype = DType::kI32;
  others[2].count = 3;
  others[3].name = "grad_2";
  others[4].reduce = ReduceOp::kMax;
  for (const Collective& other : others) {
    streams_.clear();
    const NcclMembers members = Group(2);
    const int before = fake_.calls("AllReduce") + fake_.calls("Broadcast");
    ASSERT_TRUE(members[0]->Issue(base, stream(0)).ok());
    const absl::Status why = members[1]->Issue(other, stream(1));
    EXPECT_EQ(why.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(why.message(), HasSubstr("g: rank 0 called all_reduce 'grad' f32 x 4"));
    EXPECT_THAT(why.message(), HasSubstr("rank 1 called "));
    EXPECT_EQ(fake_.calls("AllReduce") + fake_.calls("Broadcast"), before + 1);
    EXPECT_TRUE(Synchronize());
    EXPECT_EQ(members[0]->Issue(base, stream(0)), why);
  }
}

TEST_F(NcclTest, ACallThatIsWrongByItselfEndsTheGroup) {
  const NcclMembers members = Group(2);
  std::vector<float> x(2);
  const absl::Status why =
      members[1]->Issue(Make(CollectiveKind::kAllReduce, "r", &x, nullptr, 2), stream(1));
  EXPECT_EQ(why.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(members[0]->Issue(Make(CollectiveKind::kBarrier, "b"), stream(0)), why);
}

TEST_F(NcclTest, OneThreadIssuesForADeviceUntilTheNextStep) {
  const auto local = Local(0, 1);
  auto members = NcclGroup::Create(fake_.api(), {0}, local, nullptr, Quick());
  ASSERT_TRUE(members.ok());
  const Collective call = Make(CollectiveKind::kBarrier, "b");
  EXPECT_TRUE((*members)[0]->Issue(call, stream(0)).ok());
  absl::Status first, second;
  std::thread([&] {
    local[0].device->BeginStep();
    first = (*members)[0]->Issue(call, stream(0));
  }).join();
  EXPECT_TRUE(first.ok()) << first;
  second = (*members)[0]->Issue(call, stream(0));
  EXPECT_EQ(second.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(second.message(), HasSubstr("another thread"));
}

TEST_F(NcclTest, DestroyedMembersLetTheCallsInTheStreamsEndAndAreNotAborted) {
  Collective call;
  call.kind = CollectiveKind::kAllGather;
  call.count = 64;
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    streams_.clear();
    const auto local = Local(0, 3, seed);
    auto members = NcclGroup::Create(fake_.api(), Ranks(3), local, nullptr, Quick());
    ASSERT_TRUE(members.ok());
    const Trial trial(call, 3, false, seed);
    for (int r = 0; r < 3; ++r) {
      ASSERT_TRUE((*members)[r]->Issue(trial.calls[r], stream(r)).ok());
      (*members)[r].reset();  // others still issue the same call
    }
    EXPECT_EQ(fake_.living(), 0);
    EXPECT_TRUE(Synchronize());
    EXPECT_EQ(trial.Difference(), "");
  }
  EXPECT_EQ(fake_.calls("CommAbort"), 0);
  EXPECT_EQ(fake_.calls("CommDestroy"), 15);
}

TEST_F(NcclTest, CallsThatNeverEndAreAbortedWhenTheLastMemberIsDestroyed) {
  NcclOptions options = Quick();
  options.close_deadline = milliseconds(50);
  NcclMembers members = Group(2, options);
  ASSERT_TRUE(members[0]->Issue(Make(CollectiveKind::kBarrier, "b"), stream(0)).ok());
  members.clear();
  EXPECT_EQ(fake_.living(), 0);
  EXPECT_TRUE(Synchronize());
}

TEST_F(NcclTest, FailuresOfFreeingLeaveNothing) {
  for (const char* function : {"CommFinalize", "CommDestroy", "CommAbort"}) {
    streams_.clear();
    NcclMembers members = Group(2);
    fake_.Fail(function, 1, NcclResult::kInternalError);
    if (std::string(function) == "CommAbort") members[0]->Abort(absl::InternalError("over"));
    members.clear();
    EXPECT_EQ(fake_.living(), 0) << function;
  }
}

TEST_F(NcclTest, AMemberThatHasLeftIsNotWaitedFor) {
  NcclMembers members = Group(2);
  members[0].reset();
  const absl::Status why = members[1]->Issue(Make(CollectiveKind::kBarrier, "late"), stream(1));
  EXPECT_EQ(why.code(), absl::StatusCode::kCancelled);
  EXPECT_THAT(why.message(), HasSubstr("rank 0 has left; it will not join barrier 'late'"));
}

TEST_F(NcclTest, StartSaysToUseIssue) {
  const NcclMembers members = Group(1);
  EXPECT_TRUE(members[0]->native_streams());
  const absl::Status status = millrace::Run(*members[0], Make(CollectiveKind::kBarrier, "b"));
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(status.message(), HasSubstr("use Issue"));
}

}  // namespace
}  // namespace millrace
