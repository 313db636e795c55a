#include "tools/analyze/run_folder.h"

#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "data/file.h"
#include "graph/base/status.h"

namespace millrace {
namespace {

bool IsFile(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::is_regular_file(path, ignored);
}

absl::Status AddTraces(const std::string& file, RunFiles& run) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(file));
  ASSIGN_OR_RETURN(std::vector<TraceFile> read, ReadChromeTrace(text, file));
  for (TraceFile& t : read) run.files.push_back(std::move(t));
  return absl::OkStatus();
}

absl::Status AddResult(const std::string& file, RunFiles& run) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(file));
  run.result = nlohmann::ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (run.result.is_object()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      file, ": is no JSON object, expected what `millrace run` wrote (was it cut off?)"));
}

absl::Status AddLosses(const std::string& file, RunFiles& run) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(file));
  for (absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    const auto json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    // The last line of a run that still goes on may be half written.
    if (json.is_object() && json.contains("loss") && json["loss"].is_number())
      run.losses.push_back(json["loss"].get<double>());
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<RunFiles> ReadRun(const std::string& path) {
  RunFiles run;
  run.path = path;
  std::filesystem::path trimmed = std::filesystem::path(path).lexically_normal();
  if (!trimmed.has_filename()) trimmed = trimmed.parent_path();
  run.name = trimmed.filename().string();
  run.result = nlohmann::ordered_json::object();
  if (IsFile(path)) {
    RETURN_IF_ERROR(AddTraces(path, run));
  } else {
    bool found = false;
    for (const char* file : {"/trace.json", "/predicted_trace.json"}) {
      if (!IsFile(path + file)) continue;
      RETURN_IF_ERROR(AddTraces(path + file, run));
      found = true;
    }
    if (IsFile(path + "/run.json")) {
      RETURN_IF_ERROR(AddResult(path + "/run.json", run));
      found = true;
    }
    if (!found) {
      return absl::NotFoundError(absl::StrCat(
          path,
          ": is neither a trace nor a folder of a run, expected trace.json or run.json in it (",
          "`millrace run PIPELINE --folder DIR` writes them)"));
    }
    if (IsFile(path + "/metrics.jsonl")) RETURN_IF_ERROR(AddLosses(path + "/metrics.jsonl", run));
  }
  for (const TraceFile& t : run.files) {
    const Trace*& place = t.trace.predicted ? run.predicted : run.trace;
    if (place == nullptr) place = &t.trace;
  }
  if (run.trace == nullptr) std::swap(run.trace, run.predicted);
  return run;
}

}  // namespace millrace
