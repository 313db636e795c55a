// simulate: the predicted step and where its time goes; with --what_if also on a machine that differs, once with the
// plan as it is and once planned anew.
#include <iostream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "graph/plan/planner.h"
#include "graph/sim/simulate.h"
#include "graph/sim/what_if.h"
#include "tools/cli/report.h"
#include "tools/cli/verbs.h"

namespace millrace {
namespace {

struct Answer {
  SimResult as_planned;
  double replanned_seconds = 0;
};

absl::StatusOr<Answer> Ask(const CompiledPipeline& c, const std::vector<std::string>& words) {
  absl::StatusOr<WhatIf> what = ParseWhatIf(words, c.machine, c.plan.world_size);
  if (!what.ok()) return what.status();
  SimOptions options;
  options.slowdown = what->slowdown;
  options.seconds = SecondsOn(c.plan, c.machine, what->machine);
  if (what->slowdown.empty() && options.seconds == c.plan.rank_plans.front().seconds) {
    return absl::InvalidArgumentError(
        absl::StrCat("--what_if ", absl::StrJoin(words, ","),
                     " changes nothing in this plan: no node of it depends on that"));
  }
  absl::StatusOr<SimResult> same = Simulate(c.plan, what->machine, options);
  if (!same.ok()) return same.status();
  absl::StatusOr<Plan> again =
      MakePlan(c.plan.graph, what->machine,
               {.name = c.plan.name, .world_size = c.plan.world_size, .check_budget = false});
  if (!again.ok()) return again.status();
  // Measured costs, where there are any, scaled as for the plan as it is.
  options.details = false;
  absl::StatusOr<SimResult> other = Simulate(*again, what->machine, options);
  if (!other.ok()) return other.status();
  return Answer{*std::move(same), other->step_seconds};
}

}  // namespace

int SimulateVerb(const CommandLine& line, const Folders& folders) {
  int code = 0;
  const std::optional<CompiledPipeline> c = LoadAndCompile(line, folders, &code);
  if (!c) return code;
  const absl::StatusOr<SimResult> result = Simulate(c->plan, c->machine);
  if (!result.ok()) return Fail(line, result.status(), Findings(), 2);
  Json json = SimulateJson(*result, c->plan);
  std::cerr << SimulateText(*result, c->plan);
  const absl::Status storage = ReportStorage(*c, c->machine, /*quiet=*/false, &json);
  if (!storage.ok()) return Fail(line, storage, Findings(), 2);
  if (line.Has("what_if")) {
    std::vector<std::string> words;
    for (const std::string& given : line.repeated.at("what_if")) {
      for (absl::string_view word : absl::StrSplit(given, ',')) words.emplace_back(word);
    }
    const absl::StatusOr<Answer> answer = Ask(*c, words);
    if (!answer.ok()) return Fail(line, answer.status(), Findings(), 2);
    const double now = result->step_seconds, then = answer->as_planned.step_seconds;
    std::cerr << absl::StrFormat(
        "what if %s: step %.6g s instead of %.6g s (%.3fx); planned anew for that %.6g s (%.3fx)\n",
        absl::StrJoin(words, ", "), then, now, then / now, answer->replanned_seconds,
        answer->replanned_seconds / now);
    std::cerr << SimulateText(answer->as_planned, c->plan);
    json["what_if"] = {{"change", words},
                       {"step_seconds", then},
                       {"step_seconds_replanned", answer->replanned_seconds},
                       {"exposed_comm_seconds", answer->as_planned.exposed_comm_seconds},
                       {"hidden_comm_seconds", answer->as_planned.hidden_comm_seconds}};
  }
  PrintJson(line, json.dump());
  return 0;
}

}  // namespace millrace
