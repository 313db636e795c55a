// analyze RUN...: where the time of one run went, or several runs side by side. RUN is a folder that `millrace run`
// wrote, or a Chrome trace of a run or of `millrace export --format chrome`.
#include <filesystem>
#include <iostream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "data/file.h"
#include "graph/trace/kineto.h"
#include "tools/analyze/analysis.h"
#include "tools/analyze/comparison.h"
#include "tools/analyze/run_folder.h"
#include "tools/cli/report.h"
#include "tools/cli/verbs.h"

namespace millrace {
namespace {

// rank0.json, rank1.json, ... as Holistic Trace Analysis wants them.
absl::Status WriteRanks(const Trace& trace, const std::string& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) return absl::UnknownError(absl::StrCat(folder, ": cannot be made: ", error.message()));
  for (int rank = 0; rank < trace.plan->world_size; ++rank) {
    std::ostringstream text;
    WriteKinetoTrace(trace, rank, text);
    const absl::Status written =
        WriteFileAtomically(absl::StrCat(folder, "/rank", rank, ".json"), text.str());
    if (!written.ok()) return written;
  }
  return absl::OkStatus();
}

}  // namespace

int AnalyzeVerb(const CommandLine& line, const Folders& folders) {
  Findings findings;
  const auto complain = [&](std::string message, std::string help) {
    findings.Add(
        {.check = "analyze", .message = std::move(message), .suggestion = std::move(help)});
  };
  std::vector<RunFiles> runs;
  if (line.arguments.empty())
    complain("'analyze' needs a run, got none",
             "the folder of a run (millrace_runs/NAME), or a trace.json");
  for (const std::string& path : line.arguments) {
    absl::StatusOr<RunFiles> run = ReadRun(UserPath(folders, path));
    if (run.ok()) {
      runs.push_back(*std::move(run));
    } else {
      complain(std::string(run.status().message()), "");
    }
  }
  if (line.Has("hta") &&
      (line.arguments.size() != 1 || (runs.size() == 1 && runs[0].trace == nullptr)))
    complain("--hta writes the traces of one run that has a trace.json", "name one run");
  if (!findings.ok()) return Fail(line, findings.ToStatus(), findings, 2);

  Json json = Json::object();
  Json& list = json["runs"] = Json::array();
  std::vector<RunRow> rows;
  for (const RunFiles& run : runs) {
    if (run.trace == nullptr) {
      rows.push_back(RowOf(run, nullptr));
      list.push_back({{"run", run.path}});
      continue;
    }
    const Analysis analysis = Analyze(*run.trace, run.predicted);
    rows.push_back(RowOf(run, &analysis));
    Json entry = {{"run", run.path}};
    entry.update(AnalysisJson(analysis));
    list.push_back(std::move(entry));
    if (runs.size() == 1) std::cerr << AnalysisText(analysis) << "\n";
  }
  AddScaling(rows);
  std::cerr << ComparisonText(rows);
  json["comparison"] = ComparisonJson(rows);

  std::vector<std::pair<std::string, std::string>> outputs;
  if (line.Has("csv")) outputs.push_back({line.Get("csv", ""), ComparisonCsv(rows)});
  if (line.Has("plot")) {
    outputs.push_back({line.Get("plot", ""),
                       BarChart(rows.size() == 1 ? rows[0].run : absl::StrCat(rows.size(), " runs"),
                                ComparisonPanels(rows))});
  }
  for (const auto& [path, text] : outputs) {
    const absl::Status written = WriteFileAtomically(UserPath(folders, path), text);
    if (!written.ok()) return Fail(line, written, Findings(), 2);
    std::cerr << "wrote " << path << "\n";
  }
  if (line.Has("hta")) {
    const absl::Status written = WriteRanks(*runs[0].trace, UserPath(folders, line.Get("hta", "")));
    if (!written.ok()) return Fail(line, written, Findings(), 2);
    std::cerr << "wrote a file per rank to " << line.Get("hta", "") << "\n";
  }
  PrintJson(line, json.dump(-1, ' ', false, Json::error_handler_t::replace));
  return 0;
}

}  // namespace millrace
