// Goes over a golden set: computes every case of a supported kind with this repository's code, writes the
// results as safetensors files that anyone may compare, and says of each case what became of it.
//
//   GoldenOptions options{.golden_dir = "golden", .out_dir = "out", .compare = true};
//   ASSIGN_OR_RETURN(GoldenSummary summary, RunGolden(options, std::cout));
//   if (!summary.ok()) ...
#ifndef MILLRACE_TESTS_GOLDEN_RUNNER_H_
#define MILLRACE_TESTS_GOLDEN_RUNNER_H_

#include <ostream>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tests/golden_case.h"

namespace millrace {

struct GoldenOptions {
  std::string golden_dir;  // manifest.jsonl, inputs/, expected/
  std::string out_dir;     // made when absent
  bool compare = false;    // what was written against expected/
};

struct GoldenSummary {
  int written = 0, unsupported = 0;
  int errors = 0;              // supported kinds whose results could not be computed or written
  int passed = 0, failed = 0;  // of `written`, when comparing
  bool ok() const { return errors == 0 && failed == 0; }
};

// One line per case to `report`. A Status only when the set as a whole cannot be used: no manifest, no such
// folder, no place to write.
absl::StatusOr<GoldenSummary> RunGolden(const GoldenOptions& options, std::ostream& report);

// Computes one case and writes OUT/<case>.safetensors with exactly the tensors in `compare`.
absl::Status WriteGoldenCase(const GoldenKind& compute, GoldenCase& c,
                             const std::string& golden_dir, const std::string& out_dir);

}  // namespace millrace

#endif  // MILLRACE_TESTS_GOLDEN_RUNNER_H_
