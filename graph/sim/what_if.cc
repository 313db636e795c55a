#include "graph/sim/what_if.h"

#include <functional>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "graph/base/findings.h"
#include "graph/plan/cost_model.h"

namespace millrace {
namespace {

struct Knob {
  double value = 0;
  std::function<void(double)> set;
};

// Everything that can be changed, by name. `what` outlives the knobs.
std::map<std::string, Knob> Knobs(WhatIf* what, int world_size) {
  std::map<std::string, Knob> knobs;
  DeviceSpec* device = what->machine.mutable_device();
  knobs["device.flops"] = {device->flops_per_second(),
                           [device](double v) { device->set_flops_per_second(v); }};
  knobs["device.memory_bandwidth"] = {device->memory_bytes_per_second(), [device](double v) {
                                        device->set_memory_bytes_per_second(v);
                                      }};
  knobs["device.seconds_per_node"] = {device->seconds_per_node(),
                                      [device](double v) { device->set_seconds_per_node(v); }};
  for (Link& each : *what->machine.mutable_link()) {
    Link* link = &each;
    knobs["link." + link->name()] = {link->bytes_per_second(),
                                     [link](double v) { link->set_bytes_per_second(v); }};
    knobs["link." + link->name() + ".latency"] = {
        link->latency_seconds(), [link](double v) { link->set_latency_seconds(v); }};
  }
  Host* host = what->machine.mutable_host();
  knobs["host.memory_bandwidth"] = {host->memory_bytes_per_second(),
                                    [host](double v) { host->set_memory_bytes_per_second(v); }};
  knobs["host.to_device"] = {host->host_to_device_bytes_per_second(),
                             [host](double v) { host->set_host_to_device_bytes_per_second(v); }};
  knobs["host.from_device"] = {host->device_to_host_bytes_per_second(),
                               [host](double v) { host->set_device_to_host_bytes_per_second(v); }};
  knobs["storage.read"] = {host->storage_read_bytes_per_second(),
                           [host](double v) { host->set_storage_read_bytes_per_second(v); }};
  knobs["storage.write"] = {host->storage_write_bytes_per_second(),
                            [host](double v) { host->set_storage_write_bytes_per_second(v); }};
  for (int r = 0; r < world_size; ++r) {
    knobs[absl::StrCat("rank.", r)] = {1, [what, r](double v) { what->slowdown[r] = v; }};
  }
  return knobs;
}

}  // namespace

absl::StatusOr<WhatIf> ParseWhatIf(const std::vector<std::string>& words, const Machine& machine,
                                   int world_size) {
  WhatIf what;
  what.machine = machine;
  Findings findings;
  const auto complain = [&](std::string message, std::string help) {
    findings.Add(
        {.check = "what_if", .message = std::move(message), .suggestion = std::move(help)});
  };
  const std::map<std::string, Knob> knobs = Knobs(&what, world_size);
  std::vector<std::string> names;  // for suggestions: of the ranks only the first
  for (const auto& [name, knob] : knobs) {
    if (!absl::StartsWith(name, "rank.") || name == "rank.0") names.push_back(name);
  }
  for (const std::string& word : words) {
    const std::pair<std::string, std::string> parts = absl::StrSplit(word, absl::MaxSplits('=', 1));
    const auto knob = knobs.find(parts.first);
    if (knob == knobs.end()) {
      const std::string near = Nearest(parts.first, names);
      complain(absl::StrCat("what if '", parts.first, "': this machine has no such thing"),
               near.empty() ? absl::StrCat("one of ", absl::StrJoin(names, ", "))
                            : absl::StrCat("did you mean '", near, "'?"));
      continue;
    }
    std::string number = parts.second;
    const bool factor = absl::EndsWith(number, "x");
    if (factor) number.pop_back();
    double value = 0;
    if (!absl::SimpleAtod(number, &value) || !(value > 0)) {
      complain(absl::StrCat("'", word, "' has no value above 0"),
               absl::StrCat(parts.first, "=0.5x halves it, ", parts.first, "=", knob->second.value,
                            " is what it is"));
      continue;
    }
    knob->second.set(factor ? knob->second.value * value : value);
  }
  if (!findings.ok()) return findings.ToStatus();
  return what;
}

std::vector<double> SecondsOn(const Plan& plan, const Machine& machine, const Machine& other) {
  const std::vector<double> here = NodeSeconds(plan.graph, machine);
  const std::vector<double> there = NodeSeconds(plan.graph, other);
  std::vector<double> seconds = plan.rank_plans.front().seconds;
  for (size_t n = 0; n < seconds.size(); ++n) {
    if (here[n] > 0) seconds[n] *= there[n] / here[n];
  }
  return seconds;
}

}  // namespace millrace
