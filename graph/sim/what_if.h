// "What if": a machine that differs in one number, or a slow rank, for the simulator.
//
//   link.inter_node=0.5x            its rate; link.NAME.latency=2x its latency
//   device.flops=1.2x  device.memory_bandwidth=2x
//   host.memory_bandwidth=2x  host.to_device=0.5x  host.from_device=0.5x  storage.read=2x  storage.write=2x
//   rank.3=1.5x                     what rank 3 computes takes 1.5 times as long
//
// A value with an x multiplies, one without replaces.
//
//   ASSIGN_OR_RETURN(const WhatIf what, ParseWhatIf({"link.intra_node=0.5x"}, machine, world_size));
//   SimOptions options;
//   options.slowdown = what.slowdown;
//   options.seconds = SecondsOn(plan, machine, what.machine);       // the same plan there
#ifndef MILLRACE_GRAPH_SIM_WHAT_IF_H_
#define MILLRACE_GRAPH_SIM_WHAT_IF_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "graph/ir/machine.pb.h"
#include "graph/plan/plan.h"

namespace millrace {

struct WhatIf {
  Machine machine;
  std::map<int, double> slowdown;  // per rank, as SimOptions has it
};

// kInvalidArgument with findings for every word that cannot be read, or that the machine has not.
absl::StatusOr<WhatIf> ParseWhatIf(const std::vector<std::string>& words, const Machine& machine,
                                   int world_size);

// The plan's seconds, each changed as the analytic model says that the other machine changes it.
std::vector<double> SecondsOn(const Plan& plan, const Machine& machine, const Machine& other);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_SIM_WHAT_IF_H_
