#include "data/safetensors/safetensors.h"

#include <dirent.h>

#include <cstring>

#include "data/atomic_file.h"
#include "data/file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace millrace {
namespace {

using ::testing::HasSubstr;

std::string Temporary(const std::string& name) { return ::testing::TempDir() + "/" + name; }

TEST(Safetensors, TensorsAndMetadataComeBackAsTheyWereWritten) {
  const float w[] = {1, 2, 3, 4, 5, 6};
  const int64_t labels[] = {7, -8};
  const std::string path = Temporary("round_trip.safetensors");
  ASSERT_TRUE(WriteSafetensors(path,
                               {{"w", DType::kF32, {2, 3}, w},
                                {"labels", DType::kI64, {2}, labels},
                                {"none", DType::kF32, {0}, nullptr}},
                               {{"step", "12"}})
                  .ok());
  auto file = SafetensorsFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->metadata().at("step"), "12");
  const auto* entry = file->Find("w");
  ASSERT_NE(entry, nullptr);
  EXPECT_EQ(entry->shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(std::memcmp(entry->data, w, sizeof(w)), 0);
  EXPECT_EQ(std::memcmp(file->Find("labels")->data, labels, sizeof(labels)), 0);
  EXPECT_EQ(file->Find("none")->numel(), 0);
  EXPECT_EQ(file->Find("x"), nullptr);
}

TEST(Safetensors, ATruncatedFileIsRefusedWithItsNameAndSizes) {
  const float w[64] = {};
  const std::string path = Temporary("cut.safetensors");
  ASSERT_TRUE(WriteSafetensors(path, {{"w", DType::kF32, {64}, w}}, {}).ok());
  auto content = ReadFile(path);
  ASSERT_TRUE(content.ok());
  ASSERT_TRUE(WriteFileAtomically(path, content->substr(0, content->size() - 10)).ok());
  const absl::Status status = SafetensorsFile::Open(path).status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("cut.safetensors"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("tensor 'w' bytes [0, 256) lie outside"));
  ASSERT_TRUE(WriteFileAtomically(path, content->substr(0, 20)).ok());
  EXPECT_THAT(std::string(SafetensorsFile::Open(path).status().message()), HasSubstr("truncated"));
  ASSERT_TRUE(WriteFileAtomically(path, "abc").ok());
  EXPECT_FALSE(SafetensorsFile::Open(path).ok());
}

TEST(Safetensors, GarbageHeadersAreErrorsNotCrashes) {
  const std::string path = Temporary("garbage.safetensors");
  for (const std::string header :
       {"[]", "{\"a\": 3}",
        "{\"a\": {\"dtype\": \"F32\", \"shape\": [-1], \"data_offsets\": [0, 4]}}",
        "{\"a\": {\"dtype\": \"Q4\", \"shape\": [1], \"data_offsets\": [0, 4]}}",
        "{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0, 4]}}", "{\"a\": "}) {
    const uint64_t length = header.size();
    std::string bytes(reinterpret_cast<const char*>(&length), 8);
    ASSERT_TRUE(WriteFileAtomically(path, bytes + header + "1234").ok());
    EXPECT_FALSE(SafetensorsFile::Open(path).ok()) << header;
  }
}

TEST(AtomicFile, WithoutCommitTheOldContentStaysAndNoTemporaryIsLeft) {
  const std::string folder = Temporary("atomic");
  ASSERT_TRUE(MakeDirectories(folder + "/a/b").ok());
  const std::string path = folder + "/a/b/file";
  ASSERT_TRUE(WriteFileAtomically(path, "old").ok());
  {
    auto file = AtomicFile::Create(path);
    ASSERT_TRUE(file.ok());
    ASSERT_TRUE(file->Append("new", 3).ok());
  }
  EXPECT_EQ(*ReadFile(path), "old");
  int entries = 0;
  DIR* dir = opendir((folder + "/a/b").c_str());
  while (readdir(dir) != nullptr) ++entries;
  closedir(dir);
  EXPECT_EQ(entries, 3) << ". and .. and the file";
}

}  // namespace
}  // namespace millrace
