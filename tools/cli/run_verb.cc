// run: plan, verify, then train. A plan that the verifier does not sign is not run.
#include <iostream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "data/file.h"
#include "graph/plan/summary.h"
#include "graph/sim/simulate.h"
#include "pipelines/runner/trainer.h"
#include "tools/cli/report.h"
#include "tools/cli/verbs.h"
#include "tools/report/report.h"

namespace millrace {
int RunPipelineVerb(const CommandLine& line, const Folders& folders) {
  int code = 0;
  const std::optional<CompiledPipeline> c =
      LoadAndCompile(line, folders, &code, {.on_devices = !line.Has("dry_run")});
  if (!c) return code;
  if (line.Has("show_config")) std::cerr << ResolvedText(c->loaded) << "\n";
  const std::optional<Certificate> certificate = Certify(line, folders, *c, &code);
  if (!certificate) return code;
  const absl::StatusOr<SimResult> predicted = Simulate(c->plan, c->machine);
  if (!predicted.ok()) return Fail(line, predicted.status(), Findings(), 2);
  const bool quiet = line.Has("quiet");
  if (!quiet) std::cerr << ToText(Summarise(c->plan)) << SimulateText(*predicted, c->plan);
  if (line.Has("dry_run")) {
    Json json = SimulateJson(*predicted, c->plan);
    const absl::Status storage = ReportStorage(*c, c->machine, quiet, &json);
    if (!storage.ok()) return Fail(line, storage, Findings(), 2);
    json["ok"] = true;
    PrintJson(line, json.dump());
    return 0;
  }
  const Pipeline& p = c->loaded.proto;
  RunOptions options;
  options.data_folders = {c->loaded.file.substr(0, c->loaded.file.rfind('/')), folders.repository,
                          folders.user};
  const std::string folder =
      p.checkpoint().has_folder() ? p.checkpoint().folder() : "millrace_runs/" + p.name();
  options.run_folder = UserPath(folders, line.Get("folder", folder));
  if (const std::string& storage = p.memory().offload().storage().folder(); !storage.empty()) {
    options.storage_folder = UserPath(folders, storage);
  }
  options.resume = line.Has("resume");
  options.resume_from = UserPath(folders, line.Get("resume", ""));
  options.quiet = quiet;
  options.keep_losses = line.Has("losses");
  Trace predicted_trace = ToTrace(*predicted, c->plan);
  predicted_trace.peak_flops_per_second = c->machine.device().flops_per_second();
  options.predicted = &predicted_trace;
  absl::StatusOr<std::unique_ptr<Trainer>> trainer = Trainer::Create(*c, options);
  if (!trainer.ok())
    return Fail(line, trainer.status(), Findings(), ExitCode(trainer.status(), /*running=*/false));
  const absl::Status kept = WriteFileAtomically(options.run_folder + "/certificate.textproto",
                                                CertificateText(*certificate));
  if (!kept.ok()) return Fail(line, kept, Findings(), 3);
  const StorageRates* drive = (*trainer)->probed();
  Json outlook = Json::object();
  const absl::Status foreseen = ReportStorage(
      *c, drive != nullptr ? WithDrive(c->machine, *drive, c->plan.world_size) : c->machine, quiet,
      &outlook);
  if (!foreseen.ok()) return Fail(line, foreseen, Findings(), 3);
  const absl::StatusOr<RunResult> result = (*trainer)->Run();
  if (!result.ok()) {
    code = Fail(line, result.status(), Findings(), ExitCode(result.status(), /*running=*/true));
    // A kernel that never returns would keep the destructor waiting.
    if (code == 4) std::_Exit(code);
    return code;
  }
  if (!quiet) std::cerr << RunText(*result);
  const absl::StatusOr<std::string> metrics = ReadFile(result->metrics_path);
  if (!metrics.ok()) return Fail(line, metrics.status(), Findings(), 3);
  const MeasuredRun measured = {&result->trace,
                                *metrics,
                                result->step_seconds_median,
                                result->peak_bytes_measured,
                                result->weights_sha256,
                                result->mfu,
                                result->issue_seconds_per_node,
                                result->issue_seconds_per_step,
                                result->captured_runs};
  const std::string report = options.run_folder + "/report.html";
  const absl::Status reported = WriteReport(
      report, {&c->plan, &*predicted, &c->loaded, &certificate->plan(), &measured, line.typed});
  if (!reported.ok()) return Fail(line, reported, Findings(), 3);
  if (!quiet) std::cerr << "report      " << report << "\n";
  // What `analyze` reads beside the trace and the metrics.
  Json summary = RunJson(*result, options.keep_losses);
  summary["outputs"]["report"] = report;
  summary["config"] = ConfigJson(*c);
  summary.update(outlook);
  const absl::Status written =
      WriteFileAtomically(options.run_folder + "/run.json", summary.dump(1) + "\n");
  if (!written.ok()) return Fail(line, written, Findings(), 3);
  PrintJson(line, summary.dump());
  return result->interrupted ? 130 : 0;
}

}  // namespace millrace
