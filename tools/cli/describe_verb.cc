// describe model [NAME] | op [NAME] | pipeline PIPELINE: what there is, and what it is made of.
#include <iomanip>
#include <iostream>
#include <map>
#include <set>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "graph/ir/op_contract.h"
#include "models/model.h"
#include "models/probe.h"
#include "ops/kernel_registry.h"
#include "tools/cli/report.h"
#include "tools/cli/verbs.h"

namespace millrace {
namespace {

Json ValueJson(const AttrValue& v) {
  return std::visit([](const auto& x) { return Json(x); }, v);
}

std::string ShapeText(const std::vector<int64_t>& shape) {
  return "[" + absl::StrJoin(shape, ", ") + "]";
}

int Unknown(const CommandLine& line, const std::string& what, const std::string& name,
            const std::vector<std::string>& known) {
  Findings findings;
  const std::string near = Nearest(name, known);
  findings.Add({.check = "describe",
                .message = absl::StrCat("unknown ", what, " '", name, "'"),
                .suggestion = near.empty() ? absl::StrCat("known: ", absl::StrJoin(known, ", "))
                                           : absl::StrCat("did you mean '", near, "'")});
  return Fail(line, findings.ToStatus(), findings, 2);
}

// What the parameters of each kind of stage are: the count of a model, layer by layer.
void PrintLayers(const ModelSpec& spec) {
  std::map<std::string, int64_t> stages;  // by class
  for (const StageSpec& s : spec.stages) ++stages[s.class_key];
  std::set<std::string> seen;
  std::cerr << "\nparameters by layer\n";
  for (const StageSpec& s : spec.stages) {
    if (s.params.empty() || !seen.insert(s.class_key).second) continue;
    std::cerr << "  " << s.name;
    const int64_t times = stages[s.class_key];
    if (times > 1) {
      std::cerr << " and " << times - 1 << " more like it, " << s.parameter_count() << " each, "
                << times * s.parameter_count() << " together";
    }
    std::cerr << "\n";
    for (const ParamSpec& p : s.params) {
      std::cerr << "    " << std::left << std::setw(52) << p.name << std::right << std::setw(12)
                << p.numel() << "  [" << absl::StrJoin(p.shape, ", ") << "]"
                << (p.statistic ? "  a running statistic, not counted" : "") << "\n";
    }
  }
}

int DescribeModel(const CommandLine& line) {
  const ModelRegistry& registry = ModelRegistry::Global();
  if (line.arguments.size() < 2) {
    Json json = Json::array();
    for (const std::string& name : registry.Names()) {
      std::cerr << "  " << std::left << std::setw(24) << name << registry.Find(name)->doc << "\n";
      json.push_back({{"name", name}, {"doc", registry.Find(name)->doc}});
    }
    PrintJson(line, Json{{"models", json}}.dump());
    return 0;
  }
  const std::string& name = line.arguments[1];
  const ModelEntry* entry = registry.Find(name);
  if (entry == nullptr) return Unknown(line, "model", name, registry.Names());
  absl::StatusOr<ModelDef> model = BuildModel(name, {}, {});
  if (!model.ok()) return Fail(line, model.status(), Findings(), 2);
  absl::StatusOr<ModelSpec> spec = Probe(*model);
  if (!spec.ok()) return Fail(line, spec.status(), Findings(), 3);
  std::cerr << name << ": " << entry->doc << "\n\narguments\n";
  Json args = Json::array();
  for (const ModelArg& a : entry->args) {
    const Json value = ValueJson(a.default_value);
    std::cerr << "  " << std::left << std::setw(20) << a.name << std::setw(12) << value.dump()
              << a.doc << "\n";
    args.push_back({{"name", a.name}, {"default", value}, {"doc", a.doc}});
  }
  std::cerr << "\nstages (one image)             parameters     forward FLOPs    saved bytes\n";
  Json stages = Json::array();
  int64_t flops = 0;
  for (const StageSpec& s : spec->stages) {
    std::cerr << "  " << std::left << std::setw(22) << s.name << std::right << std::setw(17)
              << s.parameter_count() << std::setw(18) << s.forward_flops << std::setw(15)
              << s.saved_bytes << "\n";
    flops += s.forward_flops + s.backward_flops;
    Json params = Json::array();
    for (const ParamSpec& p : s.params) {
      params.push_back({{"name", p.name}, {"shape", p.shape}, {"statistic", p.statistic}});
    }
    stages.push_back({{"name", s.name},
                      {"parameters", s.parameter_count()},
                      {"forward_flops", s.forward_flops},
                      {"backward_flops", s.backward_flops},
                      {"saved_bytes", s.saved_bytes},
                      {"params", params}});
  }
  PrintLayers(*spec);
  std::cerr << "\nparameters " << spec->parameter_count() << ", training FLOPs per image " << flops
            << "\n";
  PrintJson(line, Json{{"name", name},
                       {"parameters", spec->parameter_count()},
                       {"flops_per_sample", flops},
                       {"args", args},
                       {"stages", stages}}
                      .dump());
  return 0;
}

Json PortsJson(const std::vector<PortSpec>& ports) {
  Json json = Json::array();
  for (const PortSpec& p : ports) {
    json.push_back(
        {{"name", p.name}, {"doc", p.doc}, {"variadic", p.variadic}, {"optional", p.optional}});
  }
  return json;
}

int DescribeOp(const CommandLine& line) {
  const OpContracts& contracts = OpContracts::Global();
  if (line.arguments.size() < 2) {
    Json json = Json::array();
    for (const std::string& name : contracts.Names()) {
      const bool runs = KernelRegistry::Global().Find(name) != nullptr;
      std::cerr << "  " << std::left << std::setw(24) << name << contracts.Find(name)->doc
                << (runs ? "" : " (no kernel)") << "\n";
      json.push_back({{"name", name}, {"doc", contracts.Find(name)->doc}, {"kernel", runs}});
    }
    PrintJson(line, Json{{"ops", json}}.dump());
    return 0;
  }
  const std::string& name = line.arguments[1];
  const OpContract* c = contracts.Find(name);
  if (c == nullptr) return Unknown(line, "op", name, contracts.Names());
  std::cerr << name << ": " << c->doc << "\n";
  const auto print = [](const char* what, const std::vector<PortSpec>& ports) {
    for (const PortSpec& p : ports) {
      std::cerr << "  " << what << std::left << std::setw(14) << p.name
                << (p.variadic   ? "(any number) "
                    : p.optional ? "(optional) "
                                 : "")
                << p.doc
                << (p.in_place_of >= 0 ? absl::StrCat("in place of input ", p.in_place_of) : "")
                << "\n";
    }
  };
  print("in   ", c->inputs);
  print("out  ", c->outputs);
  Json attrs = Json::array();
  for (const AttrSpec& a : c->attrs) {
    const Json value = ValueJson(a.default_value);
    std::cerr << "  attr " << std::left << std::setw(14) << a.name << std::setw(10)
              << (a.required ? "required" : value.dump()) << a.doc << "\n";
    attrs.push_back(
        {{"name", a.name}, {"default", value}, {"required", a.required}, {"doc", a.doc}});
  }
  PrintJson(line, Json{{"name", name},
                       {"doc", c->doc},
                       {"inputs", PortsJson(c->inputs)},
                       {"outputs", PortsJson(c->outputs)},
                       {"attrs", attrs}}
                      .dump());
  return 0;
}

int DescribePipeline(const CommandLine& line, const Folders& folders) {
  CommandLine inner = line;
  inner.arguments.erase(inner.arguments.begin());
  int code = 0;
  const std::optional<CompiledPipeline> c = LoadAndCompile(inner, folders, &code);
  if (!c) return code;
  const std::string config = ResolvedText(c->loaded);
  std::cerr << config;
  Json json = {{"name", c->loaded.proto.name()},
               {"description", c->loaded.proto.description()},
               {"config", config}};
  if (c->has_model) {
    json["model"] = c->model.name;
    json["parameters"] = c->spec.parameter_count();
    for (const TensorSpec& t : c->spec.batch) json[t.name] = ShapeText(t.shape);
  }
  PrintJson(line, json.dump());
  return 0;
}

}  // namespace

int DescribeVerb(const CommandLine& line, const Folders& folders) {
  const std::string kind = line.arguments.empty() ? "" : line.arguments[0];
  if (kind == "model") return DescribeModel(line);
  if (kind == "op") return DescribeOp(line);
  if (kind == "pipeline") return DescribePipeline(line, folders);
  return Unknown(line, "kind of thing", kind, {"model", "op", "pipeline"});
}

}  // namespace millrace
