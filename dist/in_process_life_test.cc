// How in-process groups fail, report, end and rest.
#include <time.h>

#include <chrono>
#include <thread>

#include "absl/strings/str_cat.h"
#include "dist/in_process.h"
#include "dist/testing.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace millrace {
namespace {

using namespace testing_dist;  // NOLINT: tests of this folder
using ::testing::HasSubstr;
using ::testing::Not;

Members Group(int size, const InProcessOptions& options = {}) {
  auto members = InProcessGroup::Create(size, options);
  EXPECT_TRUE(members.ok()) << members.status();
  return *std::move(members);
}

Collective Call(CollectiveKind kind, absl::string_view name, std::vector<float>& data,
                int64_t count) {
  Collective c;
  c.kind = kind;
  c.name = std::string(name);
  c.send = c.recv = data.data();
  c.count = count;
  return c;
}

TEST(InProcessLife, AbortEndsPendingAndLaterCallsOfAllMembersWithTheReason) {
  const Members members = Group(3);
  std::vector<float> x(8);
  Ends ends(5);
  members[0]->Start(Call(CollectiveKind::kAllReduce, "a", x, 8), ends.Add(0));
  members[0]->Start(Call(CollectiveKind::kBarrier, "b", x, 0), ends.Add(1));
  members[1]->Start(Call(CollectiveKind::kAllReduce, "a", x, 8), ends.Add(2));
  Collective receive = Call(CollectiveKind::kRecv, "r", x, 8);
  receive.root_or_peer = 1;
  members[2]->Start(receive, ends.Add(3));
  EXPECT_EQ(ends.left(), 5);
  members[1]->Abort(absl::UnavailableError("rank 2 lost its device"));
  members[2]->Start(Call(CollectiveKind::kAllReduce, "a", x, 8), ends.Add(4));
  for (const absl::Status& s : ends.Wait())
    EXPECT_EQ(s, absl::UnavailableError("rank 2 lost its device"));
  EXPECT_THAT(members[0]->Describe(), HasSubstr("rank 2 lost its device"));
}

TEST(InProcessLife, AbortsAmidstTrafficLoseNoDoneAndNoBuffer) {
  for (int trial = 0; trial < 50; ++trial) {
    InProcessOptions options;
    options.inline_bytes = trial % 2 == 0 ? -1 : 64 << 10;
    const int size = 3, count = 40;
    Members members = Group(size, options);
    Ends ends(size * count);
    std::vector<std::thread> threads;
    for (int r = 0; r < size; ++r) {
      threads.emplace_back([&, r] {
        std::vector<std::vector<float>> x(count, std::vector<float>(1000));
        Ends mine(count);
        for (int i = 0; i < count; ++i) {
          members[r]->Start(Call(CollectiveKind::kAllReduce, "a", x[i], 1000),
                            [done = ends.Add(r * count + i), own = mine.Add(i)](absl::Status s) {
                              done(s);
                              own(s);
                            });
          if (r == 1 && i == trial % count) members[r]->Abort(absl::AbortedError("stop"));
        }
        mine.Wait();  // then the buffers go away
      });
    }
    for (std::thread& t : threads) t.join();
    for (const absl::Status& s : ends.Wait())
      EXPECT_TRUE(s.ok() || s == absl::AbortedError("stop")) << s;
  }
}

TEST(InProcessLife, CallsThatDifferAreFoundBeforeDataMovesAndBothAreNamed) {
  const Members members = Group(3, {.name = "data"});
  Ends before(9), ends(3);
  for (int k = 0; k < 3; ++k) {
    for (int r = 0; r < 3; ++r) members[r]->Start(Collective(), before.Add(k * 3 + r));
  }
  before.Wait();
  std::vector<float> a(1024 * 3, 1), b = a, c = a;
  const std::vector<float> untouched = a;
  Collective gather = Call(CollectiveKind::kAllGather, "g3", a, 1024);
  Collective scatter = Call(CollectiveKind::kReduceScatter, "r2", b, 512);
  scatter.send = b.data();
  scatter.recv = b.data() + 512;
  members[1]->Start(scatter, ends.Add(1));
  members[0]->Start(gather, ends.Add(0));
  gather.recv = c.data();
  gather.send = c.data() + 2048;
  members[2]->Start(gather, ends.Add(2));
  for (const absl::Status& s : ends.Wait()) {
    EXPECT_EQ(s, absl::FailedPreconditionError(
                     "data: rank 0 called all_gather 'g3' f32 x 1024 as call 4, rank 1 called "
                     "reduce_scatter 'r2' f32 x 512 as call 4"));
  }
  EXPECT_EQ(a, untouched);
  EXPECT_EQ(b, untouched);
  EXPECT_EQ(c, untouched);
}

TEST(InProcessLife, EveryFieldThatMattersIsCompared) {
  std::vector<float> x(64), y(64);
  Collective base = Call(CollectiveKind::kAllReduce, "n", x, 8);
  std::vector<Collective> others(6, base);
  others[0].count = 9;
  others[1].dtype = DType::kI32;
  others[2].reduce = ReduceOp::kMax;
  others[3].tag = 1;
  others[4].name = "m";
  others[5].kind = CollectiveKind::kBroadcast;
  for (Collective& other : others) {
    const Members members = Group(2);
    other.send = other.recv = y.data();
    Ends ends(2);
    members[0]->Start(base, ends.Add(0));
    members[1]->Start(other, ends.Add(1));
    for (const absl::Status& s : ends.Wait()) {
      EXPECT_EQ(s.code(), absl::StatusCode::kFailedPrecondition) << s;
    }
  }
}

TEST(InProcessLife, ASendThatDoesNotFitItsReceiveEndsBoth) {
  const Members members = Group(2);
  std::vector<float> x(8, 1), y(8, 2);
  Collective send = Call(CollectiveKind::kSend, "s", x, 8),
             recv = Call(CollectiveKind::kRecv, "r", y, 4);
  send.root_or_peer = 1;
  Ends ends(2);
  members[0]->Start(send, ends.Add(0));
  members[1]->Start(recv, ends.Add(1));
  for (const absl::Status& s : ends.Wait()) {
    EXPECT_THAT(std::string(s.message()),
                HasSubstr("rank 0 called send 's' f32 x 8 to rank 1, rank 1 "
                          "called recv 'r' f32 x 4 from rank 0"));
  }
  EXPECT_EQ(y, std::vector<float>(8, 2));
}

TEST(InProcessLife, InvalidCallsEndTheGroupAndSayWhatIsWrong) {
  std::vector<float> x(64);
  Collective overlap = Call(CollectiveKind::kAllGather, "n", x, 8);
  Collective null = Call(CollectiveKind::kAllReduce, "n", x, 8);
  Collective negative = null, root = Call(CollectiveKind::kBroadcast, "n", x, 8), self = root;
  Collective bytes = null, crooked = null;
  null.send = nullptr;
  negative.count = -1;
  root.root_or_peer = 2;
  self.kind = CollectiveKind::kSend;
  self.root_or_peer = 1;
  bytes.dtype = DType::kI8;
  crooked.send = crooked.recv = reinterpret_cast<char*>(x.data()) + 1;
  const std::pair<Collective, const char*> wrong[] = {
      {overlap, "overlap"},    {null, "send is null"}, {negative, "negative"},
      {root, "not in [0, 2)"}, {self, "itself"},       {bytes, "sums of this type"},
      {crooked, "aligned"}};
  for (const auto& [call, what] : wrong) {
    const Members members = Group(2);
    Ends ends(2);
    members[0]->Start(Collective(), ends.Add(0));
    members[1]->Start(call, ends.Add(1));
    for (const absl::Status& s : ends.Wait()) {
      EXPECT_EQ(s.code(), absl::StatusCode::kInvalidArgument);
      EXPECT_THAT(std::string(s.message()), HasSubstr(what));
      EXPECT_THAT(std::string(s.message()), HasSubstr("rank 1"));
    }
  }
  EXPECT_EQ(InProcessGroup::Create(0).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(InProcessLife, DescribeNamesTheRankThatIsMissingAndItsLastCall) {
  const Members members = Group(3);
  std::vector<float> x(3 * 1024);
  Ends ends(3), pending(3);
  for (int r = 0; r < 3; ++r)
    members[r]->Start(Call(CollectiveKind::kBarrier, "b", x, 0), ends.Add(r));
  ends.Wait();
  std::vector<float> a(3072), b(3072);
  members[0]->Start(Call(CollectiveKind::kAllGather, "block_7", a, 1024), pending.Add(0));
  Collective gather = Call(CollectiveKind::kAllGather, "block_7", b, 1024);
  gather.send = b.data() + 2048;
  members[2]->Start(gather, pending.Add(1));
  Collective receive = Call(CollectiveKind::kRecv, "acts", x, 16);
  receive.root_or_peer = 0;
  receive.tag = 3;
  members[1]->Start(receive, pending.Add(2));
  const std::string text = members[0]->Describe();
  EXPECT_THAT(text,
              HasSubstr("rank 1 has not joined all_gather 'block_7' f32 x 1024 (call 2); its last "
                        "call was barrier 'b' (call 1)"));
  EXPECT_THAT(
      text, HasSubstr("rank 1 waits in recv 'acts' f32 x 16 from rank 0 tag 3: no matching send"));
  EXPECT_THAT(text, Not(HasSubstr("rank 2 has not joined")));
  members[0]->Abort(absl::CancelledError("enough"));
  pending.Wait();
}

TEST(InProcessLife, AMemberThatLeavesWhileOthersWaitEndsTheirCalls) {
  Members members = Group(2);
  Ends ends(2);
  members[0]->Start(Collective(), ends.Add(0));
  members[1].reset();
  members[0]->Start(Collective(), ends.Add(1));
  for (const absl::Status& s : ends.Wait()) EXPECT_EQ(s.code(), absl::StatusCode::kCancelled) << s;
}

TEST(InProcessLife, AMemberMayLeaveAsSoonAsItsOwnCallsHaveEnded) {
  for (int trial = 0; trial < 200; ++trial) {
    Members members = Group(3, {.inline_bytes = trial % 2 == 0 ? -1 : 4096});
    std::vector<std::thread> threads;
    for (int r = 0; r < 3; ++r) {
      threads.emplace_back([member = std::move(members[r])]() mutable {
        std::vector<float> x(100);
        EXPECT_TRUE(millrace::Run(*member, Call(CollectiveKind::kAllReduce, "a", x, 100)).ok());
        member.reset();
      });
    }
    for (std::thread& t : threads) t.join();
  }
}

TEST(InProcessLife, AGroupThatWaitsUsesNoCpuTime) {
  const Members members = Group(4);
  std::vector<std::thread> threads;
  for (int r = 1; r < 4; ++r) {
    threads.emplace_back([&, r] { EXPECT_TRUE(millrace::Run(*members[r], Collective()).ok()); });
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(20));  // until all of them sleep
  const auto cpu = [] {
    timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec * 1e3 + t.tv_nsec * 1e-6;
  };
  const double before = cpu();
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_LT(cpu() - before, 5.0) << "milliseconds; one spinning thread would use 200";
  EXPECT_TRUE(millrace::Run(*members[0], Collective()).ok());
  for (std::thread& t : threads) t.join();
}

}  // namespace
}  // namespace millrace
