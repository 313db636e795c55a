#include "data/storage/storage_probe.h"

#include <dirent.h>
#include <unistd.h>

#include "data/storage/preflight.h"
#include "data/storage/storage_test_support.h"

namespace millrace {
namespace {

std::vector<std::string> FilesIn(const std::string& folder) {
  std::vector<std::string> names;
  DIR* dir = opendir(folder.c_str());
  while (const dirent* entry = readdir(dir)) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  closedir(dir);
  return names;
}

std::string EmptyFolder() {
  const std::string folder = TestPath("folder");
  EXPECT_TRUE(MakeDirectories(folder).ok());
  return folder;
}

TEST(StorageProbe, MeasuresPairsAndLeavesNothingBehind) {
  StorageProbeOptions options;
  options.folder = EmptyFolder();
  options.seconds = 0.1;
  options.file_bytes = 8 << 20;
  const absl::StatusOr<StorageProbe> probe = ProbeStorage(options);
  ASSERT_TRUE(probe.ok()) << probe.status();
  ASSERT_FALSE(probe->tried.empty());
  for (const StorageRates& rates : probe->tried) {
    EXPECT_GT(rates.read_bytes_per_second, 1e4);
    EXPECT_GT(rates.write_bytes_per_second, 1e4);
    EXPECT_FALSE(rates.engine.empty());
  }
  EXPECT_EQ(probe->best.block_bytes % 4096, 0);
  EXPECT_TRUE(FilesIn(options.folder).empty());
}

TEST(StorageProbe, AFolderThatIsNotThereIsAnError) {
  StorageProbeOptions options;
  options.folder = TestPath("none");
  ExpectError(ProbeStorage(options).status(), absl::StatusCode::kNotFound,
              {"none/.millrace_probe"});
}

TEST(StorageProbe, TheBestIsFastInBothDirectionsAndSmallAmongEquals) {
  const StorageRates fast_read = {1 << 20, 8, 10e9, 0.5e9, ""};
  const StorageRates balanced = {4 << 20, 4, 2e9, 2e9, ""};
  const StorageRates nearly_and_small = {1 << 20, 4, 1.95e9, 1.95e9, ""};
  EXPECT_EQ(BestOf({fast_read, balanced}).queue_depth, 4);
  EXPECT_EQ(BestOf({fast_read, balanced, nearly_and_small}).block_bytes, 1 << 20);
  EXPECT_EQ(BestOf({balanced, nearly_and_small, fast_read}).block_bytes, 1 << 20);
}

TEST(StoragePreflight, AFolderThatWillDoHasNoFindings) {
  Findings findings;
  const StorageFacts facts =
      CheckStorageFolder({.folder = EmptyFolder(), .bytes = 1 << 20}, &findings);
  EXPECT_TRUE(findings.ok()) << findings.ToText();
  EXPECT_GT(facts.free_bytes, 1 << 20);
  EXPECT_EQ(facts.notes.empty(), facts.direct && facts.io_uring);
  EXPECT_TRUE(FilesIn(EmptyFolder()).empty());
}

TEST(StoragePreflight, AllThatIsMissingIsToldAtOnce) {
  setenv("MILLRACE_IO_URING", "off", 1);
  Findings findings;
  CheckStorageFolder(
      {.folder = EmptyFolder(), .bytes = int64_t{1} << 60, .engine = Engine::kIoUring}, &findings);
  unsetenv("MILLRACE_IO_URING");
  ASSERT_EQ(findings.list().size(), 2u) << findings.ToText();
  ExpectError(findings.ToStatus(), absl::StatusCode::kInvalidArgument,
              {"free, the run needs 1.049e+06 TiB", "io_uring refused: MILLRACE_IO_URING=off"});
}

TEST(StoragePreflight, AFallbackIsANoteNotAMistake) {
  setenv("MILLRACE_IO_URING", "off", 1);
  Findings findings;
  const StorageFacts facts = CheckStorageFolder({.folder = EmptyFolder(), .bytes = 1}, &findings);
  unsetenv("MILLRACE_IO_URING");
  EXPECT_TRUE(findings.ok()) << findings.ToText();
  ASSERT_FALSE(facts.notes.empty());
  EXPECT_NE(facts.notes.back().find("a thread pool is used, io_uring refused"), std::string::npos);
}

TEST(StoragePreflight, AMissingFolderAndAFileAreNotFolders) {
  Findings findings;
  CheckStorageFolder({.folder = TestPath("none"), .bytes = 1}, &findings);
  CheckStorageFolder({.folder = WriteTestFile("file", {1}), .bytes = 1}, &findings);
  ExpectError(findings.ToStatus(), absl::StatusCode::kInvalidArgument,
              {"none: error", "No such file or directory", "file: error", "is not a folder"});
}

}  // namespace
}  // namespace millrace
