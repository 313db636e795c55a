// The rule by which a file of results agrees with the reference, tensor by tensor:
//
//   max|c - r| <= atol + rtol * max|r|       floating point; c computed, r expected
//   c == r                                   integers
//
// atol and rtol are the manifest's, of gradients for names that start with grad_, else of forward results;
// tensor_rtol widens single ill-conditioned tensors. Names, types and shapes must be the expected ones, and
// anything that is not finite disagrees with everything.
#ifndef MILLRACE_TESTS_GOLDEN_COMPARE_H_
#define MILLRACE_TESTS_GOLDEN_COMPARE_H_

#include <cmath>
#include <string>

#include "absl/status/statusor.h"
#include "data/safetensors/safetensors.h"
#include "tests/golden_case.h"

namespace millrace {

struct GoldenDistance {
  std::string tensor;
  std::string problem;  // missing, wrong type or shape; then there is no distance
  double distance = 0, limit = 0;
  bool ok() const { return problem.empty() && std::isfinite(distance) && distance <= limit; }
  double share() const;  // distance / limit, infinite where that says nothing; orders tensors
};

struct GoldenComparison {
  int tensors = 0, disagreeing = 0;
  GoldenDistance worst;
  bool pass() const { return tensors > 0 && disagreeing == 0; }
  std::string ToText() const;
};

// An error only where the expected file itself does not fit the manifest.
absl::StatusOr<GoldenComparison> CompareGolden(const GoldenCase& c, const SafetensorsFile& computed,
                                               const SafetensorsFile& expected);

}  // namespace millrace

#endif  // MILLRACE_TESTS_GOLDEN_COMPARE_H_
