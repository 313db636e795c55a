// Everything that can go wrong with a drive or a kernel, done for real wherever the kernel lets us: each ends in an
// error that names file and offset, none hangs, and the next transfer works.
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <functional>
#include <thread>

#include "data/storage/storage_file.h"
#include "data/storage/storage_test_support.h"

namespace millrace {
namespace {

constexpr int64_t kPage = 4096;
constexpr int64_t kBytes = 1 << 20;

INSTANTIATE_TEST_SUITE_P(Engines, EachEngine, testing::Values(Engine::kIoUring, Engine::kThreads),
                         [](const auto& info) { return Name(info.param); });

void ExpectWorks(StorageFile* file) {
  ASSERT_NE(file, nullptr);
  std::vector<char> out = RandomBytes(kBytes, 5), in(kBytes);
  EXPECT_EQ(file->Write(0, out.data(), kBytes), absl::OkStatus());
  EXPECT_EQ(file->Read(0, in.data(), kBytes), absl::OkStatus());
  EXPECT_EQ(in, out);
}

TEST_P(EachEngine, AShortenedFileIsToldAndMayBeWrittenAgain) {
  const std::unique_ptr<StorageFile> file = Make(SmallFile(GetParam()));
  ExpectWorks(file.get());
  std::vector<char> in(kBytes);
  for (const int64_t left : {kBytes - 1, int64_t{600'000}, int64_t{512} << 10, int64_t{0}}) {
    ASSERT_EQ(truncate(file->path().c_str(), left), 0);
    ExpectError(file->Read(0, in.data(), kBytes), absl::StatusCode::kDataLoss,
                {absl::StrCat(file->path(), ": read of 65536 bytes at offset "),
                 absl::StrCat("the file ends at byte ", left, ", expected 1048576")});
    ExpectWorks(file.get());
  }
}

TEST_P(EachEngine, ACorruptedPageIsNamed) {
  const std::unique_ptr<StorageFile> file = Make(SmallFile(GetParam()));
  ExpectWorks(file.get());
  const int fd = open(file->path().c_str(), O_WRONLY);
  ASSERT_EQ(pwrite(fd, "flip", 4, 70 * kPage + 123), 4);
  ASSERT_EQ(fsync(fd), 0);
  close(fd);
  std::vector<char> in(kBytes);
  ExpectError(file->Read(0, in.data(), kBytes), absl::StatusCode::kDataLoss,
              {file->path(), "read of 65536 bytes at offset 262144 failed",
               "the page at offset 286720 is corrupted"});
  EXPECT_TRUE(file->Read(0, in.data(), 70 * kPage).ok()) << "the pages before it are sound";
  ExpectWorks(file.get());
}

TEST_P(EachEngine, AnErrorInMidTransferIsPassedOn) {
  int64_t bad = -1;
  StorageFile::Options options = SmallFile(GetParam());
  options.fault = [&](bool write, int64_t offset, int64_t bytes) {
    return offset == bad ? absl::UnavailableError("the drive is gone") : absl::OkStatus();
  };
  const std::unique_ptr<StorageFile> file = Make(options);
  ExpectWorks(file.get());
  std::vector<char> in(kBytes);
  bad = 9 * 65536;
  const std::vector<std::string> parts = {options.path, "of 65536 bytes at offset 589824 failed",
                                          "the drive is gone"};
  ExpectError(file->Read(0, in.data(), kBytes), absl::StatusCode::kUnavailable, parts);
  ExpectError(file->Write(0, in.data(), kBytes), absl::StatusCode::kUnavailable, parts);
  bad = -1;
  ExpectError(file->Read(0, in.data(), kBytes), absl::StatusCode::kFailedPrecondition,
              {"offset 589824", "its last write failed"});
  ExpectWorks(file.get());
}

// Memory the kernel cannot reach: a request that really fails while its neighbours are on their way.
TEST_P(EachEngine, ARequestThatTheKernelFailsLeavesTheFileUsable) {
  const std::unique_ptr<StorageFile> file = Make(SmallFile(GetParam()));
  ExpectWorks(file.get());
  const PageMemory memory(kBytes, true);
  ASSERT_EQ(mprotect(memory.data() + kBytes / 2, 65536, PROT_NONE), 0);
  ExpectError(file->Read({{{0, memory.data(), kBytes / 2},
                           {kBytes / 2, memory.data() + kBytes / 2, 65536},
                           {kBytes / 2 + 65536, memory.data() + kBytes / 2 + 65536, 65536}}}),
              absl::StatusCode::kInvalidArgument,
              {file->path(), "read of 65536 bytes at offset 524288 failed: Bad address"});
  ExpectWorks(file.get());
}

// The limit makes the kernel write in part, then fail: both answers of a disk that is full after all.
TEST_P(EachEngine, AWriteBeyondTheLimitOfFileSizeIsAnError) {
  const std::unique_ptr<StorageFile> file = Make(SmallFile(GetParam()));
  signal(SIGXFSZ, SIG_IGN);
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit low = {10 * 65536 + 3 * kPage, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &low), 0);
  std::vector<char> out = RandomBytes(kBytes, 6);
  const absl::Status status = file->Write(0, out.data(), kBytes);
  StorageFile::Options other = SmallFile(GetParam());
  other.path = TestPath("other");
  const absl::Status reserve = StorageFile::Create(other).status();
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  ExpectError(status, status.code(),
              {file->path(), "write of 65536 bytes at offset", "File too large"});
  ExpectError(reserve, reserve.code(), {other.path, "cannot reserve 1 MiB", "ulimit -f"});
  EXPECT_NE(access(other.path.c_str(), F_OK), 0);
  ExpectWorks(file.get());
}

// Runs `body` on a thread for which the kernel answers one system call with EPERM, as containers do.
bool WithoutSystemCall(int number,
                       const std::function<void(const std::function<void()>& forbid)>& body) {
  bool possible = true;
  std::thread([&] {
    body([&] {
      sock_filter code[] = {
          BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
          BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(number), 0, 1),
          BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
          BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      };
      const sock_fprog program = {4, code};
      possible = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
                 prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
    });
  }).join();
  return possible;
}

TEST(StorageFaults, ThreadsTakeOverWhereTheKernelForbidsIoUring) {
  const bool possible = WithoutSystemCall(__NR_io_uring_setup, [](const auto& forbid) {
    forbid();
    const std::unique_ptr<StorageFile> file = Make(SmallFile(Engine::kAuto));
    EXPECT_EQ(file->description().find("thread pool (io_uring refused: io_uring_setup: Operation "
                                       "not permitted), "),
              0u)
        << file->description();
    ExpectWorks(file.get());
    StorageFile::Options demanded = SmallFile(Engine::kIoUring);
    demanded.path = TestPath("demanded");
    ExpectError(StorageFile::Create(demanded).status(), absl::StatusCode::kFailedPrecondition,
                {demanded.path, "io_uring refused", "Operation not permitted"});
    EXPECT_NE(access(demanded.path.c_str(), F_OK), 0);
  });
  if (!possible) GTEST_SKIP() << "no seccomp here";
}

TEST(StorageFaults, TheEnvironmentTurnsIoUringOff) {
  setenv("MILLRACE_IO_URING", "off", 1);
  const std::unique_ptr<StorageFile> file = Make(SmallFile(Engine::kAuto));
  unsetenv("MILLRACE_IO_URING");
  EXPECT_EQ(file->io_uring_refusal(), "io_uring refused: MILLRACE_IO_URING=off");
  ExpectWorks(file.get());
}

TEST(StorageFaults, IoUringForbiddenInMidRunIsAnErrorNotAHang) {
  if (!IoUringWorks()) GTEST_SKIP() << "no io_uring here";
  bool in_flight = false;
  const bool possible = WithoutSystemCall(__NR_io_uring_enter, [&](const auto& forbid) {
    StorageFile::Options options = SmallFile(Engine::kIoUring);
    options.fault = [&](bool write, int64_t offset, int64_t bytes) {
      if (offset == 2 * 65536 && !in_flight) {
        in_flight = true;
        forbid();
      }
      return absl::OkStatus();
    };
    const std::unique_ptr<StorageFile> file = Make(options);
    std::vector<char> out = RandomBytes(kBytes, 6);
    for (int i = 0; i < 10; ++i) {  // more often than there are places in the ring
      ExpectError(file->Write(0, out.data(), kBytes), absl::StatusCode::kPermissionDenied,
                  {file->path(), "write of 65536 bytes at offset", "took no request"});
    }
  });
  if (!possible) GTEST_SKIP() << "no seccomp here";
}

TEST(StorageFaults, ResultsAreTheSameWhenNoMemoryMayBeLocked) {
  if (!IoUringWorks()) GTEST_SKIP() << "no io_uring here";
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_MEMLOCK, &before), 0);
  const rlimit low = {128 << 10,
                      before.rlim_max};  // enough for the ring, not for the staging memory
  ASSERT_EQ(setrlimit(RLIMIT_MEMLOCK, &low), 0);
  bool possible = false;
  std::thread([&] {
    // Root may lock memory in spite of the limit: this thread gives that up.
    __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct data[2] = {};
    ASSERT_EQ(syscall(SYS_capget, &header, data), 0);
    data[0].effective &= ~(1u << CAP_IPC_LOCK);
    ASSERT_EQ(syscall(SYS_capset, &header, data), 0);
    possible = IoUringWorks();
    if (!possible) return;
    const std::unique_ptr<StorageFile> file = Make(SmallFile(Engine::kIoUring));
    ASSERT_NE(file, nullptr);
    EXPECT_NE(file->description().find("without registered buffers"), std::string::npos)
        << file->description();
    ExpectWorks(file.get());
  }).join();
  ASSERT_EQ(setrlimit(RLIMIT_MEMLOCK, &before), 0);
  if (!possible) GTEST_SKIP() << "others of this user have locked all there is";
}

// Root of a name space of users and mounts of its own: what is mounted is seen by nobody else.
bool BecomeOneWhoMayMount() {
  const std::string uid = absl::StrCat("0 ", getuid(), " 1"),
                    gid = absl::StrCat("0 ", getgid(), " 1");
  if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return false;
  for (const auto& [path, text] :
       std::vector<std::pair<std::string, std::string>>{{"/proc/self/setgroups", "deny"},
                                                        {"/proc/self/uid_map", uid},
                                                        {"/proc/self/gid_map", gid}}) {
    const int fd = open(path.c_str(), O_WRONLY);
    const bool ok = write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
    close(fd);
    if (!ok) return false;
  }
  return mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
}

// Runs `body` in a child process with a file system of this type on `folder`; false where mounting is not possible.
bool WithMount(const char* type, const char* settings, const std::string& folder,
               const std::function<void()>& body) {
  const pid_t child = fork();
  if (child == 0) {
    if (!BecomeOneWhoMayMount() || mount(type, folder.c_str(), type, 0, settings) != 0) _exit(77);
    body();
    std::fflush(nullptr);
    _exit(testing::Test::HasFailure() ? 1 : 0);
  }
  int result = 0;
  waitpid(child, &result, 0);
  if (WIFEXITED(result) && WEXITSTATUS(result) == 77) return false;
  EXPECT_EQ(result, 0) << "the child says more above";
  return true;
}

TEST(StorageFaults, AFullDiskIsToldBeforeAnythingRuns) {
  const std::string folder = TestPath("mount");
  ASSERT_TRUE(MakeDirectories(folder).ok());
  const bool possible = WithMount("tmpfs", "size=2m", folder, [&] {
    StorageFile::Options options = SmallFile(Engine::kAuto);
    options.path = folder + "/one";
    const std::unique_ptr<StorageFile> one = Make(options);
    ExpectWorks(one.get());
    options.path = folder + "/two";
    options.bytes = (1 << 20) + 1;
    ExpectError(StorageFile::Create(options).status(), absl::StatusCode::kResourceExhausted,
                {options.path, "cannot reserve 1.004 MiB (1052672 bytes)",
                 "free are 1 MiB (1048576 bytes)"});
    options.bytes = 1 << 20;
    ExpectWorks(Make(options).get());
  });
  if (!possible) GTEST_SKIP() << "cannot mount here";
}

TEST(StorageFaults, AFileSystemWithoutDirectIoIsUsedThroughThePageCache) {
  const std::string folder = TestPath("mount");
  ASSERT_TRUE(MakeDirectories(folder).ok());
  const bool possible = WithMount("ramfs", "", folder, [&] {
    StorageFile::Options options = SmallFile(Engine::kAuto);
    options.path = folder + "/file";
    absl::StatusOr<std::unique_ptr<StorageFile>> file = StorageFile::Create(options);
    ASSERT_TRUE(file.ok()) << file.status();
    EXPECT_FALSE((*file)->direct());
    EXPECT_NE((*file)->description().find("buffered (the file system refuses O_DIRECT)"),
              std::string::npos)
        << (*file)->description();
    ExpectWorks(file->get());
  });
  if (!possible) GTEST_SKIP() << "cannot mount here";
}

}  // namespace
}  // namespace millrace
