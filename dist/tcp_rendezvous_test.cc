// c10d::TCPStore on this machine, between processes: the test starts itself again as their ranks.
#include "dist/tcp_rendezvous.h"

#include <netinet/in.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace millrace {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;

// A port that was free a moment ago.
int FreePort() {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  EXPECT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), size), 0);
  EXPECT_EQ(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size), 0);
  close(fd);
  return ntohs(address.sin_port);
}

Launch At(int port, int rank, int world) {
  Launch launch;
  launch.rank = rank;
  launch.world = world;
  launch.master_address = "127.0.0.1";
  launch.master_port = port;
  return launch;
}

// Runs one test of this program in a process that torchrun might have started; its exit code.
class Child {
 public:
  Child(const std::string& test, int port, int rank, int world) {
    std::vector<std::string> words = {"child", "--gtest_filter=" + test,
                                      "--gtest_also_run_disabled_tests"};
    std::vector<std::string> variables = {
        absl::StrCat("RANK=", rank), absl::StrCat("WORLD_SIZE=", world),
        absl::StrCat("LOCAL_RANK=", rank), "MASTER_ADDR=127.0.0.1",
        absl::StrCat("MASTER_PORT=", port)};
    if (const char* path = std::getenv("LD_LIBRARY_PATH")) {
      variables.push_back(absl::StrCat("LD_LIBRARY_PATH=", path));
    }
    const auto pointers = [](std::vector<std::string>& texts) {
      std::vector<char*> list;
      for (std::string& text : texts) list.push_back(text.data());
      list.push_back(nullptr);
      return list;
    };
    started_ = posix_spawn(&pid_, "/proc/self/exe", nullptr, nullptr, pointers(words).data(),
                           pointers(variables).data()) == 0;
  }
  int Wait() {
    int status = -1;
    if (!started_ || waitpid(pid_, &status, 0) != pid_ || !WIFEXITED(status)) return -1;
    return WEXITSTATUS(status);
  }

 private:
  pid_t pid_ = 0;
  bool started_ = false;
};

// The program of the processes below: not run by itself.
TEST(TcpRendezvousChild, DISABLED_TellsItsRankAndChecksThePlan) {
  const auto launch = ReadLaunch();
  ASSERT_TRUE(launch.ok()) << launch.status();
  const auto store = ConnectTcpStore(*launch, seconds(60));
  ASSERT_TRUE(store.ok()) << store.status();
  ASSERT_TRUE((*store)->Set(absl::StrCat("hello/", launch->rank), std::string("x\0y", 3)).ok());
  ASSERT_TRUE((*store)->Add("count", 1 + launch->rank).ok());
  const absl::Status same =
      CheckSamePlan(**store, launch->rank, launch->world, "one plan", seconds(60));
  EXPECT_TRUE(same.ok()) << same;
  const absl::Status other =
      CheckSamePlan(**store, launch->rank, launch->world,
                    launch->rank == 1 ? "another plan" : "one plan", seconds(60), /*round=*/1);
  EXPECT_THAT(other.message(), HasSubstr("rank 1: another plan; ranks 0, 2: one plan"));
  // Rank 0 serves, and stays until all have read.
  const auto left = (*store)->Add("done", 1);
  ASSERT_TRUE(left.ok()) << left.status();
  if (*left == launch->world) {
    EXPECT_TRUE((*store)->Set("all done", "").ok());
  }
  EXPECT_TRUE((*store)->Get("all done", seconds(60)).ok());
}

TEST(TcpRendezvous, ProcessesMeetAndSeeThatTheirPlansDiffer) {
  const int port = FreePort();
  const std::string test = "TcpRendezvousChild.*";
  auto store = ConnectTcpStore(At(port, 0, 3), seconds(60));
  ASSERT_TRUE(store.ok()) << store.status();
  Child one(test, port, 1, 3), two(test, port, 2, 3);
  EXPECT_EQ((*store)->Get("hello/1", seconds(60)).value_or(""), std::string("x\0y", 3));
  EXPECT_TRUE((*store)->Get("hello/2", seconds(60)).ok());
  EXPECT_TRUE(CheckSamePlan(**store, 0, 3, "one plan", seconds(60)).ok());
  const absl::Status other = CheckSamePlan(**store, 0, 3, "one plan", seconds(60), 1);
  EXPECT_EQ(other.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(other.message(), HasSubstr("rank 1: another plan; ranks 0, 2: one plan"));
  EXPECT_EQ((*store)->Add("count", 0).value_or(0), 2 + 3);
  const auto left = (*store)->Add("done", 1);
  if (left.value_or(0) == 3) {
    EXPECT_TRUE((*store)->Set("all done", "").ok());
  }
  EXPECT_EQ(one.Wait(), 0);
  EXPECT_EQ(two.Wait(), 0);
}

TEST(TcpRendezvous, AThreadThatWaitsDoesNotKeepTheOthersFromTheStore) {
  auto store = ConnectTcpStore(At(FreePort(), 0, 1), seconds(60));
  ASSERT_TRUE(store.ok()) << store.status();
  absl::StatusOr<std::string> got = absl::UnknownError("not yet");
  std::thread waiter([&] { got = (*store)->Get("key", seconds(60)); });
  std::this_thread::sleep_for(milliseconds(50));
  EXPECT_TRUE((*store)->Set("key", "value").ok());
  waiter.join();
  EXPECT_EQ(got.value_or(""), "value");
  EXPECT_TRUE(absl::IsNotFound((*store)->Find("nothing").status()));
  EXPECT_TRUE(absl::IsDeadlineExceeded((*store)->Get("nothing", milliseconds(5)).status()));
}

TEST(TcpRendezvous, ATakenPortAndAMissingServerAreTold) {
  const int port = FreePort();
  auto store = ConnectTcpStore(At(port, 0, 2), seconds(60));
  ASSERT_TRUE(store.ok()) << store.status();
  const absl::Status taken = ConnectTcpStore(At(port, 0, 2), seconds(5)).status();
  EXPECT_EQ(taken.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(taken.message(), HasSubstr(absl::StrCat("rank 0 cannot serve at 127.0.0.1:", port)));
  const absl::Status missing = ConnectTcpStore(At(FreePort(), 1, 2), seconds(2)).status();
  EXPECT_EQ(missing.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(missing.message(), HasSubstr("rank 1 cannot reach 127.0.0.1:"));
}

TEST(TcpRendezvous, AServerThatIsGoneMakesCallsUnavailable) {
  const int port = FreePort();
  auto server = ConnectTcpStore(At(port, 0, 2), seconds(60));
  ASSERT_TRUE(server.ok()) << server.status();
  auto client = ConnectTcpStore(At(port, 1, 2), seconds(60));
  ASSERT_TRUE(client.ok()) << client.status();
  ASSERT_TRUE((*client)->Set("key", "value").ok());
  server->reset();
  EXPECT_EQ((*client)->Get("other", seconds(30)).status().code(), absl::StatusCode::kUnavailable);
}

TEST(TcpRendezvous, AProcessThatNobodyLaunchedHasNoStore) {
  EXPECT_EQ(ConnectTcpStore(Launch()).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace millrace
