// explain PIPELINE NODE: why the node stands where it stands, what it waits for, what it costs.
// explain PIPELINE KNOB: what the setting means, and what other values would do to this pipeline: each is planned.
#include <iostream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "graph/ir/field_path.h"
#include "graph/plan/summary.h"
#include "graph/sim/simulate.h"
#include "tools/cli/report.h"
#include "tools/cli/verbs.h"
#include "tools/explain/field_docs.h"
#include "tools/explain/knob_values.h"
#include "tools/explain/node_facts.h"

namespace millrace {
namespace {

const CompileOptions kPlanOnly = {.check_budget = false, .evaluation = false};

Json NodeJson(const NodeFacts& f) {
  Json waits = Json::array(), touched = Json::array();
  for (const NodeFacts::Wait& w : f.waits) {
    waits.push_back({{"kind", std::string(Name(w.kind))},
                     {"node", w.node},
                     {"ended", w.ended},
                     {"last", w.last}});
  }
  for (const NodeFacts::Touched& t : f.touched) {
    touched.push_back({{"access", t.writes ? "write" : "read"},
                       {"value", t.value},
                       {"buffer", t.buffer},
                       {"kind", t.kind},
                       {"tier", t.tier},
                       {"offset", t.offset},
                       {"bytes", t.bytes},
                       {"persistent", t.persistent},
                       {"first", t.first},
                       {"last", t.last},
                       {"from", t.from},
                       {"to", t.to}});
  }
  Json cost = {{"overhead_seconds", f.overhead_seconds},
               {"bound", f.bound},
               {"model_seconds", f.model_seconds},
               {"planned_seconds", f.planned_seconds},
               {"contention_seconds", f.contention_seconds}};
  if (f.collective) {
    cost.update({{"group_size", f.group_size},
                 {"wire_bytes", f.wire_bytes},
                 {"latency_seconds", f.latency_seconds},
                 {"wire_seconds", f.wire_seconds}});
  } else {
    cost.update({{"flops", f.flops},
                 {"memory_bytes", f.memory_bytes},
                 {"operators", f.operators},
                 {"operator_seconds", f.operator_seconds},
                 {"compute_seconds", f.compute_seconds},
                 {"memory_seconds", f.memory_seconds}});
  }
  return {{"node", f.name},
          {"op", f.op},
          {"doc", f.doc},
          {"partner", f.partner},
          {"lane", f.lane},
          {"place", f.place},
          {"lane_size", f.lane_size},
          {"previous", f.previous},
          {"next", f.next},
          {"reason", f.reason},
          {"begin", f.begin},
          {"end", f.end},
          {"slack", f.slack},
          {"waits", waits},
          {"cost", cost},
          {"bytes_read", f.bytes_read},
          {"bytes_written", f.bytes_written},
          {"values", touched}};
}

int ExplainNode(const CommandLine& line, const CompiledPipeline& c, NodeId node) {
  const absl::StatusOr<SimResult> sim = Simulate(c.plan, c.machine);
  if (!sim.ok()) return Fail(line, sim.status(), Findings(), 2);
  const absl::StatusOr<NodeFacts> facts = FactsOf(c.plan, c.machine, *sim, node);
  if (!facts.ok()) return Fail(line, facts.status(), Findings(), 2);
  std::cerr << ToText(*facts);
  PrintJson(line, NodeJson(*facts).dump());
  return 0;
}

// The pipeline with one setting changed.
struct Variant {
  std::string value;
  bool current = false;
  std::string refused;  // why there is no plan
  std::string hash;
  int64_t peak_bytes = 0, comm_bytes = 0, samples = 0;
  double step_seconds = 0;
  bool fits = true;
};

Variant Measure(const CompiledPipeline& c, std::string value) {
  Variant v{.value = std::move(value)};
  const absl::StatusOr<SimResult> sim = Simulate(c.plan, c.machine, {.details = false});
  if (!sim.ok()) {
    v.refused = std::string(sim.status().message());
    return v;
  }
  const PlanSummary summary = Summarise(c.plan);
  v.hash = c.plan.hash;
  v.peak_bytes = summary.peak_bytes[0];
  v.fits = summary.budget_bytes[0] == 0 || summary.peak_bytes[0] <= summary.budget_bytes[0];
  for (const PlanSummary::Collective& comm : summary.collectives) {
    v.comm_bytes += comm.bytes_per_step;
  }
  v.samples = c.loaded.proto.train().global_batch();
  v.step_seconds = sim->step_seconds;
  return v;
}

std::vector<Variant> Variants(const CommandLine& line, const Folders& folders,
                              const CompiledPipeline& c, const FieldDoc& doc,
                              const std::string& current) {
  std::vector<Variant> variants;
  for (const std::string& value : NeighbourValues(doc, current)) {
    if (value == current) {
      variants.push_back(Measure(c, value));
      variants.back().current = true;
      continue;
    }
    std::vector<std::string> sets = line.sets;
    sets.push_back(absl::StrCat(doc.path, "=", value));
    Findings findings;
    absl::StatusOr<LoadedPipeline> loaded = LoadPipeline(c.loaded.file, sets, findings);
    absl::StatusOr<CompiledPipeline> other =
        loaded.ok() ? Compile(*std::move(loaded), MachineFolders(folders), findings, kPlanOnly)
                    : absl::StatusOr<CompiledPipeline>(loaded.status());
    if (other.ok()) {
      variants.push_back(Measure(*other, value));
    } else {
      const std::string message =
          findings.ok() ? std::string(other.status().message()) : findings.list()[0].message;
      variants.push_back({.value = value, .refused = message.substr(0, message.find('\n'))});
    }
  }
  return variants;
}

std::string Table(const FieldDoc& doc, const std::vector<Variant>& variants) {
  std::string text = absl::StrFormat("  %-16s %12s %15s %12s %12s\n", "value", "peak bytes",
                                     "bytes sent/rank", "step s", "samples/s");
  for (const Variant& v : variants) {
    const std::string value = absl::StrCat(v.value, v.current ? " *" : "");
    if (!v.refused.empty()) {
      absl::StrAppend(&text, absl::StrFormat("  %-16s refused: %s\n", value, v.refused));
      continue;
    }
    absl::StrAppend(
        &text,
        absl::StrFormat("  %-16s %12d %15d %12.5g %12.5g%s\n", value, v.peak_bytes, v.comm_bytes,
                        v.step_seconds,
                        v.step_seconds > 0 ? static_cast<double>(v.samples) / v.step_seconds : 0,
                        v.fits ? "" : "  beyond the machine's memory"));
  }
  bool all_equal = variants.size() > 1;
  for (const Variant& v : variants) {
    all_equal = all_equal && v.refused.empty() && v.hash == variants[0].hash;
  }
  if (all_equal) {
    absl::StrAppend(&text, "  ", doc.path,
                    " does not change the plan: the same bytes and seconds, whatever its value\n");
  }
  return text;
}

int ExplainKnob(const CommandLine& line, const Folders& folders, const CompiledPipeline& c,
                const FieldDoc& doc) {
  const std::string current = FieldText(c.loaded.proto, doc.path);
  const Origin origin = c.loaded.OriginOf(doc.path);
  const SourceLocation at = c.loaded.Locate(doc.path);
  std::cerr << doc.path << " (" << doc.type
            << (doc.fallback.empty() ? "" : absl::StrCat(", default ", doc.fallback)) << ")\n";
  if (!doc.comment.empty()) std::cerr << "  " << doc.comment << "\n";
  for (const FieldDoc::EnumValue& v : doc.values) {
    std::cerr << "    " << v.name << (v.comment.empty() ? "" : ": ") << v.comment << "\n";
  }
  std::cerr << "  here " << current << " (" << Name(origin)
            << (origin == Origin::kFile ? absl::StrCat(", ", at.file, ":", at.line) : "") << ")\n";
  const std::vector<Variant> variants = Variants(line, folders, c, doc, current);
  std::cerr << (variants.empty() ? "  a text or a list: no neighbouring values to plan\n"
                                 : Table(doc, variants));
  Json table = Json::array();
  for (const Variant& v : variants) {
    if (!v.refused.empty()) {
      table.push_back({{"value", v.value}, {"current", v.current}, {"refused", v.refused}});
      continue;
    }
    table.push_back({{"value", v.value},
                     {"current", v.current},
                     {"peak_bytes", v.peak_bytes},
                     {"fits", v.fits},
                     {"comm_bytes_per_rank", v.comm_bytes},
                     {"step_seconds", v.step_seconds},
                     {"samples", v.samples},
                     {"plan_hash", v.hash}});
  }
  Json values = Json::array();
  for (const FieldDoc::EnumValue& v : doc.values) {
    values.push_back({{"name", v.name}, {"doc", v.comment}});
  }
  PrintJson(line, Json{{"knob", doc.path},
                       {"doc", doc.comment},
                       {"type", doc.type},
                       {"default", doc.fallback},
                       {"values", values},
                       {"current", current},
                       {"origin", std::string(Name(origin))},
                       {"variants", table}}
                      .dump());
  return 0;
}

// A node by its name, or an asynchronous operation by the name that its halves share.
NodeId FindNode(const Graph& graph, const std::string& name) {
  const NodeId node = graph.FindNode(name);
  return node >= 0 ? node : graph.FindNode(absl::StrCat(name, ".done"));
}

}  // namespace

int ExplainVerb(const CommandLine& line, const Folders& folders) {
  Findings findings;
  if (line.arguments.size() != 2) {
    findings.Add(
        {.check = "command_line",
         .message = absl::StrCat("'explain' needs a pipeline and a node or a setting, got ",
                                 line.arguments.size(), " words"),
         .suggestion = "millrace explain digits_vit parallel.zero.stage"});
    return Fail(line, findings.ToStatus(), findings, 2);
  }
  CommandLine inner = line;
  inner.arguments.resize(1);
  int code = 0;
  const std::optional<CompiledPipeline> c = LoadAndCompile(inner, folders, &code, kPlanOnly);
  if (!c) return code;
  const std::string& what = line.arguments[1];
  if (const NodeId node = FindNode(c->plan.graph, what); node >= 0) {
    return ExplainNode(line, *c, node);
  }
  if (const std::string path = KnobNamed(what); !path.empty()) {
    const absl::StatusOr<FieldDoc> doc = DocOf(path);
    if (!doc.ok()) return Fail(line, doc.status(), Findings(), 2);
    return ExplainKnob(line, folders, *c, *doc);
  }
  std::vector<std::string> known = KnobPaths();
  std::vector<std::string> ambiguous;
  for (const std::string& path : known) {
    if (absl::EndsWith(path, absl::StrCat(".", what))) ambiguous.push_back(path);
  }
  for (const Node& node : c->plan.graph.nodes()) known.push_back(node.name);
  const std::string near = Nearest(what, known);
  findings.Add(
      {.check = "explain",
       .message = absl::StrCat("'", what, "' is ",
                               ambiguous.empty() ? "no node of this plan and no setting"
                                                 : "the name of several settings"),
       .suggestion = !ambiguous.empty() ? absl::StrCat("one of ", absl::StrJoin(ambiguous, ", "))
                     : near.empty() ? "`millrace export PIPELINE --format text` names the nodes, "
                                      "graph/ir/pipeline.proto the settings"
                                    : absl::StrCat("did you mean '", near, "'?")});
  return Fail(line, findings.ToStatus(), findings, 2);
}

}  // namespace millrace
