// calibrate: runs some steps without overlap, so that every node is measured alone, and - where the pipeline overlaps -
// some with it, for how much lanes disturb each other and how much ranks wait for each other. Writes the table of costs that a pipeline's `costs` names.
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <iostream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "data/file.h"
#include "graph/base/status.h"
#include "graph/plan/cost_table.h"
#include "graph/sim/measure_costs.h"
#include "pipelines/runner/trainer.h"
#include "tools/cli/report.h"
#include "tools/cli/verbs.h"

namespace millrace {
namespace {

constexpr int kWarmUpSteps = 3;  // they touch fresh memory

// The pipeline's step run `steps` times, nothing else: no evaluation, no checkpoint.
absl::StatusOr<RunResult> Measure(const CompiledPipeline& c, const Folders& folders,
                                  const std::string& folder) {
  RunOptions options;
  options.data_folders = {c.loaded.file.substr(0, c.loaded.file.rfind('/')), folders.repository,
                          folders.user};
  options.run_folder = folder;
  options.quiet = true;
  options.evaluate = false;
  absl::StatusOr<std::unique_ptr<Trainer>> trainer = Trainer::Create(c, options);
  if (!trainer.ok()) return trainer.status();
  return (*trainer)->Run();
}

void SetForMeasuring(int steps, bool overlap, Pipeline* p) {
  p->clear_costs();
  p->mutable_train()->set_steps(steps + kWarmUpSteps);
  p->mutable_train()->set_epochs(0);
  p->mutable_train()->set_eval_every(0);
  p->mutable_runtime()->set_overlap(overlap);
  p->mutable_runtime()->set_trace_steps(steps);
  p->mutable_checkpoint()->set_save(false);
  p->mutable_checkpoint()->set_every(0);
}

std::string Changes(const CostTable& table) {
  std::string text = absl::StrFormat("%d sizes of nodes; beside its nodes a step costs %.3g ms",
                                     table.node_size(), table.seconds_per_step() * 1e3);
  for (const Contention& c : table.contention()) {
    absl::StrAppendFormat(&text, "; %s beside %s takes %.2f times as long", c.lane(), c.beside(),
                          c.factor());
  }
  return text;
}

}  // namespace

int CalibrateVerb(const CommandLine& line, const Folders& folders) {
  int code = 0;
  int64_t steps = 20;
  if (line.Has("steps") && (!absl::SimpleAtoi(line.Get("steps", ""), &steps) || steps < 3)) {
    return Fail(line,
                absl::InvalidArgumentError(absl::StrCat("--steps=", line.Get("steps", ""),
                                                        " is not a number of at least 3")),
                Findings(), 2);
  }
  const std::optional<LoadedPipeline> loaded = LoadNamed(line, folders, &code);
  if (!loaded) return code;
  const Pipeline& p = loaded->proto;
  if (p.runtime().executor() == Runtime::REFERENCE) {
    return Fail(line,
                absl::InvalidArgumentError("calibrate measures the executor FLOW_GRAPH; "
                                           "runtime.executor is REFERENCE"),
                Findings(), 2);
  }
  std::error_code no_folder;
  std::string scratch =
      (std::filesystem::temp_directory_path(no_folder) / "millrace_calibrate_XXXXXX").string();
  if (no_folder || mkdtemp(scratch.data()) == nullptr) {
    return Fail(line, absl::InternalError("no temporary folder can be made: see TMPDIR"),
                Findings(), 3);
  }
  // Runs with or without overlap; leaves what went wrong in `code`.
  std::optional<CompiledPipeline> c;
  const auto run = [&](bool overlap) -> std::optional<RunResult> {
    LoadedPipeline changed = *loaded;
    SetForMeasuring(static_cast<int>(steps), overlap, &changed.proto);
    c = CompileLoaded(line, folders, std::move(changed), &code);
    if (!c) return std::nullopt;
    absl::StatusOr<RunResult> result = Measure(*c, folders, scratch);
    if (!result.ok()) {
      code = Fail(line, result.status(), Findings(), ExitCode(result.status(), /*running=*/true));
      return std::nullopt;
    }
    if (result->interrupted) {
      code = 130;
      return std::nullopt;
    }
    return *std::move(result);
  };
  const auto end = [&](int exit_code) {
    std::error_code ignored;
    std::filesystem::remove_all(scratch, ignored);
    return exit_code;
  };

  // A step written by hand has the overlap that it has.
  const bool alone = !loaded->graph.has_value();
  std::optional<RunResult> measured = run(!alone);
  if (!measured) return end(code);
  CostTable table = MeasureCosts(measured->trace, c->machine);
  table.set_seconds_per_step(RestOfStep(measured->trace));
  if (alone && p.runtime().overlap() && c->plan.world_size > 1) {
    measured = run(true);
    if (!measured) return end(code);
    AddContention(measured->trace, &table);
  }
  const std::string out =
      UserPath(folders, line.Get("out", absl::StrCat(p.name(), ".costs.textproto")));
  // Writes the table and says what it makes of the pipeline's own step.
  const auto predict = [&]() -> absl::StatusOr<double> {
    RETURN_IF_ERROR(WriteFileAtomically(
        out, absl::StrCat("# Written by `millrace calibrate ", p.name(),
                          "`; name it in the pipeline: costs: \"",
                          std::filesystem::path(out).filename().string(), "\"\n", ToText(table))));
    LoadedPipeline changed = *loaded;
    changed.proto.set_costs(out);
    Findings findings;
    ASSIGN_OR_RETURN(const CompiledPipeline now,
                     Compile(std::move(changed), MachineFolders(folders), findings));
    ASSIGN_OR_RETURN(const SimResult result, Simulate(now.plan, now.machine));
    return result.step_seconds;
  };
  absl::StatusOr<double> predicted = predict();
  if (!predicted.ok()) return end(Fail(line, predicted.status(), Findings(), 2));
  // What still differs are ranks that wait for each other because no two run at the same pace.
  const double by_nodes = *predicted;
  table.set_seconds_per_step(
      std::max(0.0, table.seconds_per_step() + measured->step_seconds_median - by_nodes));
  predicted = predict();
  if (!predicted.ok()) return end(Fail(line, predicted.status(), Findings(), 2));
  std::cerr << Changes(table) << "\nmeasured step " << measured->step_seconds_median * 1e3
            << " ms; by its nodes alone " << by_nodes * 1e3 << " ms, with the table "
            << *predicted * 1e3 << " ms\nwrote " << out << "\n";
  PrintJson(line, Json{{"out", out},
                       {"nodes", table.node_size()},
                       {"seconds_per_step", table.seconds_per_step()},
                       {"step_seconds_median", measured->step_seconds_median},
                       {"step_seconds_by_nodes", by_nodes},
                       {"simulated_step_seconds", *predicted}}
                      .dump());
  return end(0);
}

}  // namespace millrace
