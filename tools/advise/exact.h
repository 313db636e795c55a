// The advisor's exact mode: every ZeRO stage with every choice of recompute is really lowered, planned and simulated
// for a machine, so bytes are the planner's own, activations included, and seconds are the simulator's.
//
//   ASSIGN_OR_RETURN(ExactAdvice a, AdviseExactly({.spec = spec, .options = FromPipeline(p), .machine = machine}));
//   if (a.fastest >= 0) std::cout << a.choices[a.fastest].settings ...;
//   for (const ExactChoice& c : a.choices) std::cout << c.why << "\n";      // one sentence each
//
// Where nothing fits, offload is planned as well: what memory.offload.auto would choose at the pipeline's stage and at
// stage 3 (pipelines/runner/memory_choice.h). Nothing is allocated.
#ifndef MILLRACE_TOOLS_ADVISE_EXACT_H_
#define MILLRACE_TOOLS_ADVISE_EXACT_H_

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "graph/ir/machine.pb.h"
#include "graph/ir/model_spec.h"
#include "graph/lower/options.h"
#include "graph/plan/costs.pb.h"
#include "pipelines/runner/memory_choice.h"

namespace millrace {

struct ExactInput {
  const ModelSpec& spec;
  LowerOptions
      options;      // world_size = devices; without offload; zero_stage and recompute are tried out
  Machine machine;  // device.memory_bytes and host_memory_bytes are what a plan must fit
  const CostTable* costs = nullptr;  // measured; null: the machine's rates
  int64_t micro_batch = 1;
  // The model for another micro-batch: asked when nothing fits.
  std::function<absl::StatusOr<ModelSpec>(int64_t micro_batch)> probe = nullptr;
};

struct ExactChoice {
  int zero_stage = 0;
  std::string recompute;  // "none", "auto", "every 2nd", "all"
  int recomputed = 0;     // stages of the model
  bool planned = false;   // false: `why` says why there is no plan; the numbers are then 0
  bool fits = false;
  int64_t peak_bytes = 0;       // of one rank's device memory
  int64_t states_bytes = 0;     // of that: parameters, gradients and optimizer states that stay
  int64_t transient_bytes = 0;  // of that: activations, saved blocks, buffers in flight
  double step_seconds = 0;
  double exposed_comm_seconds = 0;
  double recompute_seconds = 0;
  std::vector<std::string> settings;  // for --set
  std::string why;                    // one sentence: why it was chosen, or why not
};

// What fits once states and parameters leave the device.
struct ExactOffload {
  int zero_stage = 0;
  MemoryChoice choice;
  std::vector<std::string> settings;  // for --set
};

struct ExactAdvice {
  std::vector<ExactChoice> choices;  // by stage; then none, auto, every 2nd, all
  int first = -1;                    // the first that fits; -1: none does
  int fastest = -1;                  // the fastest that fits; of equal ones the first
  std::string help;                  // when none fits: what is missing, and what would fit
  std::optional<ExactOffload>
      offload;               // when none fits: the fastest with offload; absent: not even that does
  std::string offload_help;  // then: by how much it does not
};

absl::StatusOr<ExactAdvice> AdviseExactly(const ExactInput& input);

}  // namespace millrace

#endif  // MILLRACE_TOOLS_ADVISE_EXACT_H_
