// What the tests of storage files share.
#ifndef MILLRACE_DATA_STORAGE_STORAGE_TEST_SUPPORT_H_
#define MILLRACE_DATA_STORAGE_STORAGE_TEST_SUPPORT_H_

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "data/storage/page_memory.h"
#include "data/storage/storage_file.h"
#include "data/test_files.h"

namespace millrace {

using Engine = StorageFile::Engine;

// False where the test itself runs under a kernel or a container that forbids it.
inline bool IoUringWorks() {
  StorageFile::Options options;
  options.path = TestPath("io_uring_trial");
  options.bytes = 4096;
  options.engine = Engine::kIoUring;
  return StorageFile::Create(options).ok();
}

inline StorageFile::Options SmallFile(Engine engine) {
  StorageFile::Options options;
  options.path = TestPath("storage");
  options.bytes = 1 << 20;
  options.engine = engine;
  options.block_bytes = 64 << 10;
  options.queue_depth = 4;
  return options;
}

inline std::unique_ptr<StorageFile> Make(const StorageFile::Options& options) {
  absl::StatusOr<std::unique_ptr<StorageFile>> file = StorageFile::Create(options);
  EXPECT_TRUE(file.ok()) << file.status();
  return file.ok() ? *std::move(file) : nullptr;
}

inline std::vector<char> RandomBytes(int64_t bytes, int seed) {
  std::mt19937 random(seed);
  std::vector<char> out(bytes);
  for (char& c : out) c = static_cast<char>(random());
  return out;
}

inline const char* Name(Engine engine) {
  return engine == Engine::kIoUring ? "IoUring" : engine == Engine::kThreads ? "Threads" : "Auto";
}

// A test of each engine.
class EachEngine : public testing::TestWithParam<Engine> {
 protected:
  void SetUp() override {
    if (GetParam() == Engine::kIoUring && !IoUringWorks()) GTEST_SKIP() << "no io_uring here";
  }
};

}  // namespace millrace

#endif  // MILLRACE_DATA_STORAGE_STORAGE_TEST_SUPPORT_H_
