// export: the step as text, JSON, a Graphviz picture, a Chrome trace of its predicted course or an HTML report of all
// that is known before a run. `--what graph` takes the lowered graph, `--what plan` (the default) the plan.
#include <iostream>
#include <map>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "data/file.h"
#include "graph/ir/text.h"
#include "graph/plan/text.h"
#include "graph/sim/simulate.h"
#include "graph/trace/chrome.h"
#include "graph/trace/dot.h"
#include "graph/verify/certificate.h"
#include "tools/analyze/plan_facts.h"
#include "tools/cli/report.h"
#include "tools/cli/verbs.h"
#include "tools/report/report.h"

namespace millrace {
namespace {

// The lowered graph. Of a step written by hand with the initial values, which only its text knows: so it can be run
// as printed.
std::string GraphText(const CompiledPipeline& c) {
  if (c.has_model) return ToText(c.plan.graph, &c.spec);
  GraphDef def = ToProto(c.plan.graph);
  std::map<std::string, const ValueDef*> written;
  for (const ValueDef& value : c.loaded.proto.graph().value()) written[value.name()] = &value;
  for (ValueDef& value : *def.mutable_value()) {
    const auto it = written.find(value.name());
    if (it == written.end() || it->second->kind() != "parameter") continue;
    value.set_kind("parameter");
    if (it->second->has_init()) value.set_init(it->second->init());
  }
  return ToText(def);
}

// The plan, and what its graph adds for readers of the plan alone: `millrace diff` compares it with others.
absl::StatusOr<std::string> PlanWithFacts(const CompiledPipeline& c) {
  absl::StatusOr<std::string> text = PlanJson(c.plan);
  if (!text.ok()) return text;
  const absl::StatusOr<SimResult> predicted = Simulate(c.plan, c.machine);
  if (!predicted.ok()) return predicted.status();
  Json json = Json::parse(*text);
  json["summary"] = FactsJson(c.plan, *predicted);
  return json.dump();
}

absl::StatusOr<std::string> Exported(const CommandLine& line, const CompiledPipeline& c) {
  const std::string format = line.Get("format", "text");
  const bool plan = line.Get("what", "plan") == "plan";
  if (line.Has("what") && format != "text" && format != "dot") {
    return absl::InvalidArgumentError(
        absl::StrCat("--what changes nothing with --format ", format, ", which shows the plan"));
  }
  if (format == "text") return plan ? PlanText(c.plan) : GraphText(c);
  if (format == "json") return PlanWithFacts(c);
  if (format == "dot") return plan ? PlanDot(c.plan) : GraphDot(c.plan.graph);
  if (format == "chrome" || format == "html") {
    absl::StatusOr<SimResult> predicted = Simulate(c.plan, c.machine);
    if (!predicted.ok()) return predicted.status();
    if (format == "html") {
      const absl::StatusOr<Certificate> certificate = MakeCertificate(c.plan, Verify(c.plan));
      if (!certificate.ok()) return certificate.status();
      return HtmlReport(
          {&c.plan, &*predicted, &c.loaded, &certificate->plan(), nullptr, line.typed});
    }
    Trace trace = ToTrace(*predicted, c.plan);
    trace.peak_flops_per_second = c.machine.device().flops_per_second();
    return ChromeTraceJson({&trace});
  }
  return absl::InvalidArgumentError("--format must be text, json, dot, chrome or html");
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
  out = UserPath(folders, out);
  const absl::Status status = WriteFileAtomically(out, *text);
  if (!status.ok()) return Fail(line, status, Findings(), 2);
  std::cerr << "wrote " << out << "\n";
  PrintJson(line, Json{{"out", out}, {"bytes", text->size()}}.dump());
  return 0;
}

}  // namespace millrace
