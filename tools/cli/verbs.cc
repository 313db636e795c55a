#include "tools/cli/verbs.h"

#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <map>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "graph/plan/summary.h"
#include "graph/plan/summary_json.h"
#include "graph/sim/simulate.h"
#include "tools/advise/fitting.h"
#include "tools/cli/report.h"

namespace millrace {
namespace {

bool Exists(const std::string& path) { return access(path.c_str(), R_OK) == 0; }

// "backward: 13 nodes, 0.0142 s", the longest share first.
Json CriticalPathByOp(const Plan& plan, const SimResult& predicted) {
  std::map<std::string, std::pair<int, double>> by_op;
  for (const CriticalNode& n : predicted.critical_path) {
    auto& [count, seconds] = by_op[plan.graph.nodes()[n.node].op];
    ++count;
    seconds += n.seconds;
  }
  std::vector<std::pair<double, std::string>> lines;
  for (const auto& [op, share] : by_op) {
    lines.push_back(
        {-share.second, absl::StrFormat("%s: %d nodes, %.4g s", op, share.first, share.second)});
  }
  std::sort(lines.begin(), lines.end());
  Json json = Json::array();
  for (const auto& [order, line] : lines) json.push_back(line);
  return json;
}

// What golden files pin of a plan: no times of this machine, no hash.
std::string GoldenSummary(const Plan& plan, const PlanSummary& summary,
                          const SimResult& predicted) {
  const Json full = ToJson(summary);
  Json json;
  for (const char* field :
       {"world_size", "nodes", "peak_bytes", "live_bytes_bound", "at_peak", "collectives",
        "comm_elements_per_rank", "parameters", "flops_per_step", "batch"}) {
    if (full.contains(field)) json[field] = full[field];
  }
  json["simulated"] = {
      {"step_seconds", absl::StrFormat("%.4g", predicted.step_seconds)},
      {"over_lower_bound",
       absl::StrFormat("%.3f", predicted.step_seconds / predicted.lower_bound_seconds)},
      {"exposed_comm_seconds", absl::StrFormat("%.4g", predicted.exposed_comm_seconds)},
      {"hidden_comm_seconds", absl::StrFormat("%.4g", predicted.hidden_comm_seconds)},
      {"placed_over_live",
       absl::StrFormat("%.4f", static_cast<double>(summary.peak_bytes[0]) /
                                   std::max<int64_t>(1, summary.live_bytes_bound[0]))},
      {"critical_path", CriticalPathByOp(plan, predicted)}};
  return json.dump(1) + "\n";
}

int PlanVerb(const CommandLine& line, const Folders& folders) {
  int code = 0;
  const std::optional<CompiledPipeline> c = LoadAndCompile(line, folders, &code);
  if (!c) return code;
  if (line.Has("show_config")) std::cerr << ResolvedText(c->loaded) << "\n";
  const PlanSummary summary = Summarise(c->plan);
  if (line.Has("summary")) {
    const absl::StatusOr<SimResult> predicted = Simulate(c->plan, c->machine);
    if (!predicted.ok()) return Fail(line, predicted.status(), Findings(), 2);
    std::cout << GoldenSummary(c->plan, summary, *predicted);
    return 0;
  }
  std::cerr << ToText(summary);
  Json json = ToJson(summary);
  const absl::Status storage = ReportStorage(*c, c->machine, /*quiet=*/false, &json);
  if (!storage.ok()) return Fail(line, storage, Findings(), 2);
  if (c->has_model) json["parameters"] = c->spec.parameter_count();
  const Train& train = c->loaded.proto.train();
  json["batch"] = {{"micro", train.micro_batch()},
                   {"accumulation", train.accumulation()},
                   {"global", train.micro_batch() * train.accumulation() * c->plan.world_size}};
  if (c->recompute.has_value()) {
    json["recompute"] = {{"stages", c->recompute->stages},
                         {"candidates", c->recompute->candidates},
                         {"budget_bytes", c->recompute->budget_bytes},
                         {"plain_peak_bytes", c->recompute->plain_peak_bytes},
                         {"peak_bytes", c->recompute->peak_bytes},
                         {"recompute_seconds", c->recompute->recompute_seconds}};
  }
  if (c->memory.has_value()) {
    const auto numbers = [](const MemoryChoice::Tried& t) {
      return Json{{"what", t.what},
                  {"device_bytes", t.device_bytes},
                  {"host_bytes", t.host_bytes},
                  {"step_seconds", t.step_seconds}};
    };
    json["offload"] = {{"settings", c->memory->settings},
                       {"device_budget_bytes", c->memory->device_budget},
                       {"host_budget_bytes", c->memory->host_budget},
                       {"tried", c->memory->tried.size()},
                       {"plain", numbers(c->memory->plain)},
                       {"chosen", numbers(c->memory->chosen)}};
  }
  PrintJson(line, json.dump());
  return 0;
}

// Where a plan is too large for its budget, the suggestion becomes settings that were found to fit.
Findings WithWhatFits(const CommandLine& line, const Folders& folders, const LoadedPipeline& asked,
                      const Findings& findings) {
  Findings better;
  for (Finding f : findings.list()) {
    if (f.check == kBudgetCheck || f.check == kEvalBudgetCheck) {
      const std::string fits =
          ToText(FindFitting(asked, line.sets, MachineFolders(folders),
                             f.check == kBudgetCheck ? Budgeted::kStep : Budgeted::kEvaluation));
      if (!fits.empty()) f.suggestion = fits;
    }
    better.Add(std::move(f));
  }
  return better;
}

}  // namespace

Folders FindFolders(const std::string& program) {
  Folders folders;
  char buffer[PATH_MAX];
  const char* typed = std::getenv("BUILD_WORKING_DIRECTORY");  // set by `bazel run`
  folders.user = typed != nullptr                            ? typed
                 : getcwd(buffer, sizeof(buffer)) != nullptr ? buffer
                                                             : ".";
  // Under bazel the working directory is the runfiles tree, which has the repository's files; a copied
  // binary looks upwards from where the user is.
  std::vector<std::string> candidates = {".", program + ".runfiles/millrace", folders.user};
  for (std::string up = folders.user; up.find('/') != std::string::npos;) {
    up.resize(up.rfind('/'));
    if (!up.empty()) candidates.push_back(up);
  }
  for (const std::string& candidate : candidates) {
    if (Exists(candidate + "/pipelines/machines")) {
      char* real = realpath(candidate.c_str(), buffer);
      folders.repository = real != nullptr ? real : candidate;
      break;
    }
  }
  return folders;
}

std::string UserPath(const Folders& folders, const std::string& path) {
  return path.empty() || absl::StartsWith(path, "/") ? path : folders.user + "/" + path;
}

void PrintJson(const CommandLine& line, const std::string& json) {
  if (!line.Has("json")) return;
  std::fflush(stderr);
  std::printf("%s\n", json.c_str());
  std::fflush(stdout);
}

int Fail(const CommandLine& line, const absl::Status& status, const Findings& given, int code) {
  const Findings findings = given.ok() ? FindingsOf(status) : given;
  std::cerr << (findings.ok() ? absl::StrCat("error: ", std::string(status.message()))
                              : findings.ToText())
            << "\n";
  PrintJson(line, ErrorJson(status, findings).dump());
  return code;
}

std::vector<std::string> MachineFolders(const Folders& folders) {
  return {folders.user, folders.repository + "/pipelines/machines"};
}

absl::StatusOr<LoadedPipeline> FindPipeline(const std::string& named,
                                            const std::vector<std::string>& sets,
                                            const Folders& folders, Findings& findings) {
  std::vector<std::string> places = {UserPath(folders, named)};
  if (!folders.repository.empty()) {
    places.push_back(folders.repository + "/" + named);
    places.push_back(folders.repository + "/pipelines/" + named + ".textproto");
  }
  std::string file = places[0];
  for (const std::string& place : places) {
    struct stat info;
    if (stat(place.c_str(), &info) == 0 && S_ISREG(info.st_mode)) {
      file = place;
      break;
    }
  }
  if (!Exists(file)) {
    std::vector<std::string> known;
    std::error_code ignored;
    for (const auto& entry :
         std::filesystem::directory_iterator(folders.repository + "/pipelines", ignored)) {
      if (entry.path().extension() == ".textproto") known.push_back(entry.path().stem().string());
    }
    std::sort(known.begin(), known.end());
    const std::string near = Nearest(named, known);
    findings.Add({.check = "file",
                  .message = absl::StrCat("no pipeline '", named, "': looked for ",
                                          absl::StrJoin(places, ", ")),
                  .suggestion = near.empty() ? absl::StrCat("a textproto file, or one of ",
                                                            absl::StrJoin(known, ", "))
                                             : absl::StrCat("did you mean '", near, "'?"),
                  .file = file});
    return findings.ToStatus();
  }
  return LoadPipeline(file, sets, findings);
}

std::optional<LoadedPipeline> LoadNamed(const CommandLine& line, const Folders& folders,
                                        int* exit_code) {
  Findings findings;
  if (line.arguments.size() != 1) {
    findings.Add({.check = "command_line",
                  .message = absl::StrCat("'", line.verb, "' needs one pipeline, got ",
                                          line.arguments.size()),
                  .suggestion = "a textproto file, or the name of one in pipelines/"});
    *exit_code = Fail(line, findings.ToStatus(), findings, 2);
    return std::nullopt;
  }
  absl::StatusOr<LoadedPipeline> loaded =
      FindPipeline(line.arguments[0], line.sets, folders, findings);
  if (!loaded.ok()) {
    *exit_code = Fail(line, loaded.status(), findings, 2);
    return std::nullopt;
  }
  return *std::move(loaded);
}

std::optional<CompiledPipeline> CompileLoaded(const CommandLine& line, const Folders& folders,
                                              LoadedPipeline loaded, int* exit_code,
                                              const CompileOptions& options) {
  Findings findings;
  const LoadedPipeline asked = loaded;
  absl::StatusOr<CompiledPipeline> compiled =
      Compile(std::move(loaded), MachineFolders(folders), findings, options);
  if (!compiled.ok()) {
    findings = WithWhatFits(line, folders, asked, findings);
    *exit_code = Fail(line, compiled.status(), findings, 2);
    return std::nullopt;
  }
  if (compiled->memory.has_value()) std::cerr << ToText(*compiled->memory);
  if (compiled->recompute.has_value()) std::cerr << ToText(*compiled->recompute);
  if (compiled->staging.has_value() && line.verb == "plan") std::cerr << ToText(*compiled->staging);
  if (compiled->prefetch.has_value() && line.verb == "plan")
    std::cerr << ToText(*compiled->prefetch);
  return *std::move(compiled);
}

std::optional<CompiledPipeline> LoadAndCompile(const CommandLine& line, const Folders& folders,
                                               int* exit_code, const CompileOptions& options) {
  std::optional<LoadedPipeline> loaded = LoadNamed(line, folders, exit_code);
  if (!loaded) return std::nullopt;
  return CompileLoaded(line, folders, *std::move(loaded), exit_code, options);
}

int RunVerb(const CommandLine& line, const std::string& program) {
  const Folders folders = FindFolders(program);
  if (line.verb == "run") return RunPipelineVerb(line, folders);
  if (line.verb == "plan") return PlanVerb(line, folders);
  if (line.verb == "verify") return VerifyVerb(line, folders);
  if (line.verb == "simulate") return SimulateVerb(line, folders);
  if (line.verb == "calibrate") return CalibrateVerb(line, folders);
  if (line.verb == "evaluate") return EvaluateVerb(line, folders);
  if (line.verb == "export") return ExportVerb(line, folders);
  if (line.verb == "analyze") return AnalyzeVerb(line, folders);
  if (line.verb == "diff") return DiffVerb(line, folders);
  if (line.verb == "describe") return DescribeVerb(line, folders);
  if (line.verb == "advise") return AdviseVerb(line, folders);
  if (line.verb == "explain") return ExplainVerb(line, folders);
  if (line.verb == "data") return DataVerb(line, folders);
  std::cout << Usage();
  return 0;
}

}  // namespace millrace
