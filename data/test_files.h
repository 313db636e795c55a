// What the tests of data/ share: files in the test's own directory and expectations about messages.
#ifndef MILLRACE_DATA_TEST_FILES_H_
#define MILLRACE_DATA_TEST_FILES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "data/file.h"
#include "gtest/gtest.h"

namespace millrace {

// A path that no other test of the process uses.
inline std::string TestPath(const std::string& name) {
  const auto* test = testing::UnitTest::GetInstance()->current_test_info();
  std::string directory = testing::TempDir();
  if (directory.back() == '/') directory.pop_back();
  directory = absl::StrCat(directory, "/", test->test_suite_name(), ".", test->name());
  EXPECT_TRUE(MakeDirectories(directory).ok());
  return absl::StrCat(directory, "/", name);
}

inline std::string WriteTestFile(const std::string& name, const std::vector<uint8_t>& bytes) {
  const std::string path = TestPath(name);
  EXPECT_TRUE(WriteFileAtomically(path, bytes).ok());
  return path;
}

// The status must be an error of this code whose message holds every one of `parts`: a message that
// lost its numbers is as wrong as a missing error.
inline void ExpectError(const absl::Status& status, absl::StatusCode code,
                        const std::vector<std::string>& parts) {
  EXPECT_EQ(status.code(), code) << status;
  for (const std::string& part : parts) {
    EXPECT_NE(status.message().find(part), absl::string_view::npos)
        << "'" << part << "' is missing in: " << status.message();
  }
}

}  // namespace millrace

#endif  // MILLRACE_DATA_TEST_FILES_H_
