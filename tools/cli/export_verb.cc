// export: the step as text, JSON, a Graphviz picture or a Chrome trace of its predicted course. `--what graph` takes
// the lowered graph, `--what plan` (the default) the plan.
#include <iostream>

#include "absl/strings/match.h"
#include "data/file.h"
#include "graph/ir/text.h"
#include "graph/plan/text.h"
#include "graph/sim/simulate.h"
#include "graph/trace/chrome.h"
#include "graph/trace/dot.h"
#include "tools/cli/report.h"
#include "tools/cli/verbs.h"

namespace millrace {
namespace {

absl::StatusOr<std::string> Exported(const CommandLine& line, const CompiledPipeline& c) {
  const std::string format = line.Get("format", "text");
  const bool plan = line.Get("what", "plan") == "plan";
  const ModelSpec* spec = c.has_model ? &c.spec : nullptr;
  if (format == "text") return plan ? PlanText(c.plan) : ToText(c.plan.graph, spec);
  if (format == "json") return PlanJson(c.plan);
  if (format == "dot") return plan ? PlanDot(c.plan) : GraphDot(c.plan.graph);
  if (format == "chrome") {
    absl::StatusOr<SimResult> predicted = Simulate(c.plan, c.machine);
    if (!predicted.ok()) return predicted.status();
    const Trace trace = ToTrace(*predicted, c.plan);
    return ChromeTraceJson({&trace});
  }
  return absl::InvalidArgumentError("--format must be text, json, dot or chrome");
}

}  // namespace

int ExportVerb(const CommandLine& line, const Folders& folders) {
  int code = 0;
  const std::optional<CompiledPipeline> c = LoadAndCompile(line, folders, &code);
  if (!c) return code;
  const absl::StatusOr<std::string> text = Exported(line, *c);
  if (!text.ok()) return Fail(line, text.status(), Findings(), 2);
  std::string out = line.Get("out", "");
  if (out.empty()) {
    std::cout << *text;
    if (!absl::EndsWith(*text, "\n")) std::cout << "\n";
    return 0;
  }
  if (!absl::StartsWith(out, "/")) out = folders.user + "/" + out;
  const absl::Status status = WriteFileAtomically(out, *text);
  if (!status.ok()) return Fail(line, status, Findings(), 2);
  std::cerr << "wrote " << out << "\n";
  PrintJson(line, Json{{"out", out}, {"bytes", text->size()}}.dump());
  return 0;
}

}  // namespace millrace
