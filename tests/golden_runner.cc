#include "tests/golden_runner.h"

#include <exception>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "data/safetensors/safetensors.h"
#include "graph/base/status.h"
#include "tests/golden_compare.h"

namespace millrace {
namespace {

namespace fs = std::filesystem;

std::string FileOf(const std::string& dir, const GoldenCase& c) {
  return absl::StrCat(dir, "/", c.name, ".safetensors");
}

// The one place where exceptions of kinds (JSON fields of the wrong type, LibTorch) end.
absl::StatusOr<GoldenOutputs> Compute(const GoldenKind& compute, const GoldenCase& c) {
  try {
    return compute(c);
  } catch (const std::exception& e) {
    return absl::InternalError(e.what());
  }
}

absl::Status CheckFolders(const GoldenOptions& o) {
  std::error_code error;
  if (!fs::is_directory(o.golden_dir, error)) {
    return absl::NotFoundError(absl::StrCat("--golden ", o.golden_dir, ": no such folder"));
  }
  if (o.compare && !fs::is_directory(o.golden_dir + "/expected", error)) {
    return absl::NotFoundError(
        absl::StrCat("--compare needs ", o.golden_dir, "/expected: no such folder"));
  }
  fs::create_directories(o.out_dir, error);
  if (error || !fs::is_directory(o.out_dir, error)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--out ", o.out_dir, ": cannot make this folder: ", error.message()));
  }
  return absl::OkStatus();
}

absl::StatusOr<GoldenComparison> Compare(const GoldenCase& c, const GoldenOptions& o) {
  ASSIGN_OR_RETURN(const SafetensorsFile got, SafetensorsFile::Open(FileOf(o.out_dir, c)));
  ASSIGN_OR_RETURN(const SafetensorsFile want,
                   SafetensorsFile::Open(FileOf(o.golden_dir + "/expected", c)));
  return CompareGolden(c, got, want);
}

}  // namespace

absl::Status WriteGoldenCase(const GoldenKind& compute, GoldenCase& c,
                             const std::string& golden_dir, const std::string& out_dir) {
  ASSIGN_OR_RETURN(c.inputs, SafetensorsFile::Open(FileOf(golden_dir + "/inputs", c)));
  ASSIGN_OR_RETURN(const GoldenOutputs outputs, Compute(compute, c));
  std::vector<NamedTensor> tensors;
  for (const std::string& name : c.compare) {
    const GoldenOutputs::Tensor* t = outputs.Find(name);
    if (t == nullptr) {
      return absl::UnimplementedError(
          absl::StrCat("kind ", c.kind, " does not compute '", name, "'"));
    }
    tensors.push_back({name, t->dtype, t->shape, t->bytes.data()});
  }
  return WriteSafetensors(FileOf(out_dir, c), tensors, {});
}

absl::StatusOr<GoldenSummary> RunGolden(const GoldenOptions& options, std::ostream& report) {
  RETURN_IF_ERROR(CheckFolders(options));
  ASSIGN_OR_RETURN(std::vector<GoldenCase> cases, ReadManifest(options.golden_dir));
  GoldenSummary sum;
  for (GoldenCase& c : cases) {
    const std::string label = absl::StrCat(c.name, " (", c.kind, ")");
    const GoldenKind* kind = FindGoldenKind(c.kind);
    if (kind == nullptr) {
      ++sum.unsupported;
      report << "not supported  " << label << std::endl;
      continue;
    }
    const absl::Status status = WriteGoldenCase(*kind, c, options.golden_dir, options.out_dir);
    c.inputs = SafetensorsFile();
    if (!status.ok()) {
      ++sum.errors;
      report << "error          " << label << ": " << status.message() << std::endl;
      continue;
    }
    ++sum.written;
    report << "written        " << label << std::endl;
    if (!options.compare) continue;
    const absl::StatusOr<GoldenComparison> comparison = Compare(c, options);
    const bool pass = comparison.ok() && comparison->pass();
    ++(pass ? sum.passed : sum.failed);
    report << (pass ? "PASS           " : "FAIL           ") << c.name << ": "
           << (comparison.ok() ? comparison->ToText() : std::string(comparison.status().message()))
           << std::endl;
  }
  report << sum.written << " written, " << sum.unsupported << " not supported, " << sum.errors
         << " errors";
  if (options.compare) report << "; " << sum.passed << " PASS, " << sum.failed << " FAIL";
  report << std::endl;
  return sum;
}

}  // namespace millrace
