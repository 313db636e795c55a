// The data that NCCL communicators move, over the fake: against the naive reference, in groups that
// share devices, and made from several threads that stand for processes. How groups fail and end is
// in nccl_life_test.cc.
#include "dist/nccl.h"

#include <algorithm>
#include <deque>
#include <random>
#include <thread>

#include "absl/strings/str_cat.h"
#include "dist/nccl_testing.h"

namespace millrace {
namespace {

using namespace testing_dist;  // NOLINT: tests of this folder
using namespace testing_nccl;  // NOLINT

TEST_F(NcclTest, EveryCollectiveOfEveryTypeAndSizeEqualsTheNaiveReference) {
  uint64_t seed = 1;
  for (int size : {1, 2, 3, 8}) {
    streams_.clear();
    fake_.SetPolls(3, size % 3);  // calls are taken at once, or after some questions
    const NcclMembers members = Group(size);
    for (DType dtype : kTypes) {
      std::deque<Trial> trials;  // all in the streams at once; a deque: the buffers stay in place
      for (int64_t count : {0, 129}) {
        for (const Collective& call : AllCalls(size, count, dtype)) {
          for (bool in_place : {false, true}) {
            if (in_place && call.kind == CollectiveKind::kAllToAll) continue;
            const Trial& trial = trials.emplace_back(call, size, in_place, ++seed);
            for (int r = 0; r < size; ++r) {
              const absl::Status issued = members[r]->Issue(trial.calls[r], stream(r));
              ASSERT_TRUE(issued.ok()) << issued;
            }
          }
        }
      }
      ASSERT_TRUE(Synchronize());
      for (const Trial& trial : trials) {
        const Collective& call = trial.calls[0];
        EXPECT_EQ(trial.Difference(), "")
            << Name(call.kind) << " " << Name(dtype) << " x " << call.count << " on " << size
            << " ranks" << (trial.in_place ? " in place" : "");
      }
    }
  }
}

TEST_F(NcclTest, TheRootOfABroadcastMayLeaveRecvOutAndTheOthersSend) {
  const NcclMembers members = Group(2);
  std::vector<float> from = {1, 2, 3}, to(3);
  Collective root = Make(CollectiveKind::kBroadcast, "b", &from, nullptr, 3);
  Collective other = Make(CollectiveKind::kBroadcast, "b", nullptr, &to, 3);
  ASSERT_TRUE(members[0]->Issue(root, stream(0)).ok());
  ASSERT_TRUE(members[1]->Issue(other, stream(1)).ok());
  ASSERT_TRUE(Synchronize());
  EXPECT_EQ(to, from);
  EXPECT_EQ(from, (std::vector<float>{1, 2, 3}));
}

TEST_F(NcclTest, ASendMeetsItsReceiveInTheOrderBothWereIssued) {
  const int size = 4;
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    streams_.clear();
    const auto local = Local(0, size, seed);
    auto members = NcclGroup::Create(fake_.api(), Ranks(size), local, nullptr, Quick());
    ASSERT_TRUE(members.ok()) << members.status();
    std::mt19937_64 random(seed);
    struct Sent {
      std::vector<float> from, to;
    };
    std::vector<Sent> all(40);  // does not grow: the calls point into it
    for (size_t i = 0; i < all.size(); ++i) {
      const int a = random() % size, b = (a + 1 + random() % (size - 1)) % size;
      const int64_t count = random() % 50;
      all[i].from.assign(count, static_cast<float>(i + 1));
      all[i].to.assign(count, 0);
      Collective send = Make(CollectiveKind::kSend, "s", &all[i].from, nullptr, count);
      Collective recv = Make(CollectiveKind::kRecv, "r", nullptr, &all[i].to, count);
      send.root_or_peer = b;
      recv.root_or_peer = a;
      ASSERT_TRUE((*members)[a]->Issue(send, stream(a)).ok());
      ASSERT_TRUE((*members)[b]->Issue(recv, stream(b)).ok());
    }
    ASSERT_TRUE(Synchronize());
    for (const Sent& sent : all) EXPECT_EQ(sent.from, sent.to);
  }
}

// The groups of a data x tensor run over four devices; each device has a stream per kind of group.
TEST_F(NcclTest, GroupsThatShareDevicesRunInOneIssueOrderHoweverTheirStreamsAreDelayed) {
  const std::vector<std::vector<int>> lists = {{0, 1, 2, 3}, {0, 2}, {1, 3}, {0, 1}, {2, 3}};
  const char* const names[] = {"world", "data", "data", "tensor", "tensor"};
  const int lane_of[] = {0, 1, 1, 0, 0};  // of two streams
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    streams_.clear();
    fake_.SetPolls(2, seed % 2);
    const auto local = Local(0, 4, seed);
    Local(4, 4, seed);  // the second stream of each
    std::vector<NcclMembers> groups;
    for (size_t g = 0; g < lists.size(); ++g) {
      auto members = NcclGroup::Create(fake_.api(), lists[g], local, nullptr, Quick(names[g]));
      ASSERT_TRUE(members.ok()) << members.status();
      groups.push_back(*std::move(members));
      for (int r = 0; r < 4; ++r) {
        const auto place = std::find(lists[g].begin(), lists[g].end(), r);
        ASSERT_EQ(groups[g][r] != nullptr, place != lists[g].end());
        if (groups[g][r] == nullptr) continue;
        EXPECT_EQ(groups[g][r]->rank(), place - lists[g].begin());
      }
    }
    std::mt19937_64 random(seed);
    std::vector<std::pair<int, Trial>> program;
    for (int i = 0; i < 25; ++i) {
      const int g = random() % lists.size(), size = static_cast<int>(lists[g].size());
      const std::vector<Collective> calls = AllCalls(size, random() % 100, DType::kF32);
      Collective call = calls[random() % calls.size()];
      call.name = absl::StrCat("call ", i);
      program.emplace_back(g, Trial(call, size, false, seed * 100 + i));
    }
    std::vector<std::thread> threads;
    std::vector<absl::Status> ends(4);
    for (int r = 0; r < 4; ++r) {
      threads.emplace_back([&, r] {
        local[r].device->BeginStep();
        for (const auto& [g, trial] : program) {
          if (groups[g][r] == nullptr) continue;
          ends[r].Update(
              groups[g][r]->Issue(trial.calls[groups[g][r]->rank()], stream(r + 4 * lane_of[g])));
        }
      });
    }
    for (std::thread& t : threads) t.join();
    ASSERT_TRUE(Synchronize());
    for (const absl::Status& s : ends) EXPECT_TRUE(s.ok()) << s;
    for (const auto& [g, trial] : program) EXPECT_EQ(trial.Difference(), "") << names[g];
  }
}

TEST_F(NcclTest, MembersInSeveralProcessesFindEachOtherThroughTheStore) {
  const auto store = MakeInProcessStore();
  const int counts[] = {1, 2, 1, 3};  // local ranks of four processes
  const int size = 7;
  const auto local = Local(0, size);
  std::vector<NcclMembers> members(4);
  std::vector<absl::Status> ends(4);
  Collective call;
  call.kind = CollectiveKind::kAllReduce;
  call.count = 100;
  const Trial trial(call, size, true, 3);
  std::vector<std::thread> threads;
  for (int p = 0, first = 0; p < 4; first += counts[p++]) {
    threads.emplace_back([&, p, first] {
      const std::vector<NcclMember> mine(local.begin() + first, local.begin() + first + counts[p]);
      auto made = NcclGroup::Create(fake_.api(), Ranks(size), mine, store.get(), Quick());
      ends[p] = made.status();
      if (!made.ok()) return;
      members[p] = *std::move(made);
      for (const auto& member : members[p]) {
        ends[p].Update(member->Issue(trial.calls[member->rank()], stream(member->rank())));
      }
    });
  }
  for (std::thread& t : threads) t.join();
  for (const absl::Status& s : ends) ASSERT_TRUE(s.ok()) << s;
  ASSERT_TRUE(Synchronize());
  EXPECT_EQ(trial.Difference(), "");
  EXPECT_EQ(fake_.calls("GetUniqueId"), 1);
  EXPECT_THAT(members[1][0]->Describe(),
              ::testing::HasSubstr("in other processes, not known: rank 0, 3, 4, 5, 6"));
}

TEST_F(NcclTest, AGroupMadeAnewInOneStoreIsAnotherGeneration) {
  const auto store = MakeInProcessStore();
  for (int generation = 0; generation < 3; ++generation) {
    const auto local = Local(0, 2);
    NcclOptions options = Quick();
    options.generation = generation;
    std::vector<NcclMembers> members(2);
    std::vector<std::thread> threads;
    for (int r = 0; r < 2; ++r) {
      threads.emplace_back([&, r] {
        auto made = NcclGroup::Create(fake_.api(), {0, 1}, {local[r]}, store.get(), options);
        EXPECT_TRUE(made.ok()) << made.status();
        if (made.ok()) members[r] = *std::move(made);
      });
    }
    for (std::thread& t : threads) t.join();
    members[generation % 2][0]->Abort(absl::InternalError("over"));
  }
}

TEST(NcclMemory, TheEstimateIsItsFormula) {
  NcclMemory memory;
  EXPECT_EQ(NcclBufferBytes(8, memory), int64_t{457} << 20);
  EXPECT_EQ(NcclBufferBytes(1, memory), int64_t{16} << 20);
  memory.channels = 4;
  memory.buffer_bytes = 1 << 20;
  const int64_t connection = (1 << 20) + (512 << 10) + 4915200;
  EXPECT_EQ(NcclBufferBytes(2, memory), 12 * connection + (16 << 20));
  memory.point_to_point = true;
  EXPECT_EQ(NcclBufferBytes(8, memory), (12 + 4 * 7) * connection + (16 << 20));
}

TEST(NcclMemory, WhatTheUserHasSetInTheEnvironmentIsInForce) {
  unsetenv("NCCL_BUFFSIZE");
  NcclMemory wanted;
  wanted.buffer_bytes = 1 << 20;
  auto memory = FixNcclMemory(wanted);
  ASSERT_TRUE(memory.ok()) << memory.status();
  EXPECT_STREQ(getenv("NCCL_BUFFSIZE"), "1048576");
  EXPECT_STREQ(getenv("NCCL_RUNTIME_CONNECT"), "0");
  setenv("NCCL_BUFFSIZE", "2097152", 1);
  memory = FixNcclMemory(wanted);
  ASSERT_TRUE(memory.ok()) << memory.status();
  EXPECT_EQ(memory->buffer_bytes, 2 << 20);
  setenv("NCCL_BUFFSIZE", "much", 1);
  wanted.channels = 65;
  const absl::Status wrong = FixNcclMemory(wanted).status();
  EXPECT_THAT(wrong.message(), ::testing::HasSubstr("NCCL_BUFFSIZE is 'much'"));
  EXPECT_THAT(wrong.message(), ::testing::HasSubstr("channels is 65"));
  unsetenv("NCCL_BUFFSIZE");
}

}  // namespace
}  // namespace millrace
