// diff A B: what differs between two plans. Each side is a pipeline (--set for both, --set_a and --set_b for one), a
// plan written by `export --format json`, or a summary of pipelines/golden.
#include <sys/stat.h>

#include <iostream>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "data/file.h"
#include "graph/ir/pipeline_text.h"
#include "graph/sim/simulate.h"
#include "tools/analyze/plan_diff.h"
#include "tools/cli/report.h"
#include "tools/cli/verbs.h"

namespace millrace {
namespace {

// The text of a file that is JSON; "" for a pipeline or its name.
std::string JsonFile(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) return "";
  const absl::StatusOr<std::string> text = ReadFile(path);
  if (!text.ok()) return "";
  const absl::string_view begin = absl::StripLeadingAsciiWhitespace(*text);
  return !begin.empty() && begin[0] == '{' ? *text : "";
}

// One side; on error has printed it and set `code`.
std::optional<PlanFacts> Side(const CommandLine& line, const Folders& folders, size_t index,
                              int* code) {
  const std::string& named = line.arguments[index];
  const auto own = line.repeated.find(index == 0 ? "set_a" : "set_b");
  const std::string text = JsonFile(UserPath(folders, named));
  if (!text.empty()) {
    absl::StatusOr<PlanFacts> facts = ReadFacts(text, named);
    Findings findings;
    if (!facts.ok()) {
      findings.Add({.check = "diff", .message = std::string(facts.status().message())});
    } else if (own != line.repeated.end()) {
      findings.Add({.check = "changes_nothing",
                    .message = absl::StrCat("--", own->first, " changes nothing: ", named,
                                            " is a plan already"),
                    .suggestion = "name the pipeline that it was made of"});
    }
    if (findings.ok()) return *std::move(facts);
    *code = Fail(line, findings.ToStatus(), findings, 2);
    return std::nullopt;
  }
  CommandLine one = line;
  one.arguments = {named};
  if (own != line.repeated.end())
    one.sets.insert(one.sets.end(), own->second.begin(), own->second.end());
  const std::optional<CompiledPipeline> c = LoadAndCompile(one, folders, code);
  if (!c) return std::nullopt;
  const absl::StatusOr<SimResult> simulated = Simulate(c->plan, c->machine);
  if (!simulated.ok()) {
    *code = Fail(line, simulated.status(), Findings(), 2);
    return std::nullopt;
  }
  PlanFacts facts = FactsOf(c->plan, *simulated, ResolvedText(c->loaded));
  if (own != line.repeated.end())
    facts.name = absl::StrCat(named, " with ", absl::StrJoin(own->second, ", "));
  return facts;
}

}  // namespace

int DiffVerb(const CommandLine& line, const Folders& folders) {
  int code = 0;
  if (line.arguments.size() != 2) {
    Findings findings;
    findings.Add(
        {.check = "command_line",
         .message = absl::StrCat("'diff' needs two plans, got ", line.arguments.size()),
         .suggestion =
             "pipelines, exported plans (export --format json) or summaries (plan --summary)"});
    return Fail(line, findings.ToStatus(), findings, 2);
  }
  const std::optional<PlanFacts> a = Side(line, folders, 0, &code);
  if (!a) return code;
  const std::optional<PlanFacts> b = Side(line, folders, 1, &code);
  if (!b) return code;
  const PlanDiff diff = Diff(*a, *b);
  std::cerr << ToText(diff);
  PrintJson(line, ToJson(diff).dump());
  return line.Has("exit_code") && !diff.same() ? 1 : 0;
}

}  // namespace millrace
