#include "data/storage/storage_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstring>
#include <limits>

#include "data/storage/sizes.h"
#include "data/storage/storage_test_support.h"

namespace millrace {
namespace {

constexpr int64_t kPage = 4096;

bool Exists(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

INSTANTIATE_TEST_SUITE_P(Engines, EachEngine, testing::Values(Engine::kIoUring, Engine::kThreads),
                         [](const auto& info) { return Name(info.param); });

// Random writes and reads beside a copy in memory: any offset in pages, any length and alignment, several pieces.
TEST_P(EachEngine, GivesBackWhatWasWrittenLast) {
  std::mt19937 random(11);
  for (int trial = 0; trial < 24; ++trial) {
    StorageFile::Options options = SmallFile(GetParam());
    options.block_bytes = kPage << random() % 5;
    options.queue_depth = 1 + random() % 8;
    options.checksum = trial % 3 != 0;
    options.direct = trial % 4 != 0;
    const std::unique_ptr<StorageFile> file = Make(options);
    ASSERT_NE(file, nullptr);
    std::vector<char> mirror(options.bytes, 0);
    ASSERT_TRUE(file->Write(0, mirror.data(), options.bytes).ok());
    const PageMemory memory(options.bytes + kPage, false);
    for (int step = 0; step < 12; ++step) {
      // One to three pieces one after another, in the file and in memory.
      std::vector<StorageFile::Piece> pieces;
      int64_t offset = random() % 64 * kPage;
      char* at = memory.data() + (random() % 2 ? 0 : random() % kPage);
      for (int n = 1 + random() % 3; n > 0; --n) {
        const int64_t bytes = random() % 3 == 0 ? random() % 16 * kPage : random() % (64 * 1024);
        pieces.push_back({offset, at, bytes});
        offset += (bytes + kPage - 1) / kPage * kPage;
        at += bytes;
      }
      const bool write = random() % 2 == 0;
      if (write) {
        for (const auto& piece : pieces) {
          char* to = &mirror[piece.file_offset];
          for (int64_t i = 0; i < piece.bytes; ++i) {
            to[i] = static_cast<char*>(piece.memory)[i] = static_cast<char>(random());
          }
          std::memset(to + piece.bytes, 0, (kPage - piece.bytes % kPage) % kPage);
        }
      }
      const absl::Status status = write ? file->Write(pieces) : file->Read(pieces);
      ASSERT_TRUE(status.ok()) << status;
      for (const auto& piece : pieces) {
        ASSERT_EQ(std::memcmp(piece.memory, &mirror[piece.file_offset], piece.bytes), 0)
            << file->description() << " " << piece.file_offset << " + " << piece.bytes;
      }
    }
    std::vector<char> all(options.bytes);
    ASSERT_TRUE(file->Read(0, all.data(), options.bytes).ok());
    ASSERT_EQ(all, mirror);
  }
}

TEST_P(EachEngine, TheRestOfTheLastPageIsZerosInTheFile) {
  const std::unique_ptr<StorageFile> file = Make(SmallFile(GetParam()));
  const std::vector<char> ones(2 * kPage, 1);
  ASSERT_TRUE(file->Write(0, ones.data(), 2 * kPage).ok());
  ASSERT_TRUE(file->Write(0, ones.data(), kPage + 10).ok());
  const int fd = open(file->path().c_str(), O_RDONLY);
  std::vector<char> page(kPage);
  ASSERT_EQ(pread(fd, page.data(), kPage, kPage), kPage);
  close(fd);
  std::vector<char> expected(kPage, 0);
  std::fill_n(expected.begin(), 10, 1);
  EXPECT_EQ(page, expected);
}

TEST_P(EachEngine, APageThatWasNeverWrittenCannotBeRead) {
  const std::unique_ptr<StorageFile> file = Make(SmallFile(GetParam()));
  std::vector<char> bytes(4 * kPage);
  ASSERT_TRUE(file->Write(0, bytes.data(), 2 * kPage).ok());
  EXPECT_TRUE(file->Read(kPage, bytes.data(), 1).ok());
  ExpectError(file->Read(kPage, bytes.data(), kPage + 1), absl::StatusCode::kFailedPrecondition,
              {file->path(), "at offset 4096", "the page at offset 8192 was never written"});
}

TEST_P(EachEngine, RangesOutsideTheFileOrBetweenPagesAreRefused) {
  const std::unique_ptr<StorageFile> file = Make(SmallFile(GetParam()));
  char byte = 0;
  for (const auto& [offset, bytes] :
       std::vector<std::pair<int64_t, int64_t>>{{1, 1},
                                                {-4096, 1},
                                                {1 << 20, 1},
                                                {0, (1 << 20) + 1},
                                                {0, -1},
                                                {kPage, std::numeric_limits<int64_t>::max()}}) {
    ExpectError(file->Write(offset, &byte, bytes), absl::StatusCode::kInvalidArgument,
                {file->path(), absl::StrCat("cannot write ", bytes, " bytes at offset ", offset)});
  }
  EXPECT_TRUE(file->Write(1 << 20, &byte, 0).ok());
}

TEST_P(EachEngine, SaysWhatItUses) {
  const std::unique_ptr<StorageFile> file = Make(SmallFile(GetParam()));
  const std::string engine = GetParam() == Engine::kIoUring ? "io_uring" : "thread pool";
  EXPECT_EQ(file->description().substr(0, engine.size()), engine);
  EXPECT_NE(file->description().find("64 KiB x 4"), std::string::npos) << file->description();
  EXPECT_EQ(file->staging_bytes(), 256 << 10);
  EXPECT_EQ(file->checksum_bytes(), (256 + 16) * 4 + 256 / 8);
}

TEST(StorageFile, IsReservedWholeAndRemovedWithItsObject) {
  StorageFile::Options options = SmallFile(Engine::kAuto);
  options.bytes = 100'000;  // 25 pages
  std::unique_ptr<StorageFile> file = Make(options);
  EXPECT_EQ(ReadFile(options.path)->size(), 25u * kPage);
  file.reset();
  EXPECT_FALSE(Exists(options.path));
  options.keep = true;
  Make(options).reset();
  EXPECT_TRUE(Exists(options.path));
  options.keep = false;  // an old file is made anew
  Make(options).reset();
  EXPECT_FALSE(Exists(options.path));
}

TEST(StorageFile, WrongOptionsAreToldAllAtOnce) {
  StorageFile::Options options;
  options.block_bytes = 1000;
  options.queue_depth = 0;
  ExpectError(StorageFile::Create(options).status(), absl::StatusCode::kInvalidArgument,
              {"path is empty", "bytes is 0", "block_bytes is 1000", "queue_depth is 0"});
}

TEST(StorageFile, AFolderThatIsNotThereIsNamed) {
  StorageFile::Options options = SmallFile(Engine::kAuto);
  options.path = TestPath("no/such/file");
  ExpectError(StorageFile::Create(options).status(), absl::StatusCode::kNotFound,
              {"no/such/file: cannot make the storage file", "make its folder first"});
}

TEST(StorageFile, AnotherObjectsFileIsLeftAlone) {
  const StorageFile::Options options = SmallFile(Engine::kAuto);
  const std::unique_ptr<StorageFile> file = Make(options);
  std::vector<char> bytes = RandomBytes(kPage, 1);
  ASSERT_TRUE(file->Write(0, bytes.data(), kPage).ok());
  ExpectError(StorageFile::Create(options).status(), absl::StatusCode::kFailedPrecondition,
              {options.path, "in use by another run"});
  EXPECT_TRUE(file->Read(0, bytes.data(), kPage).ok());
}

TEST(StorageFile, MoreThanIsFreeIsRefusedAndLeavesNoFile) {
  StorageFile::Options options = SmallFile(Engine::kAuto);
  options.bytes = int64_t{1} << 50;
  ExpectError(StorageFile::Create(options).status(), absl::StatusCode::kResourceExhausted,
              {options.path, "cannot reserve 1024 TiB (1125899906842624 bytes)", "free are"});
  EXPECT_FALSE(Exists(options.path));
}

TEST(BytesText, HasAtMostFourDigits) {
  EXPECT_EQ(BytesText(1 << 20), "1 MiB");
  EXPECT_EQ(BytesText(256 << 10), "256 KiB");
  EXPECT_EQ(BytesText(0), "0 B");
  EXPECT_EQ(BytesText((int64_t{25} << 30) / 2), "12.5 GiB");
}

}  // namespace
}  // namespace millrace
