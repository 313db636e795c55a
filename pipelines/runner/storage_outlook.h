// Whether a step waits for its drive, said before the first one: how long the storage lane works beside how long the
// step takes, and what would help - a drive twice as fast, or a smaller memory.offload.optimizer.ratio. All of it is
// simulated; another ratio is planned first.
//
//   ASSIGN_OR_RETURN(auto outlook, ForeseeStorage(compiled, compiled.machine));
//   if (outlook) std::cerr << ToText(*outlook) << "\n";
//
//   I/O-bound: 3.1 s of 4.0 s on storage; a drive twice as fast would give 2.6 s, memory.offload.optimizer.ratio 0.4
//   2.5 s
#ifndef MILLRACE_PIPELINES_RUNNER_STORAGE_OUTLOOK_H_
#define MILLRACE_PIPELINES_RUNNER_STORAGE_OUTLOOK_H_

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "data/storage/storage_probe.h"
#include "graph/ir/machine.pb.h"
#include "pipelines/runner/compiled.h"

namespace millrace {

struct StorageOutlook {
  double step_seconds = 0;
  double storage_seconds = 0;        // of it the busiest rank's storage lane works
  double twice_as_fast_seconds = 0;  // the step with a drive of twice the rates
  bool bound = false;                // a drive twice as fast would save more than a thirtieth
  double ratio =
      0;  // the largest that was tried and is as good as that drive, or the best; 0: none helps
  double ratio_seconds = 0;  // the step with it
};

// The plan on `machine`, whose rates may be others than those it was planned with. nullopt: nothing is on storage.
absl::StatusOr<std::optional<StorageOutlook>> ForeseeStorage(const CompiledPipeline& compiled,
                                                             const Machine& machine);

// The machine with the rates that a probe found. The ranks share the drive.
Machine WithDrive(Machine machine, const StorageRates& rates, int ranks);

std::string ToText(const StorageOutlook& outlook);

}  // namespace millrace

#endif  // MILLRACE_PIPELINES_RUNNER_STORAGE_OUTLOOK_H_
