// The data that in-process groups move, against the naive reference and against each other. How
// groups live and die is in in_process_life_test.cc.
#include "dist/in_process.h"

#include <random>
#include <thread>

#include "absl/strings/str_cat.h"
#include "dist/testing.h"
#include "gtest/gtest.h"

namespace millrace {
namespace {

using namespace testing_dist;  // NOLINT: tests of this folder

using Execution = InProcessOptions::Execution;

// Workers for everything, or the thresholds as they are, or no threads at all.
struct Mode {
  const char* name;
  InProcessOptions options;
};
std::vector<Mode> Modes() {
  InProcessOptions workers, usual, none;
  workers.inline_bytes = -1;
  none.execution = Execution::kInline;
  return {{"workers", workers}, {"usual", usual}, {"inline", none}};
}

Members Group(int size, const InProcessOptions& options = {}) {
  auto members = InProcessGroup::Create(size, options);
  EXPECT_TRUE(members.ok()) << members.status();
  return *std::move(members);
}

// From one thread: Start never blocks.
std::string StartAll(const Members& members, const Trial& trial) {
  Ends ends(static_cast<int>(members.size()));
  for (size_t r = 0; r < members.size(); ++r) members[r]->Start(trial.calls[r], ends.Add(r));
  for (const absl::Status& s : ends.Wait()) {
    if (!s.ok()) return s.ToString();
  }
  return trial.Difference();
}

TEST(InProcess, EveryCollectiveOfEveryTypeAndSizeEqualsTheNaiveReference) {
  uint64_t seed = 1;
  for (const Mode& mode : Modes()) {
    for (int size : {1, 2, 3, 4, 8}) {
      const Members members = Group(size, mode.options);
      for (DType dtype : kTypes) {
        for (int64_t count : {0, 1, 7, 129, 4099}) {
          for (const Collective& call : AllCalls(size, count, dtype)) {
            for (bool in_place : {false, true}) {
              if (in_place && call.kind == CollectiveKind::kAllToAll) continue;
              const Trial trial(call, size, in_place, ++seed);
              ASSERT_EQ(StartAll(members, trial), "")
                  << mode.name << " " << Name(call.kind) << " " << Name(dtype) << " x " << count
                  << " on " << size << " ranks" << (in_place ? " in place" : "");
            }
          }
        }
      }
    }
  }
}

TEST(InProcess, ResultsLargerThanTheCacheAreTheSameAlthoughTheyAreStreamed) {
  const int size = 3;
  const Members members = Group(size);
  const auto try_both = [&](CollectiveKind kind, DType dtype, int64_t count) {
    for (bool in_place : {false, true}) {
      Collective call;
      call.kind = kind;
      call.dtype = dtype;
      call.count = count;
      const Trial trial(call, size, in_place, 5);
      ASSERT_EQ(StartAll(members, trial), "") << Name(kind) << " " << Name(dtype);
    }
  };
  try_both(CollectiveKind::kAllGather, DType::kF32, 500003);
  try_both(CollectiveKind::kAllReduce, DType::kF32, 1500003);
  try_both(CollectiveKind::kReduceScatter, DType::kF32, 1500003);
  try_both(CollectiveKind::kAllReduce, DType::kBF16, 3000003);
}

TEST(InProcess, AllReduceIsBitIdenticalToReduceScatterThenAllGather) {
  for (int size : {2, 3, 4, 8}) {
    const Members members = Group(size);
    for (DType dtype : {DType::kF32, DType::kF64, DType::kBF16, DType::kF16}) {
      Collective c;
      c.dtype = dtype;
      c.count = 1003;
      c.kind = CollectiveKind::kReduceScatter;
      Trial scatter(c, size, true, 9);
      ASSERT_EQ(StartAll(members, scatter), "");
      Collective all = c;
      all.kind = CollectiveKind::kAllReduce;
      all.count = c.count * size;
      Trial reduce(all, size, true, 9);
      ASSERT_EQ(StartAll(members, reduce), "");
      Ends ends(size);
      for (int r = 0; r < size; ++r) {
        Collective gather =
            scatter.calls[r];  // in place on the same memory: send is the reduced slice
        gather.kind = CollectiveKind::kAllGather;
        gather.send = gather.recv;
        gather.recv = scatter.memory[r].data();
        members[r]->Start(gather, ends.Add(r));
      }
      for (const absl::Status& s : ends.Wait()) ASSERT_TRUE(s.ok()) << s;
      for (int r = 0; r < size; ++r)
        EXPECT_EQ(scatter.memory[r], reduce.memory[r]) << size << " " << r;
    }
  }
}

// Every rank's thread starts the same thousand calls without waiting, all of them pending at once
// or not as it happens; sizes lie on both sides of the inline threshold.
TEST(InProcess, AThousandRandomAsynchronousCallsGiveWhatTheyWouldOneByOne) {
  const int size = 4, count = 1000;
  for (const Mode& mode : Modes()) {
    const Members members = Group(size, mode.options);
    std::mt19937 random(42);
    std::vector<Trial> trials;
    for (int i = 0; i < count; ++i) {
      const int64_t n = random() % (random() % 10 == 0 ? 20000 : 300);
      const auto calls = AllCalls(size, n, kTypes[random() % 6]);
      Collective call = calls[random() % calls.size()];
      call.name = absl::StrCat("n", i);
      trials.emplace_back(call, size, call.kind != CollectiveKind::kAllToAll && random() % 2 == 0,
                          i);
    }
    std::vector<std::unique_ptr<Ends>> ends;
    for (int r = 0; r < size; ++r) ends.push_back(std::make_unique<Ends>(count));
    std::vector<std::thread> threads;
    for (int r = 0; r < size; ++r) {
      threads.emplace_back([&, r] {
        for (int i = 0; i < count; ++i) members[r]->Start(trials[i].calls[r], ends[r]->Add(i));
      });
    }
    for (std::thread& t : threads) t.join();
    for (int r = 0; r < size; ++r) {
      const auto& statuses = ends[r]->Wait();
      for (int i = 0; i < count; ++i) {
        ASSERT_TRUE(statuses[i].ok()) << statuses[i];
        ASSERT_EQ(ends[r]->order()[i], i) << "rank " << r << " ended out of order";
      }
    }
    for (int i = 0; i < count; ++i) ASSERT_EQ(trials[i].Difference(), "") << mode.name << " " << i;
  }
}

TEST(InProcess, BlockingCallsFromTheRanksOwnThreads) {
  const int size = 3;
  const Members members = Group(size);
  std::vector<std::thread> threads;
  std::vector<std::string> wrong(size);
  for (int r = 0; r < size; ++r) {
    threads.emplace_back([&, r] {
      for (int i = 0; i < 200; ++i) {
        int64_t x[2] = {r + i, -r};
        Collective c;
        c.kind = CollectiveKind::kAllReduce;
        c.dtype = DType::kI64;
        c.send = c.recv = x;
        c.count = 2;
        const absl::Status s = millrace::Run(*members[r], c);
        if (!s.ok() || x[0] != 3 + 3 * i || x[1] != -3)
          wrong[r] = absl::StrCat(s.ToString(), " ", x[0]);
      }
    });
  }
  for (std::thread& t : threads) t.join();
  for (const std::string& w : wrong) EXPECT_EQ(w, "");
}

Collective Transfer(CollectiveKind kind, int peer, uint64_t tag, int64_t* data, int64_t count) {
  Collective c;
  c.kind = kind;
  c.dtype = DType::kI64;
  c.root_or_peer = peer;
  c.tag = tag;
  c.count = count;
  if (kind == CollectiveKind::kSend) c.send = data;
  if (kind == CollectiveKind::kRecv) c.recv = data;
  return c;
}

TEST(InProcess, SendsMeetReceivesInOrderPerTagWhicheverCameFirst) {
  for (const Mode& mode : Modes()) {
    const Members members = Group(2, mode.options);
    constexpr int kCount = 50;
    int64_t out[2][kCount], in[2][kCount];
    Ends ends(4 * kCount);
    int e = 0;
    for (int i = 0; i < kCount; ++i) {
      out[0][i] = i;
      out[1][i] = 1000 + i;
    }
    // Tag 7 is received before it is sent, tag 8 after; between the tags the order is turned round.
    for (int i = 0; i < kCount; ++i) {
      members[1]->Start(Transfer(CollectiveKind::kRecv, 0, 7, &in[0][i], 1), ends.Add(e++));
    }
    for (int i = 0; i < kCount; ++i) {
      members[0]->Start(Transfer(CollectiveKind::kSend, 1, 8, &out[1][i], 1), ends.Add(e++));
    }
    for (int i = 0; i < kCount; ++i) {
      members[0]->Start(Transfer(CollectiveKind::kSend, 1, 7, &out[0][i], 1), ends.Add(e++));
      members[1]->Start(Transfer(CollectiveKind::kRecv, 0, 8, &in[1][i], 1), ends.Add(e++));
    }
    for (const absl::Status& s : ends.Wait()) ASSERT_TRUE(s.ok()) << s;
    for (int i = 0; i < kCount; ++i) {
      EXPECT_EQ(in[0][i], out[0][i]) << mode.name;
      EXPECT_EQ(in[1][i], out[1][i]) << mode.name;
    }
  }
}

TEST(InProcess, TwoMembersThatBothSendFirstDoNotDeadlock) {
  const Members members = Group(2);
  std::vector<std::vector<int64_t>> out(2, std::vector<int64_t>(100000)), in = out;
  std::vector<std::thread> threads;
  for (int r = 0; r < 2; ++r) {
    std::fill(out[r].begin(), out[r].end(), r + 1);
    threads.emplace_back([&, r] {
      Ends sent(1);
      members[r]->Start(Transfer(CollectiveKind::kSend, 1 - r, 0, out[r].data(), 100000),
                        sent.Add(0));
      EXPECT_TRUE(millrace::Run(*members[r],
                                Transfer(CollectiveKind::kRecv, 1 - r, 0, in[r].data(), 100000))
                      .ok());
      EXPECT_TRUE(sent.Wait()[0].ok());
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(in[0], out[1]);
  EXPECT_EQ(in[1], out[0]);
}

TEST(InProcess, ALongChainOfCallsStartedByTheirPredecessorsNeedsNoStack) {
  for (const Mode& mode : Modes()) {
    const Members members = Group(2, mode.options);
    constexpr int kLinks = 20000;
    Ends ends(2);
    std::function<void(int, int)> link = [&](int rank, int i) {
      if (i == kLinks) return ends.Add(rank)(absl::OkStatus());
      members[rank]->Start(Collective(),
                           [&link, rank, i](const absl::Status&) { link(rank, i + 1); });
    };
    link(0, 0);
    link(1, 0);
    ends.Wait();
  }
}

}  // namespace
}  // namespace millrace
