// The variables of torchrun, a store's waiting, and plans that are not the same.
#include "dist/rendezvous.h"

#include <map>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace millrace {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;
using ::testing::Not;

absl::StatusOr<Launch> Read(const std::map<std::string, std::string>& variables) {
  return ReadLaunch([&](const char* name) -> const char* {
    const auto it = variables.find(name);
    return it == variables.end() ? nullptr : it->second.c_str();
  });
}

TEST(Rendezvous, ReadsWhatTorchrunSets) {
  const auto launch = Read({{"RANK", "5"},
                            {"WORLD_SIZE", "8"},
                            {"LOCAL_RANK", "1"},
                            {"MASTER_ADDR", "10.0.0.1"},
                            {"MASTER_PORT", "29500"}});
  ASSERT_TRUE(launch.ok()) << launch.status();
  EXPECT_EQ(launch->rank, 5);
  EXPECT_EQ(launch->world, 8);
  EXPECT_EQ(launch->local_rank, 1);
  EXPECT_EQ(launch->master_address, "10.0.0.1");
  EXPECT_EQ(launch->master_port, 29500);
}

TEST(Rendezvous, WithoutAnyVariableTheProcessIsAlone) {
  const auto launch = Read({{"HOME", "/"}});
  ASSERT_TRUE(launch.ok()) << launch.status();
  EXPECT_EQ(launch->world, 1);
  EXPECT_EQ(launch->master_address, "");
}

TEST(Rendezvous, EverythingThatIsMissingOrWrongIsToldAtOnce) {
  const absl::Status status =
      Read({{"RANK", "8"}, {"WORLD_SIZE", "8"}, {"LOCAL_RANK", "-1"}, {"MASTER_PORT", "http"}})
          .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("RANK is 8, expected one in [0, 7]"));
  EXPECT_THAT(status.message(), HasSubstr("LOCAL_RANK is -1"));
  EXPECT_THAT(status.message(), HasSubstr("MASTER_PORT is 'http', expected a number"));
  EXPECT_THAT(status.message(), HasSubstr("MASTER_ADDR is not set"));
  EXPECT_THAT(status.message(), HasSubstr("torchrun"));
  const absl::Status alone = Read({{"LOCAL_RANK", "0"}}).status();
  EXPECT_THAT(alone.message(), HasSubstr("WORLD_SIZE is not set"));
  EXPECT_THAT(alone.message(), HasSubstr("MASTER_PORT is not set"));
}

TEST(Rendezvous, AValueIsWaitedForAndItsAbsenceNamed) {
  const auto store = MakeInProcessStore();
  std::thread later([&] {
    std::this_thread::sleep_for(milliseconds(30));
    EXPECT_TRUE(store->Set("key", std::string("a\0b", 3)).ok());
  });
  const auto value = store->Get("key", seconds(30));
  later.join();
  ASSERT_TRUE(value.ok()) << value.status();
  EXPECT_EQ(*value, std::string("a\0b", 3));
  const absl::Status status = store->Get("other", milliseconds(5)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(status.message(), HasSubstr("'other' within 5 ms"));
  EXPECT_EQ(*store->Add("n", 2), 2);
  EXPECT_EQ(*store->Add("n", -3), -1);
}

// The ends of all ranks that come, by rank.
std::map<int, absl::Status> Check(int world, const std::map<int, std::string>& hashes,
                                  milliseconds timeout) {
  const auto store = MakeInProcessStore();
  std::map<int, absl::Status> ends;
  for (const auto& [rank, hash] : hashes) ends[rank];
  std::vector<std::thread> threads;
  for (const auto& [rank, hash] : hashes) {
    threads.emplace_back([&store, &end = ends[rank], world, timeout, r = rank, h = hash] {
      end = CheckSamePlan(*store, r, world, h, timeout);
    });
  }
  for (std::thread& t : threads) t.join();
  return ends;
}

TEST(Rendezvous, ProcessesOfOnePlanPassAndOfSeveralAreNamedByTheirHashes) {
  for (const auto& [rank, end] : Check(3, {{0, "h"}, {1, "h"}, {2, "h"}}, seconds(30))) {
    EXPECT_TRUE(end.ok()) << rank << " " << end;
  }
  for (const auto& [rank, end] :
       Check(4, {{0, "aa"}, {1, "bb"}, {2, "aa"}, {3, "cc"}}, seconds(30))) {
    EXPECT_EQ(end.code(), absl::StatusCode::kFailedPrecondition) << rank;
    EXPECT_THAT(end.message(), HasSubstr("ranks 0, 2: aa; rank 1: bb; rank 3: cc"));
  }
}

TEST(Rendezvous, RanksThatDoNotComeAreNamed) {
  for (const auto& [rank, end] : Check(5, {{0, "h"}, {2, "h"}, {3, "h"}}, milliseconds(300))) {
    EXPECT_EQ(end.code(), absl::StatusCode::kDeadlineExceeded) << rank;
    EXPECT_THAT(end.message(), HasSubstr("ranks 1, 4 of 5 did not come"));
  }
}

TEST(Rendezvous, LaterRoundsDoNotReadEarlierOnes) {
  const auto store = MakeInProcessStore();
  for (int round = 0; round < 3; ++round) {
    const std::string hash(1, static_cast<char>('a' + round));
    absl::Status other;
    std::thread peer([&] { other = CheckSamePlan(*store, 1, 2, hash, seconds(30), round); });
    EXPECT_TRUE(CheckSamePlan(*store, 0, 2, hash, seconds(30), round).ok());
    peer.join();
    EXPECT_TRUE(other.ok()) << other;
  }
}

}  // namespace
}  // namespace millrace
