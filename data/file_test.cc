#include "data/file.h"

#include <unistd.h>

#include "data/test_files.h"

namespace millrace {
namespace {

TEST(File, WhatIsWrittenIsReadBack) {
  const std::string path = WriteTestFile("a", {1, 2, 0, 255});
  EXPECT_EQ(*ReadFile(path, ""), (std::vector<uint8_t>{1, 2, 0, 255}));
}

TEST(File, AWriteReplacesAndLeavesNoTemporaryFile) {
  const std::string path = WriteTestFile("a", {1, 2, 3});
  ASSERT_TRUE(WriteFileAtomically(path, absl::string_view("x")).ok());
  EXPECT_EQ(*ReadFile(path, ""), (std::vector<uint8_t>{'x'}));
  EXPECT_NE(access(absl::StrCat(path, ".tmp.", getpid()).c_str(), F_OK), 0);
}

TEST(File, AMissingFileComesWithHelp) {
  ExpectError(ReadFile(TestPath("none"), "make one").status(), absl::StatusCode::kNotFound,
              {"none: no such file", "help: make one"});
}

TEST(File, ADirectoryIsNotAFile) {
  ExpectError(ReadFile(testing::TempDir(), "name a file").status(),
              absl::StatusCode::kInvalidArgument, {"is a directory", "help: name a file"});
}

TEST(File, WritingWhereNoDirectoryIsNamesThePath) {
  ExpectError(WriteFileAtomically(TestPath("no/such/file"), absl::string_view("x")),
              absl::StatusCode::kNotFound, {"no/such/file", "cannot create"});
}

TEST(File, MakeDirectoriesMakesParentsAndAcceptsExistingOnes) {
  const std::string path = TestPath("a/b/c");
  EXPECT_TRUE(MakeDirectories(path).ok());
  EXPECT_TRUE(MakeDirectories(path + "/").ok());
  EXPECT_TRUE(WriteFileAtomically(path + "/file", absl::string_view("x")).ok());
  ExpectError(MakeDirectories(path + "/file"), absl::StatusCode::kFailedPrecondition,
              {"is not a directory"});
}

}  // namespace
}  // namespace millrace
