// The decorator over in-process groups that count the calls that reach them: after a mismatch none
// may have.
#include "dist/checked.h"

#include <thread>

#include "dist/in_process.h"
#include "dist/testing.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace millrace {
namespace {

using namespace testing_dist;  // NOLINT: tests of this folder
using ::testing::HasSubstr;

// Counts what reaches the transport.
class Counting : public Communicator {
 public:
  Counting(std::unique_ptr<Communicator> inner, std::atomic<int>* started)
      : inner_(std::move(inner)), started_(started) {}
  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  void Start(const Collective& call, std::function<void(absl::Status)> done) override {
    ++*started_;
    inner_->Start(call, std::move(done));
  }
  void Abort(const absl::Status& why) override { inner_->Abort(why); }
  std::string Describe() const override { return inner_->Describe(); }

 private:
  std::unique_ptr<Communicator> inner_;
  std::atomic<int>* started_;
};

Members CheckedGroup(int size, std::atomic<int>* started, const InProcessOptions& options = {}) {
  Members inner = *InProcessGroup::Create(size, options), control = *InProcessGroup::Create(size);
  Members members;
  for (int r = 0; r < size; ++r) {
    auto counting = std::make_unique<Counting>(std::move(inner[r]), started);
    members.push_back(*MakeChecked(std::move(counting), std::move(control[r])));
  }
  return members;
}

TEST(Checked, CallsThatAgreeGoThroughInOrder) {
  for (int64_t inline_bytes : {-1, 64 << 10}) {
    std::atomic<int> started{0};
    const int size = 3, count = 300;
    const Members members = CheckedGroup(size, &started, {.inline_bytes = inline_bytes});
    std::vector<Trial> trials;
    std::vector<std::unique_ptr<Ends>> ends;
    for (int i = 0; i < count; ++i) {
      Collective c;
      c.kind = i % 2 == 0 ? CollectiveKind::kAllReduce : CollectiveKind::kAllGather;
      c.count = i;
      c.name = "n" + std::to_string(i);
      trials.emplace_back(c, size, i % 3 == 0, i);
    }
    for (int r = 0; r < size; ++r) ends.push_back(std::make_unique<Ends>(count));
    std::vector<std::thread> threads;
    for (int r = 0; r < size; ++r) {
      threads.emplace_back([&, r] {
        for (int i = 0; i < count; ++i) members[r]->Start(trials[i].calls[r], ends[r]->Add(i));
        for (const absl::Status& s : ends[r]->Wait()) EXPECT_TRUE(s.ok()) << s;
      });
    }
    for (std::thread& t : threads) t.join();
    for (int i = 0; i < count; ++i) {
      EXPECT_EQ(trials[i].Difference(), "") << i;
      for (int r = 0; r < size; ++r) EXPECT_EQ(ends[r]->order()[i], i);
    }
    EXPECT_EQ(started, size * count);
  }
}

TEST(Checked, AMismatchReachesNoTransportAndIsToldToEveryMember) {
  std::atomic<int> started{0};
  const Members members = CheckedGroup(3, &started);
  std::vector<float> a(3072, 1), b = a, c = a;
  const std::vector<float> untouched = a;
  Collective gather, scatter;
  gather.kind = CollectiveKind::kAllGather;
  gather.name = "g3";
  gather.count = 1024;
  gather.send = gather.recv = a.data();
  scatter.kind = CollectiveKind::kReduceScatter;
  scatter.name = "r2";
  scatter.count = 512;
  scatter.send = b.data();
  scatter.recv = b.data() + 512;
  Ends ends(4);
  members[0]->Start(gather, ends.Add(0));
  members[1]->Start(scatter, ends.Add(1));
  gather.recv = c.data();
  gather.send = c.data() + 2048;
  members[2]->Start(gather, ends.Add(2));
  members[0]->Start(Collective(), ends.Add(3));  // later calls end, too
  for (const absl::Status& s : ends.Wait()) {
    EXPECT_EQ(s, absl::FailedPreconditionError(
                     "rank 0 called all_gather 'g3' f32 x 1024 as call 1, rank 1 "
                     "called reduce_scatter 'r2' f32 x 512 as call 1"));
  }
  EXPECT_EQ(started, 0);
  EXPECT_EQ(a, untouched);
  EXPECT_EQ(b, untouched);
  EXPECT_EQ(c, untouched);
}

TEST(Checked, SendsAndReceivesAreComparedPairByPairInBothDirectionsAtOnce) {
  std::atomic<int> started{0};
  const Members members = CheckedGroup(2, &started);
  std::vector<float> out[2] = {std::vector<float>(64, 1), std::vector<float>(64, 2)},
                     in[2] = {out[0], out[1]};
  Ends ends(4), wrong(2);
  for (int r = 0; r < 2; ++r) {
    Collective send, recv;
    send.kind = CollectiveKind::kSend;
    recv.kind = CollectiveKind::kRecv;
    send.count = recv.count = 64;
    send.root_or_peer = recv.root_or_peer = 1 - r;
    send.send = out[r].data();
    recv.recv = in[r].data();
    members[r]->Start(send, ends.Add(2 * r));
    members[r]->Start(recv, ends.Add(2 * r + 1));
  }
  for (const absl::Status& s : ends.Wait()) EXPECT_TRUE(s.ok()) << s;
  EXPECT_EQ(in[0], out[1]);
  EXPECT_EQ(in[1], out[0]);
  EXPECT_EQ(started, 4);
  Collective send, recv;
  send.kind = CollectiveKind::kSend;
  send.name = "s";
  send.count = 64;
  send.root_or_peer = 1;
  send.send = out[0].data();
  recv.kind = CollectiveKind::kRecv;
  recv.name = "r";
  recv.count = 63;
  recv.recv = in[1].data();
  members[1]->Start(recv, wrong.Add(0));
  members[0]->Start(send, wrong.Add(1));
  for (const absl::Status& s : wrong.Wait()) {
    EXPECT_THAT(
        std::string(s.message()),
        HasSubstr("rank 0 called send 's' f32 x 64 to rank 1, rank 1 called recv 'r' f32 x 63"));
  }
  EXPECT_EQ(started, 4);
}

TEST(Checked, AbortEndsCallsThatStillWaitToBeCompared) {
  std::atomic<int> started{0};
  const Members members = CheckedGroup(2, &started);
  Ends ends(2);
  members[0]->Start(Collective(), ends.Add(0));
  members[1]->Abort(absl::AbortedError("stop"));
  members[1]->Start(Collective(), ends.Add(1));
  for (const absl::Status& s : ends.Wait()) EXPECT_EQ(s, absl::AbortedError("stop"));
}

TEST(Checked, AMemberThatLeavesEndsWhatTheOthersWaitFor) {
  std::atomic<int> started{0};
  Members members = CheckedGroup(2, &started);
  Ends ends(1);
  members[0]->Start(Collective(), ends.Add(0));
  members[1].reset();
  EXPECT_EQ(ends.Wait()[0].code(), absl::StatusCode::kCancelled);
}

TEST(Checked, TheControlGroupMustBeTheSameRank) {
  Members a = *InProcessGroup::Create(2), b = *InProcessGroup::Create(2);
  EXPECT_EQ(MakeChecked(std::move(a[0]), std::move(b[1])).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace millrace
