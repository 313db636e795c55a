// advise PIPELINE: which ZeRO stage and which recompute fit the devices, which of them is fastest, and for each other
// one sentence why not; where none fits, which offload does. --compatible: by the formula of states alone.
#include <algorithm>
#include <iostream>
#include <limits>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "graph/ir/field_path.h"
#include "graph/lower/options.h"
#include "tools/advise/compatible.h"
#include "tools/advise/exact.h"
#include "tools/cli/report.h"
#include "tools/cli/verbs.h"

namespace millrace {
namespace {

struct Asked {
  int64_t devices = 0, memory = 0, host = 0, storage = 0;  // 0: not given
};

// All mistakes of the flags at once.
Asked ReadFlags(const CommandLine& line, Findings& findings) {
  Asked asked;
  const auto complain = [&](const std::string& flag, const char* expected, std::string help) {
    findings.Add(
        {.check = "command_line",
         .message = absl::StrCat("--", flag, "=", line.Get(flag, ""), " is not ", expected),
         .suggestion = std::move(help)});
  };
  if (line.Has("devices") &&
      (!absl::SimpleAtoi(line.Get("devices", ""), &asked.devices) || asked.devices < 1 ||
       asked.devices > std::numeric_limits<int>::max())) {
    complain("devices", "a number of devices, 1 or more", "--devices 8");
  }
  const std::pair<const char*, int64_t*> sizes[] = {
      {"memory", &asked.memory}, {"host_memory", &asked.host}, {"storage", &asked.storage}};
  for (const auto& [flag, bytes] : sizes) {
    if (!line.Has(flag)) continue;
    const std::string text = line.Get(flag, "");
    if ((!absl::SimpleAtoi(text, bytes) && !ParseBytes(text, bytes)) || *bytes <= 0) {
      complain(
          flag,
          "a size above 0: a number of bytes, or one with B, kB, MB, GB, TB, KiB, MiB, GiB or TiB",
          absl::StrCat("--", flag, " 80GiB"));
    }
  }
  return asked;
}

Json ChoiceJson(const ExactChoice& c) {
  return {{"stage", c.zero_stage},
          {"recompute", c.recompute},
          {"recomputed_stages", c.recomputed},
          {"planned", c.planned},
          {"fits", c.fits},
          {"peak_bytes", c.peak_bytes},
          {"states_bytes", c.states_bytes},
          {"transient_bytes", c.transient_bytes},
          {"step_seconds", c.step_seconds},
          {"exposed_comm_seconds", c.exposed_comm_seconds},
          {"recompute_seconds", c.recompute_seconds},
          {"settings", c.settings},
          {"why", c.why}};
}

Json CompatibleJson(const CompatibleAdvice& a) {
  return {{"stage", a.stage},
          {"offload", std::string(Name(a.offload))},
          {"bytes_per_parameter", a.per_param},
          {"bytes_per_device", a.bytes},
          {"limit_bytes", a.limit_bytes},
          {"below_limit", a.below},
          {"host_needed_bytes", a.host_needed_bytes}};
}

// Bytes of optimizer state per f32 parameter.
int StateBytes(const Optimizer& o) {
  if (o.kind() != Optimizer::SGD) return 8;
  return o.momentum() != 0 ? 4 : 0;
}

std::string Row(const ExactChoice& c) {
  const std::string numbers =
      c.planned ? absl::StrFormat("%9.3f %9.3f %9.3f  %10.5g %9.4g  %-4s",
                                  static_cast<double>(c.peak_bytes) / 1e9,
                                  static_cast<double>(c.states_bytes) / 1e9,
                                  static_cast<double>(c.transient_bytes) / 1e9, c.step_seconds,
                                  c.exposed_comm_seconds, c.fits ? "yes" : "no")
                : absl::StrFormat("%9s %9s %9s  %10s %9s  %-4s", "-", "-", "-", "-", "-", "-");
  return absl::StrFormat("  %5d  %-10s %s %s\n", c.zero_stage, c.recompute, numbers, c.why);
}

// The command that plans the choice; and, where the pipeline's checks refuse it (a knob of the file that means nothing
// at that stage), what they say.
std::string CommandFor(const CommandLine& line, const LoadedPipeline& loaded, const Asked& asked,
                       const std::vector<std::string>& settings, std::string* refused) {
  std::vector<std::string> sets = line.sets;
  if (asked.devices > 0) sets.push_back(absl::StrCat("parallel.data=", asked.devices));
  if (asked.memory > 0) sets.push_back(absl::StrCat("memory.device_budget_bytes=", asked.memory));
  sets.insert(sets.end(), settings.begin(), settings.end());
  Findings findings;
  if (!LoadPipeline(loaded.file, sets, findings).ok()) *refused = findings.ToText();
  std::string text = absl::StrCat("millrace plan ", line.arguments[0]);
  for (const std::string& set : sets) absl::StrAppend(&text, " --set ", set);
  return text;
}

// Whether the storage that the user has takes what NVMe offload would put there.
std::string StorageNote(const CompatibleAdvice& advice, const CompatibleInput& input,
                        const Asked& asked, Json* json) {
  if (advice.offload != OffloadKind::kNvme || asked.storage == 0) return "";
  const double needed = 16.0 * static_cast<double>(input.parameters);
  const bool enough = needed <= static_cast<double>(asked.storage);
  (*json)["storage_suffices"] = enough;
  return absl::StrFormat("storage of %.3f GB %s for the %.3f GB of parameters and states\n",
                         static_cast<double>(asked.storage) / 1e9,
                         enough ? "is enough" : "is not enough", needed / 1e9);
}

// Nothing fits on the devices alone: what does with offload, as the planner would choose it.
void PrintOffload(const CommandLine& line, const LoadedPipeline& loaded, const Asked& asked,
                  const ExactAdvice& advice, Json* json) {
  (*json)["offload_planned"] = true;
  if (!advice.offload.has_value()) {
    std::cerr << "with offload: " << advice.offload_help << "\n";
    (*json)["offload_help"] = advice.offload_help;
    return;
  }
  const ExactOffload& o = *advice.offload;
  const MemoryChoice::Tried& chosen = o.choice.chosen;
  std::string refused;
  const std::string command = CommandFor(line, loaded, asked, o.settings, &refused);
  std::cerr << "with offload it fits, planned and simulated at stage " << o.zero_stage << ":\n"
            << ToText(o.choice) << "use: " << command << "\n";
  if (!refused.empty()) std::cerr << "first mend what it contradicts:\n" << refused << "\n";
  (*json)["offload"] = {{"stage", o.zero_stage},
                        {"settings", o.settings},
                        {"what", chosen.what},
                        {"device_bytes", chosen.device_bytes},
                        {"host_bytes", chosen.host_bytes},
                        {"step_seconds", chosen.step_seconds}};
  (*json)["command"] = command;
  (*json)["command_refused"] = refused;
}

int Compatible(const CommandLine& line, const CompatibleInput& input, const Asked& asked) {
  const CompatibleAdvice advice = AdviseCompatibly(input);
  std::cerr << ToText(advice, input);
  Json json = {{"mode", "compatible"},
               {"parameters", input.parameters},
               {"devices", input.devices},
               {"memory_bytes", input.memory_bytes}};
  json.update(CompatibleJson(advice));
  std::cerr << StorageNote(advice, input, asked, &json);
  PrintJson(line, json.dump());
  return 0;
}

int Exact(const CommandLine& line, const CompiledPipeline& c, const Machine& machine,
          const CompatibleInput& formula, const Asked& asked) {
  const Pipeline& p = c.loaded.proto;
  LowerOptions options = FromPipeline(p, machine);
  options.world_size = static_cast<int>(formula.devices);
  const absl::StatusOr<ExactAdvice> advice =
      AdviseExactly({.spec = c.spec,
                     .options = options,
                     .machine = machine,
                     .costs = c.costs ? &*c.costs : nullptr,
                     .micro_batch = p.train().micro_batch(),
                     .probe = [&](int64_t m) { return ProbeModel(p, m); }});
  if (!advice.ok()) return Fail(line, advice.status(), Findings(), 2);

  std::cerr << absl::StrFormat(
      "%s: %d parameters on %d devices of %.3f GB (machine %s), micro-batch %d x accumulation %d "
      "per rank\n"
      "f32: %d B/param of states (4 parameter, 4 gradient, %d optimizer); planned and simulated\n"
      "  stage  recompute    peak GB  state GB   rest GB      step s exposed s  fits why\n",
      p.name(), formula.parameters, formula.devices,
      static_cast<double>(formula.memory_bytes) / 1e9, machine.name(), p.train().micro_batch(),
      p.train().accumulation(), 8 + StateBytes(p.optimizer()), StateBytes(p.optimizer()));
  Json json = {{"mode", "exact"},
               {"precision", "f32"},
               {"parameters", formula.parameters},
               {"devices", formula.devices},
               {"memory_bytes", formula.memory_bytes},
               {"machine", machine.name()},
               {"micro_batch", p.train().micro_batch()},
               {"accumulation", p.train().accumulation()},
               {"choices", Json::array()}};
  for (const ExactChoice& choice : advice->choices) {
    std::cerr << Row(choice);
    json["choices"].push_back(ChoiceJson(choice));
  }
  json["first"] = advice->first >= 0 ? Json(advice->first) : Json();
  json["fastest"] = advice->fastest >= 0 ? Json(advice->fastest) : Json();
  json["offload_planned"] = false;
  if (advice->fastest >= 0) {
    std::string refused;
    const std::string command =
        CommandFor(line, c.loaded, asked, advice->choices[advice->fastest].settings, &refused);
    std::cerr << "use: " << command << "\n";
    if (!refused.empty()) std::cerr << "first mend what it contradicts:\n" << refused << "\n";
    json["command"] = command;
    json["command_refused"] = refused;
    std::cerr << "offload to host or storage: not planned, because not needed here\n";
  } else {
    const CompatibleAdvice rule = AdviseCompatibly(formula);
    std::cerr << advice->help << "\n";
    PrintOffload(line, c.loaded, asked, *advice, &json);
    std::cerr << "the formula of compatible mode (states only, 16 B/param) says: stage "
              << rule.stage
              << (rule.offload == OffloadKind::kNone
                      ? std::string(" without offload")
                      : absl::StrCat(" with offload to ", Name(rule.offload)))
              << "\n";
    json["help"] = advice->help;
    json["compatible"] = CompatibleJson(rule);
    std::cerr << StorageNote(rule, formula, asked, &json);
  }
  PrintJson(line, json.dump());
  return 0;
}

}  // namespace

int AdviseVerb(const CommandLine& line, const Folders& folders) {
  Findings findings;
  const Asked asked = ReadFlags(line, findings);
  if (!findings.ok()) return Fail(line, findings.ToStatus(), findings, 2);
  int code = 0;
  std::optional<LoadedPipeline> loaded = LoadNamed(line, folders, &code);
  if (!loaded) return code;
  if (loaded->graph.has_value()) {
    findings.Add(
        loaded->At("graph", "advise",
                   "a step written by hand has its sharding in its nodes; advise needs a `model`",
                   "`millrace plan` and `millrace simulate` show what it takes"));
    return Fail(line, findings.ToStatus(), findings, 2);
  }
  loaded->proto.mutable_memory()->clear_recompute();  // what is tried out
  loaded->proto.mutable_memory()->clear_offload();
  absl::StatusOr<CompiledPipeline> c =
      Compile(*std::move(loaded), MachineFolders(folders), findings,
              {.check_budget = false, .evaluation = false});
  if (!c.ok()) return Fail(line, c.status(), findings, 2);

  Machine machine = c->machine;
  if (asked.memory > 0) machine.mutable_device()->set_memory_bytes(asked.memory);
  if (machine.device().memory_bytes() == 0) {
    findings.Add({.check = "command_line",
                  .message = absl::StrCat("nothing says how much memory a device has: machine '",
                                          machine.name(), "' states no device.memory_bytes"),
                  .suggestion = "--memory 80GiB"});
    return Fail(line, findings.ToStatus(), findings, 2);
  }
  CompatibleInput formula;
  formula.parameters = c->spec.parameter_count();
  formula.devices = asked.devices > 0 ? asked.devices : c->loaded.proto.parallel().data();
  formula.memory_bytes = machine.device().memory_bytes();
  const int on_host =
      machine.ranks_per_node() > 0
          ? std::min<int>(machine.ranks_per_node(), static_cast<int>(formula.devices))
          : static_cast<int>(formula.devices);
  formula.host_bytes = asked.host > 0 ? asked.host : machine.host_memory_bytes() * on_host;
  if (asked.host > 0) machine.set_host_memory_bytes(std::max<int64_t>(1, asked.host / on_host));
  return line.Has("compatible") ? Compatible(line, formula, asked)
                                : Exact(line, *c, machine, formula, asked);
}

}  // namespace millrace
