// The command that lets anyone compare this repository with the public reference packages: it computes the
// cases of a golden set and writes one file of results per case.
//
//   bazel run //tests:golden -- --golden DIR --out DIR [--compare]
//
// Relative paths are those of the shell that called. Exit code 0: every supported case was written (and,
// with --compare, agrees), 1: some were not, 2: the arguments or the folders cannot be used.
#include <cstdlib>
#include <exception>
#include <iostream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/golden_runner.h"

namespace millrace {
namespace {

constexpr char kUsage[] =
    "usage: golden --golden DIR --out DIR [--compare]\n"
    "  --golden DIR   manifest.jsonl, inputs/ and, to compare, expected/\n"
    "  --out DIR      where <case>.safetensors are written; made when absent\n"
    "  --compare      compares what was written with expected/\n";

// `bazel run` starts programs in a folder of its own.
std::string FromCaller(const std::string& path) {
  const char* caller = std::getenv("BUILD_WORKING_DIRECTORY");
  if (caller == nullptr || path.empty() || path[0] == '/') return path;
  return absl::StrCat(caller, "/", path);
}

// Takes --name VALUE and --name=VALUE. False when args[*i] is another option.
bool TakePath(const std::vector<std::string>& args, size_t* i, const std::string& name,
              std::string* path) {
  if (args[*i] == name && *i + 1 < args.size()) {
    *path = FromCaller(args[++*i]);
    return true;
  }
  if (!absl::StartsWith(args[*i], name + "=")) return false;
  *path = FromCaller(args[*i].substr(name.size() + 1));
  return true;
}

absl::StatusOr<GoldenOptions> Parse(const std::vector<std::string>& args) {
  GoldenOptions o;
  for (size_t i = 0; i < args.size(); ++i) {
    if (args[i] == "--compare") {
      o.compare = true;
    } else if (!TakePath(args, &i, "--golden", &o.golden_dir) &&
               !TakePath(args, &i, "--out", &o.out_dir)) {
      const bool known = args[i] == "--golden" || args[i] == "--out";
      return absl::InvalidArgumentError(
          absl::StrCat(args[i], known ? " needs a folder" : " is not an argument"));
    }
  }
  if (o.golden_dir.empty()) return absl::InvalidArgumentError("--golden DIR is missing");
  if (o.out_dir.empty()) return absl::InvalidArgumentError("--out DIR is missing");
  return o;
}

int Main(const std::vector<std::string>& args) {
  if (args.size() == 1 && (args[0] == "--help" || args[0] == "-h")) {
    std::cout << kUsage;
    return 0;
  }
  const absl::StatusOr<GoldenOptions> options = Parse(args);
  if (!options.ok()) {
    std::cerr << "golden: " << options.status().message() << "\n" << kUsage;
    return 2;
  }
  const absl::StatusOr<GoldenSummary> summary = RunGolden(*options, std::cout);
  if (!summary.ok()) {
    std::cerr << "golden: " << summary.status().message() << "\n";
    return 2;
  }
  return summary->ok() ? 0 : 1;
}

}  // namespace
}  // namespace millrace

int main(int argc, char** argv) {
  try {
    return millrace::Main(std::vector<std::string>(argv + 1, argv + argc));
  } catch (const std::exception& e) {
    std::cerr << "golden: " << e.what() << "\n";
    return 1;
  }
}
