// Every operation that runs on the CPU says in kernels.txt whether it runs on CUDA devices; under --config=cuda those
// that say so do.

#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "ops/kernel_registry.h"

namespace millrace {
namespace {

std::map<std::string, std::string> Table() {
  std::map<std::string, std::string> table;
  std::ifstream file("ops/cuda/kernels.txt");
  EXPECT_TRUE(file.good());
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line[0] == '#') continue;
    const std::pair<std::string, std::string> row =
        absl::StrSplit(line, absl::MaxSplits(absl::ByChar(' '), 1));
    table[row.first] = std::string(absl::StripAsciiWhitespace(row.second));
  }
  return table;
}

TEST(KernelTableTest, EveryOperationOfTheCpuIsInTheTableAndNoOther) {
  const std::map<std::string, std::string> table = Table();
  const std::vector<std::string> names = KernelRegistry::Global().Names();
  for (const std::string& op : names) {
    EXPECT_EQ(table.count(op), 1u) << op << ": say in ops/cuda/kernels.txt whether devices have it";
  }
  EXPECT_EQ(table.size(), names.size());
  for (const auto& [op, what] : table) {
    EXPECT_TRUE(what == "kernel" || (absl::StartsWith(what, "none: ") && what.size() > 20)) << op;
  }
}

TEST(KernelTableTest, TheTableSaysWhatIsLinked) {
  const KernelRegistry& registry = KernelRegistry::Global();
  if (registry.Find("adamw", "cuda") == nullptr) GTEST_SKIP() << "built without CUDA";
  for (const auto& [op, what] : Table()) {
    EXPECT_EQ(registry.Find(op, "cuda") != nullptr, what == "kernel") << op;
  }
}

}  // namespace
}  // namespace millrace
